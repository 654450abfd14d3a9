"""Three ways to look at the same files. Each finds what the others miss.

`sections`     a heading with what stands under it: answers "how does … work"
`paragraphs`   every paragraph by itself: answers what is said in passing
`definitions`  code, tables, terms, signatures: answers "what is …", "which options", "how do I call …"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypedDict

from runyard.graphs.library import Document, Library
from runyard.graphs.words import WORD, clean

MAX_CHARACTERS = 1_500
HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*$|={1,6}\s+(\S.*)$")
UNDERLINE = re.compile(r"([=\-~^\"'#*+])\1{2,}\s*$")
FENCE = re.compile(r"\s*(```|~~~)")
TABLE_ROW = re.compile(r"\s*\|.*\|")
TERM = re.compile(r"\s*(?:[-*+]\s+)?(?:\*\*[^*]+\*\*|`[^`]+`)\s*(?:[:—–(]|-\s|\s-|is\s|are\s|means\s)")
SIGNATURE = re.compile(r"\s*(?:async\s+def|def|class)\s+\w+|[A-Z][A-Z0-9_]+\s*[:=]")


class Passage(TypedDict):
    """Some lines of a file, the heading they stand under, which source found them, and how well they match."""

    source: str
    file: str
    line: int
    last_line: int
    title: str
    text: str
    score: float


class Line(NamedTuple):
    number: int
    text: str
    title: str
    is_code: bool


Block = list[Line]


def passages(library: Library, source: str) -> list[Passage]:
    """Everything that one source sees in a library."""
    split = SOURCES[source]
    return [
        _passage(source, document, block)
        for document in library.documents()
        for block in split(_lines(document))
        if any(WORD.search(line.text) for line in block)
    ]


def _passage(source: str, document: Document, block: Block) -> Passage:
    text = "\n".join(line.text for line in block).strip("\n")
    return Passage(
        source=source,
        file=document.name,
        line=block[0].number,
        last_line=block[-1].number,
        title=block[0].title or document.name,
        text=text[:MAX_CHARACTERS],
        score=0.0,
    )


def _lines(document: Document) -> list[Line]:
    """The lines with the heading above each of them, and whether they are code."""
    found: list[Line] = []
    title, fenced, is_python = "", False, document.name.endswith(".py")
    raw = document.text.splitlines()
    for number, text in enumerate(raw, start=1):
        if FENCE.match(text):
            fenced = not fenced
        elif not fenced:
            following = raw[number] if number < len(raw) else ""
            title = _heading(text, following, is_python) or title
        found.append(Line(number, text, title, fenced or is_python))
    return found


def _heading(text: str, following: str, is_python: bool) -> str | None:
    """The heading a line is: marked, underlined, or in Python the name of a top-level function or class."""
    if is_python:
        named = re.match(r"(?:async\s+def|def|class)\s+(\w+)", text)
        return named[1] if named else None
    if marked := HEADING.match(text):
        return clean(marked[1] or marked[2])
    if UNDERLINE.match(following) and text.strip() and not UNDERLINE.match(text) and not TABLE_ROW.match(text):
        return clean(text)
    return None


def sections(lines: list[Line]) -> Iterator[Block]:
    """Lines under the same heading, cut where they grow too long."""
    block: Block = []
    for line in lines:
        if block and (line.title != block[-1].title or _size(block) + len(line.text) > MAX_CHARACTERS):
            yield block
            block = []
        block.append(line)
    yield block


def paragraphs(lines: list[Line]) -> Iterator[Block]:
    """Lines between blank lines; a heading alone says nothing and is left to the sections."""
    block: Block = []
    for line in [*lines, Line(0, "", "", False)]:
        if line.text.strip():
            block.append(line)
        elif block:
            if clean(block[0].text) != block[0].title or len(block) > 1:
                yield block
            block = []


def definitions(lines: list[Line]) -> Iterator[Block]:
    """Code with the line that introduces it, rows of tables, explained terms, signatures."""
    position = 0
    while position < len(lines):
        length = _definition_length(lines, position)
        if length:
            yield lines[position : position + length]
        position += length or 1


def _definition_length(lines: list[Line], position: int) -> int:
    """How many lines belong to the definition that starts here; 0 when none does."""
    line = lines[position]
    if FENCE.match(line.text):
        end = next((n for n in range(position + 1, len(lines)) if FENCE.match(lines[n].text)), len(lines) - 1)
        return end - position + 1
    if TABLE_ROW.match(line.text):
        return 1
    if TERM.match(line.text) or (line.is_code and SIGNATURE.match(line.text)):
        return next(
            (n - position for n in range(position + 1, min(position + 6, len(lines))) if _ends(lines[n])),
            min(6, len(lines) - position),
        )
    return 0


def _ends(line: Line) -> bool:
    return not line.text.strip() or bool(TERM.match(line.text) or SIGNATURE.match(line.text) or FENCE.match(line.text))


def _size(block: Block) -> int:
    return sum(len(line.text) + 1 for line in block)


SOURCES: dict[str, Callable[[list[Line]], Iterator[Block]]] = {
    "sections": sections,
    "paragraphs": paragraphs,
    "definitions": definitions,
}
