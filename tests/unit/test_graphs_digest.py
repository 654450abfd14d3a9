"""The digest graph: counts that can be checked by hand, words that tell documents apart, sentences that are central."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from runyard.graphs.digest import builder, central, graph
from runyard.graphs.inputs import BadInput

DOCUMENTS = [
    {"title": "Apples", "text": "Apples grow on trees. Farmers pick apples. Apples are sweet."},
    {"title": "Bees", "text": "Bees live in hives. Farmers keep bees for honey."},
    {"title": "Cows", "text": "Cows give milk. Farmers milk cows every morning."},
]


def digest(**given: Any) -> dict[str, Any]:
    result: dict[str, Any] = graph.invoke(given)
    return result


def test_totals_are_those_of_all_documents() -> None:
    assert digest(documents=DOCUMENTS)["totals"] == {"documents": 3, "words": 27, "sentences": 7}


def test_every_document_has_its_entry_in_the_order_given() -> None:
    entries = digest(documents=DOCUMENTS)["entries"]
    assert [(entry["title"], entry["words"]) for entry in entries] == [("Apples", 10), ("Bees", 9), ("Cows", 8)]


def test_keywords_tell_documents_apart_and_themes_hold_them_together() -> None:
    result = digest(documents=DOCUMENTS)
    assert [entry["keywords"][0] for entry in result["entries"]] == ["apples", "bees", "cows"]
    assert all(entry["keywords"][0] != "farmers" for entry in result["entries"])
    assert result["themes"] == ["farmers"]


def test_the_digest_can_be_read() -> None:
    text = digest(documents=DOCUMENTS)["digest"]
    assert text.startswith("# 3 documents, 27 words\n\nIn common: farmers\n\n## Apples\n")


def test_the_central_sentences_are_those_the_others_resemble() -> None:
    said = [
        "Something else entirely happened.",
        "The harbour flooded during the storm.",
        "A storm flooded the harbour and the old market.",
        "The market near the harbour closed after the storm.",
        "Nobody noticed.",
    ]
    assert central(said, 3) == said[1:4]
    assert central([], 2) == []


def test_a_document_of_one_sentence_is_its_own_summary() -> None:
    [entry] = digest(documents=[{"title": "One", "text": "Only this."}])["entries"]
    assert entry["summary"] == ["Only this."]


def test_a_folder_is_read_in_place_of_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for document in DOCUMENTS:
        (tmp_path / f"{document['title']}.md").write_text(document["text"])
    (tmp_path / "code.py").write_text("apples = 1")
    monkeypatch.setenv("RUNYARD_DOCS", str(tmp_path))
    result = digest()
    assert result["totals"] == {"documents": 3, "words": 27, "sentences": 7}
    assert [entry["title"] for entry in result["entries"]] == ["Apples.md", "Bees.md", "Cows.md"]


def test_an_earlier_digest_on_the_thread_leaves_nothing_behind() -> None:
    kept = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    kept.invoke({"documents": DOCUMENTS}, config)
    assert kept.invoke({"documents": DOCUMENTS[:1]}, config)["totals"]["documents"] == 1


def test_a_hundred_documents_are_a_hundred_tasks() -> None:
    many = [{"title": f"t{n}", "text": f"Document {n} speaks of number{n} and apples."} for n in range(100)]
    done = [part for part in graph.stream({"documents": many}, stream_mode="updates") if "study" in part]
    assert len(done) == 100


def test_the_heavy_nodes_ask_for_the_cpu_queue() -> None:
    asked = {name: (node.metadata or {}).get("runyard") for name, node in builder.nodes.items()}
    assert asked == {"gather": None, "study": {"queue": "cpu"}, "combine": {"queue": "cpu"}}


@pytest.mark.parametrize(
    ("documents", "field"),
    [
        ([], "documents"),
        ("text", "documents"),
        ([7], "documents[0]"),
        ([*DOCUMENTS, {"title": "x"}], "documents[3].text"),
        ([{"text": "x"}], "documents[0].title"),
        ([{"title": "x", "text": "x"}] * 501, "documents"),
    ],
)
def test_bad_input_is_refused_by_its_name(documents: Any, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        digest(documents=documents)
    assert caught.value.field == field
