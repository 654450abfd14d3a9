"""Ranking passages: SQLite's full-text search with BM25, in memory. Nothing to install and nothing to keep."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, Self, TypedDict

from runyard.graphs.research.sources import Passage
from runyard.graphs.words import key_words, words

Match = Literal["all", "any", "beginnings"]

SHORTEST_BEGINNING = 6


class Query(TypedDict):
    """Words to look for, and how many of them a passage must have."""

    words: list[str]
    match: Match


class Index:
    """A throw-away index over some passages; leave it with `with`."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._db = _connect()
        rows = ((number, p["title"], p["text"]) for number, p in enumerate(passages))
        self._db.executemany("INSERT INTO passages (rowid, title, text) VALUES (?, ?, ?)", rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def search(self, query: Query, limit: int) -> list[Passage]:
        """The best passages first; equally good ones in the order they were given, so that a search can be repeated."""
        expression = _expression(query)
        if not expression:
            return []
        found = self._db.execute(
            "SELECT rowid, -bm25(passages) AS score FROM passages WHERE passages MATCH ?"
            " ORDER BY score DESC, rowid LIMIT ?",
            (expression, limit),
        )
        return [_scored(self._passages[number], score) for number, score in found]

    def having(self, phrase: str, match: Match = "all") -> set[int]:
        """The numbers of the passages that have a word or a phrase."""
        expression = f'"{phrase}"' if match == "all" else _expression(Query(words=[phrase], match=match))
        found = self._db.execute("SELECT rowid FROM passages WHERE passages MATCH ?", (expression,))
        return {number for (number,) in found}


def rank(found: Sequence[Passage], question: str, limit: int) -> tuple[list[Passage], list[str]]:
    """The passages to answer from, best first and none inside another, and the question's words that none has.

    A passage with more of the question in it, words and pairs of words, goes before one that has a rare word often.
    Every word gets its best passage before the rest is filled up: else one half of a question crowds out the other.
    """
    with Index(found) as index:
        by_word = {word: index.having(word, "beginnings") for word in key_words(question)}
        by_sign = [*by_word.values(), *(index.having(pair) for pair in _pairs(question))]
    signs = [{sign for sign, numbers in enumerate(by_sign) if n in numbers} for n in range(len(found))]
    ranked = sorted(range(len(found)), key=lambda n: (-len(signs[n]) * found[n]["score"], found[n]["file"], n))
    best = [next(n for n in ranked if n in numbers) for numbers in by_word.values() if numbers]
    chosen: list[int] = []
    for number in dict.fromkeys([*best, *ranked]):
        narrow = _narrowest(found, signs, number)
        if len(chosen) < limit and not any(_overlap(found[narrow], found[other]) for other in chosen):
            chosen.append(narrow)
    missing = [word for word, numbers in by_word.items() if not numbers]
    return [found[number] for number in sorted(chosen, key=ranked.index)], missing


def _narrowest(found: Sequence[Passage], signs: Sequence[set[int]], number: int) -> int:
    """The shortest passage here that has as much of the question: a reader wants the line, not the chapter."""
    inside = [n for n in range(len(found)) if _overlap(found[n], found[number]) and signs[n] >= signs[number]]
    return min(inside, key=lambda n: (len(found[n]["text"]), n))


def _pairs(question: str) -> list[str]:
    """Neighbours in the question, one of which means something: "one writer", "a slice"."""
    meaning = set(key_words(question))
    return [f"{one} {two}" for one, two in pairwise(words(question)) if meaning & {one, two}]


def _scored(passage: Passage, score: float) -> Passage:
    copy = passage.copy()
    copy["score"] = round(score, 6)
    return copy


def _overlap(one: Passage, other: Passage) -> bool:
    same_file = one["file"] == other["file"]
    return same_file and one["line"] <= other["last_line"] and other["line"] <= one["last_line"]


def _expression(query: Query) -> str:
    wanted = [word for given in query["words"] for word in key_words(given)]
    if query["match"] == "beginnings":
        return " OR ".join(f'"{word}" OR "{_beginning(word)}"*' for word in wanted)
    return (" AND " if query["match"] == "all" else " OR ").join(f'"{word}"' for word in wanted)


def _beginning(word: str) -> str:
    """Most of a word: "configuration" also finds "configure", which stemming does not see as the same."""
    return word[: max(SHORTEST_BEGINNING, len(word) * 2 // 3)]


def _connect() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    try:
        database.execute("CREATE VIRTUAL TABLE passages USING fts5(title, text, tokenize = 'porter unicode61')")
    except sqlite3.OperationalError as error:
        database.close()
        raise RuntimeError(
            f"this Python's SQLite {sqlite3.sqlite_version} lacks FTS5, which ranks the passages; "
            "use a Python from python.org, your distribution, pyenv or uv"
        ) from error
    return database
