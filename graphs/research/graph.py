"""Answer a question from a folder of text files, and say where the answer comes from.

    check ─► plan ─┬─► search sections    ─┐
              ▲    ├─► search paragraphs  ─┼─► analyse ─► answer
              │    └─► search definitions ─┘      │
              └──────── words are missing ────────┘

Each round searches three sources at once and looks more loosely than the one before. It needs no model: without one the
answer is made of quotations, and says so. What is dead is gone without, as the policies at the end say: one source of
the three is enough, and a model that fails is replaced by rules. The answer then says what it had to do without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Overwrite, RetryPolicy, Send

from runyard.graphs.inputs import number, text
from runyard.graphs.library import open_library
from runyard.graphs.models import chat_model, model_name
from runyard.graphs.research.answering import nothing, place, quoted, written
from runyard.graphs.research.outage import MODEL, dead_on_purpose, degraded, lost_its_model, without
from runyard.graphs.research.planning import model_queries, plain_queries
from runyard.graphs.research.ranking import Index, Query, rank
from runyard.graphs.research.sources import SOURCES, Passage, passages
from runyard.graphs.words import key_words

MAX_QUESTION = 2_000
MAX_ROUNDS = 3
#: More files and folders that cannot be read are no degradation, but the wrong folder.
MAX_BROKEN = 20
FOUND_PER_QUERY = 8
EVIDENCE = 6

# Models fail for a moment, or hang; the rest of this graph either works or has bad input.
MODEL_RETRY = RetryPolicy(max_attempts=3)
MODEL_TIMEOUT_S = 120
#: Seconds that the slower sources get once one has answered.
REST_S = 30


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
    broken: list[str]  # files and folders that could not be read when the run began
    queries: list[Query]  # this round's
    asked: list[Query]  # all rounds'
    found: Annotated[list[Passage], together]
    evidence: list[Passage]  # the best of what was found
    missing: list[str]  # the words of the question that nothing has


class Search(TypedDict):
    """What one parallel search is sent."""

    source: str  # or a file or folder of `broken`, tried once more by itself
    queries: list[Query]
    docs: str | None
    broken: list[str]


def say(progress: str) -> None:
    """Tell whoever streams `custom` events how far it is."""
    get_stream_writer()({"progress": progress})


def round_limit(config: RunnableConfig) -> int:
    """How many rounds this run may take."""
    return number(config.get("configurable", {}), "max_rounds", default=MAX_ROUNDS, most=10)


def living_model(config: RunnableConfig) -> BaseChatModel | None:
    """The model, unless there is none or it has failed in this run. Raises when it is dead on purpose."""
    if lost_its_model(config):
        return None
    if MODEL in dead_on_purpose(config, SOURCES):
        raise ConnectionError("the model is dead")
    return chat_model(config)


def check(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Refuse bad input, and forget what an earlier question on this thread has left."""
    question = text(state, "question", limit=MAX_QUESTION)
    round_limit(config)
    dead_on_purpose(config, SOURCES)
    library = open_library(state.get("docs"))
    broken = library.broken()
    if len(broken) > MAX_BROKEN:
        raise OSError(f"{len(broken)} files and folders of {library} cannot be read: {', '.join(broken[:5])}, …")
    files = len(replace(library, left_out=frozenset(broken)).names())
    say(f"reading {files} files")
    fresh: dict[str, Any] = {"rounds": 0, "asked": [], "evidence": [], "found": Overwrite([])}
    return {"question": question, "files": files, "broken": broken, "missing": key_words(question), **fresh}


async def plan(state: State, config: RunnableConfig) -> dict[str, Any]:
    """Choose this round's queries: the model's, or by rule. What was asked before is not asked again."""
    round_, question, missing = state["rounds"] + 1, state["question"], state["missing"]
    if model := living_model(config):
        queries = await model_queries(model, question, missing, state["evidence"])
    else:
        queries = plain_queries(question, missing, round_)
    fresh = [query for query in queries if query not in state["asked"]]
    say(f"round {round_}: " + ("; ".join(" ".join(query["words"]) for query in fresh) or "nothing more to look for"))
    return {"rounds": round_, "queries": fresh, "asked": state["asked"] + fresh}


