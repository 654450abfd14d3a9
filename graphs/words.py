"""Words, their stems and sentences, as far as searching and counting need them. English, and harmless elsewhere."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^a-z\s])")
CODE = re.compile(r"^\s*(```|~~~).*?(^\s*\1[^\n]*|\Z)", re.DOTALL | re.MULTILINE)
OWN_LINE = re.compile(r"\s*(?:[-*+•]\s|\d+[.)]\s|\||>|#)")
MARKUP = re.compile(r"^\s*(?:[-*+•>]\s+|\d+[.)]\s+|#+\s+)|\*\*|`|\s*\|\s*$|^\s*\|\s*|<[^>]+>")
ENDINGS = ("ational", "ations", "ation", "ingly", "edly", "ies", "ing", "ers", "ed", "er", "es", "ly", "s", "e", "y")

# As text: a list of two hundred strings would be no easier to read.
STOP_WORDS = frozenset(
    """
    a about after again all also am an and any anything are as at be because been before being between both but by
    can cannot could did do does doing don't done down during each either else ever every few for from get gets give
    given go goes had happen happened happens has have having he her here him his how however i if in instead into
    is isn't it it's its itself just kind know let like many may me mean means might more most much must my need
    neither no nor not nothing now of off on once one only or other our out over own per please same say says see
    shall she should show since so some something such tell than that that's the their them then there these they
    thing things this those through to too under until up us use used uses using very was way we were what what's
    whatever when where whether which while who whom whose why will with within without work works would yes yet you
    your
    """.split()  # noqa: SIM905
)


def words(text: str) -> list[str]:
    """Every word, in lower case."""
    return [word.lower() for word in WORD.findall(text)]


def key_words(text: str) -> list[str]:
    """The words that carry the meaning, once each and in order; all of them when there are no others."""
    every = list(dict.fromkeys(words(text)))
    return [word for word in every if word not in STOP_WORDS and len(word) > 1] or every


def stem(word: str) -> str:
    """A word without its usual endings: enough to see that "retries" and "retried" are the same."""
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def sentences(text: str) -> list[str]:
    """The sentences of a text with its markup taken off; a list item or a table row is one of its own."""
    found = [clean(part) for block in _blocks(text) for part in SENTENCE_END.split(block)]
    return [sentence for sentence in found if WORD.search(sentence)]


def without_code(text: str) -> str:
    """A text without its fenced code, which has no sentences."""
    return CODE.sub("", text)


def clean(text: str) -> str:
    """One line of plain text."""
    return " ".join(MARKUP.sub("", text).split())


def _blocks(text: str) -> list[str]:
    """Lines put together as long as they are one paragraph."""
    blocks = [""]
    for line in text.splitlines():
        if not line.strip() or OWN_LINE.match(line) or blocks[-1].startswith("#"):
            blocks.append(line)
        else:
            blocks[-1] += f" {line}"
    return [block for block in blocks if block.strip()]
