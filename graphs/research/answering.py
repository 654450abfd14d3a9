"""From the evidence to an answer: written by the model, or quoted when there is none."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.language_models import BaseChatModel

from runyard.graphs.research.sources import Passage
from runyard.graphs.words import key_words, sentences, stem, without_code, words

MAX_QUOTE = 400

PROMPT = """Answer the question from the passages below and from nothing else.
After each statement give the number of its passage, like [1]. If the passages do not answer it, say so.

{passages}

Question: {question}"""

NO_MODEL = "No language model was used: these are the passages that answer best, quoted as they stand."


async def written(model: BaseChatModel, question: str, evidence: Sequence[Passage]) -> str:
    """The model's answer, with the places it was given."""
    numbered = [f"[{n}] {place(p)} ({p['title']})\n{p['text']}" for n, p in enumerate(evidence, start=1)]
    reply = await model.ainvoke(PROMPT.format(question=question, passages="\n\n".join(numbered)))
    listed = "\n".join(f"[{n}] {place(p)}" for n, p in enumerate(evidence, start=1))
    return f"{reply.text.strip()}\n\nSources\n{listed}"


def quoted(question: str, evidence: Sequence[Passage]) -> str:
    """The sentences that have most of the question's words, each with its place."""
    parts = [
        f"[{number}] {passage['title']} ({place(passage)})\n{_quote(question, passage)}"
        for number, passage in enumerate(evidence, start=1)
    ]
    return "\n\n".join([NO_MODEL, *parts])


def nothing(missing: Sequence[str], files: int) -> str:
    """What to say instead of inventing something."""
    return f"Nothing about {', '.join(missing) or 'this'} was found in {files} files."


def place(passage: Passage) -> str:
    """Where a passage is, as editors and terminals understand it."""
    return f"{passage['file']}:{passage['line']}"


def _quote(question: str, passage: Passage) -> str:
    if passage["source"] == "definitions":
        return passage["text"][:MAX_QUOTE]  # code and tables are read as they stand
    asked = {stem(word) for word in key_words(question)}
    every = sentences(without_code(passage["text"])) or [passage["text"]]
    best = max(range(len(every)), key=lambda n: (_hits(every[n], asked), -n))
    return " ".join(every[best : best + 2])[:MAX_QUOTE]


def _hits(sentence: str, asked: set[str]) -> int:
    return len(asked & {stem(word) for word in words(sentence)})
