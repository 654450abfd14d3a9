"""Draft a message, let a person decide, send it.

    draft ─► review ─┬─ approve, edit ─► send
      ▲              ├─ reject, drafts are left ─┐
      │              └─ reject, none is left ─► give_up
      └──────────────────────────────────────────┘

`review` stops the run with an interrupt, for a minute or for a month, and goes where the answer says. `send` writes the
message to an outbox folder as an .eml file, which any mail program opens: nothing leaves the machine by itself.

The answer to the interrupt is {"decision": "approve"}, {"decision": "edit", "body": …, "subject": …} or
{"decision": "reject", "feedback": …}; the words "approve" and "reject" alone will do.
"""

from __future__ import annotations

import os
import uuid
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from runyard.graphs.inputs import BadInput, line, number, text
from runyard.graphs.models import chat_model

ANSWERS = ("approve", "edit", "reject")
MAX_BODY = 20_000
MAX_DRAFTS = 3
OUTBOX = ".runyard/outbox"

PROMPT = """Write the body of an e-mail, plain text, without a subject line.
It is to {to}, about: {subject}
What it must say: {request}
What was wrong with earlier drafts: {feedback}"""

CANNOT_REDRAFT = "no language model is configured to work your feedback in: answer with an edit"


class Request(TypedDict):
    to: str
    subject: str
    request: str  # what the message must say
    max_drafts: NotRequired[int]


class Outcome(TypedDict):
    status: Literal["sent", "rejected"]
    body: str
    drafts: int
    file: str | None  # the message, when it was sent


class State(Request, Outcome):
    message_id: str
    feedback: list[str]
    problem: str | None  # why the last answer was not understood


class Decision(TypedDict):
    decision: Literal["approve", "edit", "reject"]
    subject: NotRequired[str]
    body: NotRequired[str]
    feedback: NotRequired[str]


def check(state: State) -> dict[str, Any]:
    """Refuse bad input before a person is asked to look at it."""
    to = line(state, "to", limit=320)
    if "@" not in parseaddr(to)[1]:
        raise BadInput("to", f"must be an e-mail address, not {to!r}")
    number(state, "max_drafts", default=MAX_DRAFTS, most=10)
    checked = {
        "to": to,
        "subject": line(state, "subject", limit=200),
        "request": text(state, "request", limit=MAX_BODY),
    }
    # Made here and kept in the state, so that a repeated `send` knows its message again.
    return {**checked, "message_id": uuid.uuid4().hex, "drafts": 0, "feedback": [], "problem": None, "file": None}


async def draft(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Write the message: the model's words, or the request as it stands."""
    model = chat_model(config)
    body = await _written(model, state) if model else state["request"]
    cannot_redraft = None if model or not state["feedback"] else CANNOT_REDRAFT
    return {"body": body, "drafts": state["drafts"] + 1, "problem": cannot_redraft}


async def _written(model: BaseChatModel, state: State) -> str:
    feedback = "; ".join(state["feedback"]) or "nothing"
    filled = PROMPT.format(to=state["to"], subject=state["subject"], request=state["request"], feedback=feedback)
    return (await model.ainvoke(filled)).text.strip()


def review(state: State) -> Command[Literal["draft", "review", "send", "give_up"]]:
    """Ask a person, and go where the answer says. An answer nobody understands is asked for again, with the reason."""
    left = state.get("max_drafts", MAX_DRAFTS) - state["drafts"]
    shown = {name: state[name] for name in ("to", "subject", "body", "drafts", "feedback", "problem")}
    answer = interrupt({"question": "Send this message?", **shown, "drafts_left": left, "answers": list(ANSWERS)})
    try:
        decision = understand(answer)
    except BadInput as problem:
        return Command(goto="review", update={"problem": str(problem)})
    if decision["decision"] != "reject":
        changed = {name: decision.get(name, state[name]) for name in ("subject", "body")}
        return Command(goto="send", update={**changed, "problem": None})
    feedback = [*state["feedback"], decision.get("feedback", "")]
    return Command(goto="draft" if left > 0 else "give_up", update={"feedback": feedback, "problem": None})


def understand(answer: object) -> Decision:
    """A person's answer, checked. Raises BadInput, which says what would have been understood."""
    given = {"decision": answer} if isinstance(answer, str) else answer
    if not isinstance(given, dict) or given.get("decision") not in ANSWERS:
        raise BadInput("decision", f"must be one of {', '.join(ANSWERS)}, not {answer!r}")
    decision = Decision(decision=given["decision"])
    if decision["decision"] == "edit":
        decision["body"] = text(given, "body", limit=MAX_BODY)
        if "subject" in given:
            decision["subject"] = line(given, "subject", limit=200)
    if decision["decision"] == "reject" and given.get("feedback"):
        decision["feedback"] = text(given, "feedback", limit=MAX_BODY)
    return decision


def send(state: State) -> dict[str, Any]:
    """Put the message into the outbox. Done twice, after a crash, it is still one message: the file has its id."""
    outbox = Path(os.environ.get("RUNYARD_OUTBOX", OUTBOX))
    outbox.mkdir(parents=True, exist_ok=True)
    # A client can write to a thread's state: only an id of ours becomes a file's name.
    file = outbox / f"{uuid.UUID(state['message_id']).hex}.eml"
    if not file.exists():
        unfinished = file.with_suffix(".part")
        unfinished.write_bytes(bytes(_message(state)))
        unfinished.replace(file)  # whoever watches the outbox never sees half a message
    return {"status": "sent", "file": str(file)}


def _message(state: State) -> EmailMessage:
    message = EmailMessage()
    message["From"] = os.environ.get("RUNYARD_MAIL_FROM", "runyard@localhost")
    message["To"], message["Subject"] = state["to"], state["subject"]
    message["Message-ID"] = f"<{state['message_id']}@runyard>"
    message.set_content(state["body"])
    return message


def give_up(state: State) -> dict[str, Any]:  # noqa: ARG001 - LangGraph passes the state
    """No draft was good enough; nothing was sent."""
    return {"status": "rejected"}


builder = StateGraph(State, input_schema=Request, output_schema=Outcome)
builder.add_node("check", check)
builder.add_node("draft", draft, retry_policy=RetryPolicy(max_attempts=3), timeout=120)
builder.add_node("review", review)
builder.add_node("send", send)
builder.add_node("give_up", give_up)
builder.add_edge(START, "check")
builder.add_edge("check", "draft")
builder.add_edge("draft", "review")
builder.add_edge("send", END)
builder.add_edge("give_up", END)

graph = builder.compile(name="approval")
