"""Sum up many documents: what each is about, what they share, and the sentences that say most.

    gather ─┬─► study ─┐
            ├─► study ─┼─► combine
            └─► study ─┘

Map and reduce: one `study` for each document, all side by side, each on whatever worker is free. The work is counting
and sorting, done by the processor and not by a model, so the nodes ask for a queue of their own: a worker that waits
for the network a thousand times at once is the wrong place for it.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, NotRequired, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Overwrite, Send

from runyard.graphs.inputs import BadInput, text
from runyard.graphs.library import PROSE, open_library
from runyard.graphs.words import STOP_WORDS, sentences, stem, without_code, words

MAX_DOCUMENTS = 500
MAX_CHARACTERS = 200_000
MAX_SENTENCES = 200
LONGEST_SENTENCE = 400
KEPT_TERMS = 100
KEYWORDS = 6
SUMMARY = 2
DAMPING, STEPS = 0.85, 20

ON_CPU = {"runyard": {"queue": "cpu"}}


class Text(TypedDict):
    title: str
    text: str


class Input(TypedDict, total=False):
    documents: list[Text]
    docs: str  # instead of documents: a folder, inside of what the server may read


class Study(TypedDict):
    """What is known of one document."""

    title: str
    words: int
    sentences: int
    terms: dict[str, int]  # the most frequent, by their stem
    spelled: dict[str, str]  # a stem as the document spells it
    summary: list[str]


class Entry(TypedDict):
    title: str
    words: int
    keywords: list[str]
    summary: list[str]


class Digest(TypedDict):
    digest: str
    entries: list[Entry]
    themes: list[str]  # what the documents have in common
    totals: dict[str, int]


class State(Digest):
    documents: NotRequired[list[Text]]
    docs: NotRequired[str]
    titles: list[str]
    studies: Annotated[list[Study], operator.add]


class Task(TypedDict):
    """What one `study` is sent: a document's text, or where to read it."""

    title: str
    text: str | None
    docs: str | None


def gather(state: State) -> dict[str, Any]:
    """Check what there is to read, and forget an earlier digest on this thread."""
    given: object = state.get("documents")
    if not isinstance(given, list | None):
        raise BadInput("documents", f"must be a list, not {given!r}")
    if given is None:
        titles = open_library(state.get("docs")).names(PROSE)
    else:
        titles = [_title(number, document) for number, document in enumerate(given)]
    if not 1 <= len(titles) <= MAX_DOCUMENTS:
        raise BadInput("documents", f"must be 1 to {MAX_DOCUMENTS}, not {len(titles)}")
    return {"titles": titles, "studies": Overwrite([])}


def _title(number: int, document: object) -> str:
    if not isinstance(document, dict):
        raise BadInput(f"documents[{number}]", f'must be {{"title": …, "text": …}}, not {document!r}')
    try:
        text(document, "text", limit=MAX_CHARACTERS)
        return text(document, "title", limit=200)
    except BadInput as problem:
        raise BadInput(f"documents[{number}].{problem.field}", problem.problem) from None


def fan_out(state: State) -> list[Send]:
    """One task for each document."""
    given, docs = state.get("documents"), state.get("docs")
    texts = [document["text"] for document in given] if given else [None] * len(state["titles"])
    pairs = zip(state["titles"], texts, strict=True)
    return [Send("study", Task(title=title, text=content, docs=docs)) for title, content in pairs]


def study(state: Task) -> dict[str, list[Study]]:
    """Count one document's words and find its central sentences."""
    content = state["text"]
    if content is None:
        content = open_library(state["docs"]).read(state["title"]).text
    every, said = words(content), sentences(without_code(content))
    meaning = [word for word in every if word not in STOP_WORDS and len(word) > 2 and not word.isdigit()]
    counted = Counter(stem(word) for word in meaning)
    terms = dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:KEPT_TERMS])
    found = Study(
        title=state["title"],
        words=len(every),
        sentences=len(said),
        terms=terms,
        spelled={term: _spelling(term, meaning) for term in terms},
        summary=central(said[:MAX_SENTENCES], SUMMARY),
    )
    return {"studies": [found]}