def fan_out(state: State) -> list[Send] | Literal["answer"]:
    """One search for each source, side by side; straight to the answer when nothing is left to ask.

    What cannot be read would take all sources down with it. It is left to a search of its own in the first round, which
    fails for as long as that is so; the others go on without.
    """
    if not state["queries"]:
        return "answer"
    queries, docs, broken = state["queries"], state.get("docs"), state.get("broken", [])
    searched = [*SOURCES, *(broken if state["rounds"] == 1 else [])]
    return [Send("search", Search(source=source, queries=queries, docs=docs, broken=broken)) for source in searched]


def search(state: Search, config: RunnableConfig) -> dict[str, Any]:
    """Look through one source for each of the queries."""
    if state["source"] in dead_on_purpose(config, SOURCES):
        raise ConnectionError(f"source {state['source']!r} is dead")
    everything = looked_through(state)
    with Index(everything) as index:
        found = [passage for query in state["queries"] for passage in index.search(query, FOUND_PER_QUERY)]
    say(f"{state['source']}: {len(found)} of {len(everything)} passages")
    return {"found": found}


def looked_through(state: Search) -> list[Passage]:
    """What one source sees of what can be read; or all of them of what could not be."""
    source, broken = state["source"], frozenset(state.get("broken", []))
    library = replace(open_library(state["docs"]), left_out=broken - {source})
    if source in SOURCES:
        return passages(library, source)
    alone = replace(library, only=source)
    return [passage for each in SOURCES for passage in passages(alone, each)]


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
    evidence, model = state["evidence"], living_model(config)
    if not evidence or model is None:
        return by_rule(state, degraded(config))
    reply = await written(model, state["question"], evidence) + without(degraded(config))
    sources = [place(p) for p in evidence]
    return Answer(answer=reply, sources=sources, rounds=state["rounds"], model=model_name(config))


def by_rule(state: State, missing: Sequence[Mapping[str, Any]]) -> Answer:
    """The answer that needs no model."""
    evidence, words = state["evidence"], state["missing"]
    reply = quoted(state["question"], evidence) if evidence else nothing(words, state["files"])
    reply += f"\n\n{nothing(words, state['files'])}" if evidence and words else ""
    sources = [place(p) for p in evidence]
    return Answer(answer=reply + without(missing), sources=sources, rounds=state["rounds"], model=None)


def plan_by_rule(state: State) -> dict[str, Any]:
    """What takes the place of a plan whose model has failed."""
    round_ = state["rounds"] + 1
    queries = plain_queries(state["question"], state["missing"], round_)
    fresh = [query for query in queries if query not in state["asked"]]
    return {"rounds": round_, "queries": fresh, "asked": state["asked"] + fresh}


def answer_by_rule(state: State, error: Exception, config: RunnableConfig) -> Answer:
    """What takes the place of an answer whose model has failed."""
    failed = {"node": "answer", "error": type(error).__name__, "message": str(error)}
    return by_rule(state, [*degraded(config), failed])


builder = StateGraph(State, input_schema=Question, output_schema=Answer)
builder.add_node("check", check)
builder.add_node(
    "plan", plan, retry_policy=MODEL_RETRY, timeout=MODEL_TIMEOUT_S, metadata={"runyard": {"fallback": plan_by_rule}}
)
builder.add_node("search", search, input_schema=Search, metadata={"runyard": {"quorum": 1, "rest_s": REST_S}})
builder.add_node("analyse", analyse)
builder.add_node(
    "answer",
    answer,
    retry_policy=MODEL_RETRY,
    timeout=MODEL_TIMEOUT_S,
    metadata={"runyard": {"fallback": answer_by_rule}},
)
builder.add_edge(START, "check")
builder.add_edge("check", "plan")
builder.add_conditional_edges("plan", fan_out, ["search", "answer"])
builder.add_edge("search", "analyse")
builder.add_conditional_edges("analyse", enough, ["plan", "answer"])
builder.add_edge("answer", END)

graph = builder.compile(name="research")
