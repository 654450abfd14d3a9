"""What to search for next: by rule, or by asking the model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_core.language_models import BaseChatModel

from runyard.graphs.research.ranking import Query
from runyard.graphs.research.sources import Passage
from runyard.graphs.words import clean, key_words

MAX_QUERIES = 5
PARTS = re.compile(r"[?;,\n]+|\s(?:and|or|but|versus|vs)\s", re.IGNORECASE)

FIRST_PROMPT = """You search a folder of documents to answer a question.
Write up to {most} short keyword queries, one per line and nothing else.

Question: {question}"""

NEXT_PROMPT = """You search a folder of documents to answer a question.
These passages were found so far:

{found}

These words of the question are in none of them: {missing}
If the passages are enough to answer, write ENOUGH. Otherwise write up to {most} other short keyword queries, one per
line and nothing else.

Question: {question}"""


def plain_queries(question: str, missing: Sequence[str], round_: int) -> list[Query]:
    """First all words of each part of the question and any of the whole; then the beginnings of what is missing."""
    if round_ > 1:
        return [Query(words=list(missing), match="beginnings")]
    parts = [key_words(part) for part in PARTS.split(question) if part.strip()]
    return [
        *(Query(words=words, match="all") for words in parts[:MAX_QUERIES]),
        Query(words=key_words(question), match="any"),
    ]


async def model_queries(
    model: BaseChatModel, question: str, missing: Sequence[str], evidence: Sequence[Passage]
) -> list[Query]:
    """The model's own queries; none when it finds the evidence enough."""
    prompt = NEXT_PROMPT if evidence else FIRST_PROMPT
    found = "\n".join(f"- {p['title']}: {clean(p['text'])[:200]}" for p in evidence)
    filled = prompt.format(question=question, most=MAX_QUERIES, found=found, missing=", ".join(missing) or "none")
    reply = (await model.ainvoke(filled)).text
    lines = [clean(line) for line in reply.splitlines() if line.strip()]
    if lines and lines[0].upper().startswith("ENOUGH"):
        return []
    return [Query(words=key_words(line), match="any") for line in lines[:MAX_QUERIES] if key_words(line)]
