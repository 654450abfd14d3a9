"""The approval graph: a person's answer decides, and a message is sent once."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from runyard.graphs.approval import builder, send
from runyard.graphs.inputs import BadInput

REQUEST = {"to": "Ann <ann@example.org>", "subject": "Delivery", "request": "The delivery is two days late."}
CONFIG: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNYARD_OUTBOX", str(tmp_path / "outbox"))
    monkeypatch.delenv("RUNYARD_MODEL", raising=False)
    return tmp_path / "outbox"


class Desk:
    """One run of the graph and the person who answers it."""

    def __init__(self) -> None:
        self.graph = builder.compile(checkpointer=InMemorySaver())

    async def start(self, **changes: Any) -> dict[str, Any]:
        return self._shown(await self.graph.ainvoke({**REQUEST, **changes}, CONFIG))

    async def answer(self, answer: Any) -> dict[str, Any]:
        return self._shown(await self.graph.ainvoke(Command(resume=answer), CONFIG))

    @staticmethod
    def _shown(result: dict[str, Any]) -> dict[str, Any]:
        """What the interrupt shows, or the outcome when there is none."""
        return result["__interrupt__"][0].value if "__interrupt__" in result else result


def sent(outbox: Path) -> list[email.message.EmailMessage]:
    files = sorted(outbox.iterdir()) if outbox.exists() else []
    return [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]  # type: ignore[misc]


def written(outbox: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in outbox.iterdir()}


async def test_nothing_is_sent_before_a_person_has_seen_it(outbox: Path) -> None:
    shown = await Desk().start()
    assert shown["body"] == REQUEST["request"]
    assert (shown["to"], shown["subject"], shown["drafts"], shown["drafts_left"]) == (
        REQUEST["to"],
        REQUEST["subject"],
        1,
        2,
    )
    assert sent(outbox) == []


@pytest.mark.parametrize("answer", ["approve", {"decision": "approve"}])
async def test_an_approved_message_is_in_the_outbox(outbox: Path, answer: Any) -> None:
    desk = Desk()
    await desk.start()
    result = await desk.answer(answer)
    [message] = sent(outbox)
    assert result["status"] == "sent"
    assert Path(result["file"]).parent == outbox
    assert message["To"] == REQUEST["to"]
    assert message["Subject"] == "Delivery"
    assert message.get_content().strip() == REQUEST["request"]


async def test_an_edit_is_sent_as_it_was_edited(outbox: Path) -> None:
    desk = Desk()
    await desk.start()
    result = await desk.answer({"decision": "edit", "subject": "Late", "body": "Sorry, it is late."})
    [message] = sent(outbox)
    assert (message["Subject"], message.get_content().strip()) == ("Late", "Sorry, it is late.")
    assert result["body"] == "Sorry, it is late."


async def test_a_rejected_draft_comes_back_with_the_feedback_until_none_is_left(outbox: Path) -> None:
    desk = Desk()
    await desk.start(max_drafts=2)
    second = await desk.answer({"decision": "reject", "feedback": "too cold"})
    assert (second["drafts"], second["drafts_left"], second["feedback"]) == (2, 0, ["too cold"])
    assert "answer with an edit" in second["problem"]
    result = await desk.answer("reject")
    assert (result["status"], result["drafts"], result["file"]) == ("rejected", 2, None)
    assert sent(outbox) == []


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ("yes", "decision"),
        (7, "decision"),
        ({"decision": "edit"}, "body"),
        ({"decision": "edit", "body": "b", "subject": "a\nBcc: everybody@example.org"}, "subject"),
        ({"decision": "reject", "feedback": 7}, "feedback"),
    ],
)
async def test_an_answer_nobody_understands_is_asked_for_again_with_the_reason(
    outbox: Path, answer: Any, field: str
) -> None:
    desk = Desk()
    await desk.start()
    again = await desk.answer(answer)
    assert again["problem"].startswith(f"{field}: ")
    assert again["drafts"] == 1
    assert (await desk.answer("approve"))["status"] == "sent"


async def test_sending_again_after_a_crash_leaves_one_message(outbox: Path) -> None:
    desk = Desk()
    await desk.start()
    await desk.answer("approve")
    state = (await desk.graph.aget_state(CONFIG)).values
    before = written(outbox)
    assert send(state)["file"] == next(iter(before))
    assert written(outbox) == before


def test_an_id_that_is_a_path_writes_nothing(outbox: Path) -> None:
    state: Any = {**REQUEST, "body": "b", "message_id": "../escaped"}
    with pytest.raises(ValueError, match="UUID"):
        send(state)
    assert not (outbox.parent / "escaped.eml").exists()


async def test_the_same_request_made_again_on_the_thread_is_another_message(outbox: Path) -> None:
    desk = Desk()
    for _ in range(2):
        await desk.start()
        await desk.answer("approve")
    assert len(sent(outbox)) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", "nobody"),
        ("to", "a@example.org\r\nBcc: b@example.org"),
        ("subject", ""),
        ("subject", "a\nb"),
        ("request", None),
        ("max_drafts", 0),
        ("max_drafts", True),
    ],
)
async def test_bad_input_is_refused_by_its_name_before_anybody_is_asked(outbox: Path, field: str, value: Any) -> None:
    with pytest.raises(BadInput, match=f"^{field}: "):
        await Desk().start(**{field: value})