def _spelling(term: str, meaning: Sequence[str]) -> str:
    """The most frequent of the words that have this stem."""
    spelled = Counter(word for word in meaning if stem(word) == term)
    return min(spelled, key=lambda word: (-spelled[word], word))


def central(said: Sequence[str], count: int) -> list[str]:
    """The sentences most like all the others, in their order: TextRank, that is PageRank over shared words."""
    said = [sentence for sentence in said if _is_prose(sentence)] or said
    bags = [{stem(word) for word in words(sentence)} - STOP_WORDS for sentence in said]
    links = [[_likeness(one, other) if one is not other else 0.0 for other in bags] for one in bags]
    totals = [sum(row) or 1.0 for row in links]
    ranks = [1.0] * len(bags)
    for _ in range(STEPS):
        shares = [rank / total for rank, total in zip(ranks, totals, strict=True)]
        ranks = [1 - DAMPING + DAMPING * sum(map(operator.mul, row, shares)) for row in links]
    best = sorted(range(len(said)), key=lambda n: (-ranks[n], n))[:count]
    return [said[n] for n in sorted(best)]


def _is_prose(sentence: str) -> bool:
    return len(sentence) <= LONGEST_SENTENCE and " | " not in sentence


def _likeness(one: set[str], other: set[str]) -> float:
    """Shared words, so that long sentences have no advantage."""
    return len(one & other) / (math.log(len(one) + 1) + math.log(len(other) + 1)) if one and other else 0.0


def combine(state: State) -> Digest:
    """Weigh each document's words against all documents' (TF-IDF), and write the digest."""
    studies = state["studies"]
    having = Counter(term for found in studies for term in found["terms"])
    spelled = {term: word for found in studies for term, word in found["spelled"].items()}
    entries = [_entry(found, having, len(studies)) for found in studies]
    shared = [term for term, documents in having.items() if documents > 1]
    themes = sorted(shared, key=lambda term: (-having[term], -_frequency(term, studies), term))[:KEYWORDS]
    totals = {
        "documents": len(studies),
        "words": sum(found["words"] for found in studies),
        "sentences": sum(found["sentences"] for found in studies),
    }
    named = [spelled[term] for term in themes]
    return Digest(digest=_written(entries, named, totals), entries=entries, themes=named, totals=totals)


def _entry(found: Study, having: Counter[str], documents: int) -> Entry:
    weight = {term: count * math.log(1 + documents / having[term]) for term, count in found["terms"].items()}
    best = sorted(weight, key=lambda term: (-weight[term], term))[:KEYWORDS]
    keywords = [found["spelled"][term] for term in best]
    return Entry(title=found["title"], words=found["words"], keywords=keywords, summary=found["summary"])


def _frequency(term: str, studies: Sequence[Study]) -> int:
    return sum(found["terms"].get(term, 0) for found in studies)


def _written(entries: Sequence[Entry], themes: Sequence[str], totals: dict[str, int]) -> str:
    parts = [f"## {e['title']}\n{', '.join(e['keywords'])}\n\n{' '.join(e['summary'])}" for e in entries]
    head = f"# {totals['documents']} documents, {totals['words']} words"
    return "\n\n".join([head, f"In common: {', '.join(themes) or 'nothing'}", *parts])


builder = StateGraph(State, input_schema=Input, output_schema=Digest)
builder.add_node("gather", gather)
builder.add_node("study", study, input_schema=Task, metadata=ON_CPU)
builder.add_node("combine", combine, metadata=ON_CPU)
builder.add_edge(START, "gather")
builder.add_conditional_edges("gather", fan_out, ["study"])
builder.add_edge("study", "combine")
builder.add_edge("combine", END)

graph = builder.compile(name="digest")
