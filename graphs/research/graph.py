"""Answer a question from a folder of text files, and say where the answer comes from.

    check ─► plan ─┬─► search sections    ─┐
              ▲    ├─► search paragraphs  ─┼─► analyse ─► answer
              │    └─► search definitions ─┘      │
              └──────── words are missing ────────┘

Each round searches three sources at once and looks more loosely than the one before. It needs no model: without one the
answer is made of quotations, and says so.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Overwrite, RetryPolicy, Send

from runyard.graphs.inputs import number, text
from runyard.graphs.library import open_library
from runyard.graphs.models import chat_model, model_name
from runyard.graphs.research.answering import nothing, place, quoted, written
from runyard.graphs.research.planning import model_queries, plain_queries
from runyard.graphs.research.ranking import Index, Query, rank
from runyard.graphs.research.sources import SOURCES, Passage, passages
from runyard.graphs.words import key_words

MAX_QUESTION = 2_000
MAX_ROUNDS = 3
FOUND_PER_QUERY = 8
EVIDENCE = 6

# Models fail for a moment, or hang; the rest of this graph either works or has bad input.
MODEL_RETRY = RetryPolicy(max_attempts=3)
MODEL_TIMEOUT_S = 120


def together(known: list[Passage], new: list[Passage]) -> list[Passage]:
    """Reducer: what the parallel searches found. A passage found again keeps its better score."""
    best: dict[tuple[str, str, int], Passage] = {}
    for passage in [*known, *new]:
        key = passage["source"], passage["file"], passage["line"]
        if key not in best or passage["score"] > best[key]["score"]:
            best[key] = passage
    return list(best.values())


class Question(TypedDict):
    question: str
    docs: NotRequired[str]  # a folder, inside of what the server may read


class Answer(TypedDict):
    answer: str
    sources: list[str]  # "file:line", best first
    rounds: int
    model: str | None  # None: the answer is quoted


class State(Question, Answer):
    files: int
    queries: list[Query]  # this round's
    asked: list[Query]  # all rounds'
    found: Annotated[list[Passage], together]
    evidence: list[Passage]  # the best of what was found
    missing: list[str]  # the words of the question that nothing has


class Search(TypedDict):
    """What one parallel search is sent."""

    source: str
    queries: list[Query]
    docs: str | None


def say(progress: str) -> None:
    """Tell whoever streams `custom` events how far it is."""
    get_stream_writer()({"progress": progress})


def round_limit(config: RunnableConfig) -> int:
    """How many rounds this run may take."""
    return number(config.get("configurable", {}), "max_rounds", default=MAX_ROUNDS, most=10)


def check(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Refuse bad input, and forget what an earlier question on this thread has left."""
    question = text(state, "question", limit=MAX_QUESTION)
    round_limit(config)
    files = len(open_library(state.get("docs")).names())
    say(f"reading {files} files")
    fresh = {"rounds": 0, "asked": [], "evidence": [], "found": Overwrite([])}
    return {"question": question, "files": files, "missing": key_words(question), **fresh}


async def plan(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Choose this round's queries: the model's, or by rule. What was asked before is not asked again."""
    round_, question, missing = state["rounds"] + 1, state["question"], state["missing"]
    if model := chat_model(config):
        queries = await model_queries(model, question, missing, state["evidence"])
    else:
        queries = plain_queries(question, missing, round_)
    fresh = [query for query in queries if query not in state["asked"]]
    say(f"round {round_}: " + ("; ".join(" ".join(query["words"]) for query in fresh) or "nothing more to look for"))
    return {"rounds": round_, "queries": fresh, "asked": state["asked"] + fresh}


def fan_out(state: State) -> list[Send] | Literal["answer"]:
    """One search for each source, side by side; straight to the answer when nothing is left to ask."""
    if not state["queries"]:
        return "answer"
    queries, docs = state["queries"], state.get("docs")
    return [Send("search", Search(source=source, queries=queries, docs=docs)) for source in SOURCES]


def search(state: Search) -> dict[str, Any]:
    """Look through one source for each of the queries."""
    everything = passages(open_library(state["docs"]), state["source"])
    with Index(everything) as index:
        found = [passage for query in state["queries"] for passage in index.search(query, FOUND_PER_QUERY)]
    say(f"{state['source']}: {len(found)} of {len(everything)} passages")
    return {"found": found}


def analyse(state: State) -> dict[str, Any]:
    """Rank everything found so far together, drop what overlaps, and see what is still missing."""
    evidence, missing = rank(state["found"], state["question"], EVIDENCE)
    say(f"{len(evidence)} passages; missing: {', '.join(missing) or 'nothing'}")
    return {"evidence": evidence, "missing": missing}


def enough(state: State, config: RunnableConfig) -> Literal["plan", "answer"]:
    """Another round, unless every word is covered or the limit is reached."""
    return "plan" if state["missing"] and state["rounds"] < round_limit(config) else "answer"


async def answer(state: State, config: RunnableConfig) -> Answer:
    """Write the answer from the evidence, or quote it; with no evidence, say that instead."""
    evidence, missing = state["evidence"], state["missing"]
    model, used = chat_model(config), None
    if not evidence:
        reply = nothing(missing, state["files"])
    elif model:
        reply, used = await written(model, state["question"], evidence), model_name(config)
    else:
        reply = quoted(state["question"], evidence)
        reply += f"\n\n{nothing(missing, state['files'])}" if missing else ""
    return Answer(answer=reply, sources=[place(p) for p in evidence], rounds=state["rounds"], model=used)


builder = StateGraph(State, input_schema=Question, output_schema=Answer)
builder.add_node("check", check)
builder.add_node("plan", plan, retry_policy=MODEL_RETRY, timeout=MODEL_TIMEOUT_S)
builder.add_node("search", search, input_schema=Search)
builder.add_node("analyse", analyse)
builder.add_node("answer", answer, retry_policy=MODEL_RETRY, timeout=MODEL_TIMEOUT_S)
builder.add_edge(START, "check")
builder.add_edge("check", "plan")
builder.add_conditional_edges("plan", fan_out, ["search", "answer"])
builder.add_edge("search", "analyse")
builder.add_conditional_edges("analyse", enough, ["plan", "answer"])
builder.add_edge("answer", END)

graph = builder.compile(name="research")
