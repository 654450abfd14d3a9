"""The research graph over small folders: what it finds, where, in how many rounds, and what it will not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from runyard.graphs.inputs import BadInput
from runyard.graphs.library import open_library
from runyard.graphs.research.graph import builder
from runyard.graphs.research.sources import passages

GUIDE = """# Greenhouse guide

The greenhouse stands behind the barn and is heated in winter.

## Watering

Tomatoes are watered every morning. A tomato that is watered at noon gets burnt leaves.

## Options

| option | meaning |
|---|---|
| `drip_rate` | drops of water in a minute |

```python
def open_roof(angle):
    return Roof(angle)
```
"""

ORCHARD = "The orchard has forty apple trees.\n\nIn spring the beekeeper brings six hives to the orchard.\n"


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docs"
    (folder / "more").mkdir(parents=True)
    (folder / "guide.md").write_text(GUIDE)
    (folder / "more" / "orchard.txt").write_text(ORCHARD)
    monkeypatch.setenv("RUNYARD_DOCS", str(folder))
    monkeypatch.delenv("RUNYARD_DOCS_ROOT", raising=False)
    monkeypatch.delenv("RUNYARD_MODEL", raising=False)
    return folder


async def ask(question: object, **more: Any) -> dict[str, Any]:
    graph = builder.compile(checkpointer=InMemorySaver())
    return await graph.ainvoke({"question": question, **more}, {"configurable": {"thread_id": "t"}})


@pytest.mark.parametrize(
    ("question", "place", "words"),
    [
        ("When are tomatoes watered?", "guide.md:7", "Tomatoes are watered every morning."),
        ("What does drip_rate mean?", "guide.md:13", "drops of water in a minute"),
        ("How do I call open_roof?", "guide.md:15", "def open_roof(angle)"),
        ("Who brings the hives?", "more/orchard.txt:3", "the beekeeper brings six hives"),
    ],
)
async def test_the_answer_quotes_the_right_lines_and_names_them(
    docs: Path, question: str, place: str, words: str
) -> None:
    result = await ask(question)
    assert words in result["answer"]
    assert place in result["sources"]
    assert place in result["answer"]


async def test_an_answer_without_a_model_says_so(docs: Path) -> None:
    result = await ask("When are tomatoes watered?")
    assert result["answer"].startswith("No language model was used")
    assert result["model"] is None
    assert result["rounds"] == 1


async def test_each_half_of_a_question_gets_its_evidence(docs: Path) -> None:
    result = await ask("When are tomatoes watered, and how many apple trees are there?")
    assert "every morning" in result["answer"]
    assert "forty apple trees" in result["answer"]


async def test_a_second_round_finds_words_of_another_form(docs: Path) -> None:
    result = await ask("What about orchardists?")
    assert result["rounds"] == 2
    assert "more/orchard.txt:1" in result["sources"]


async def test_a_word_that_is_nowhere_is_named_and_the_rounds_are_limited(docs: Path) -> None:
    graph = builder.compile()
    config: Any = {"configurable": {"max_rounds": 2}}
    result = await graph.ainvoke({"question": "Do zebras eat tomatoes?"}, config)
    assert result["rounds"] == 2
    assert "Nothing about zebras, eat was found in 2 files." in result["answer"]
    assert "guide.md:7" in result["sources"]


@pytest.mark.parametrize(
    "question",
    ["???", "🍅", 'tomatoes" OR "x', "title:tomatoes*", "NEAR(a b)", "what's ²", "トマト", "a.b_c-d'e"],
)
async def test_no_question_is_a_syntax_error_for_the_search(docs: Path, question: str) -> None:
    assert (await ask(question))["answer"]


async def test_when_nothing_is_found_nothing_is_claimed(docs: Path) -> None:
    result = await ask("zebras?")
    assert result["answer"] == "Nothing about zebras was found in 2 files."
    assert result["sources"] == []


async def test_the_same_question_gives_the_same_answer(docs: Path) -> None:
    assert await ask("When are tomatoes watered?") == await ask("When are tomatoes watered?")


async def test_an_earlier_question_on_the_thread_leaves_nothing_behind(docs: Path) -> None:
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"question": "When are tomatoes watered?"}, config)
    second = await graph.ainvoke({"question": "Who brings the hives?"}, config)
    assert second == await ask("Who brings the hives?")


async def test_progress_is_streamed_from_every_node_and_source(docs: Path) -> None:
    parts = builder.compile().astream({"question": "When are tomatoes watered?"}, stream_mode="custom")
    said = [part["progress"] async for part in parts]
    for word in ("reading 2 files", "round 1", "sections:", "paragraphs:", "definitions:", "missing: nothing"):
        assert any(word in line for line in said), word


@pytest.mark.parametrize("question", [None, "", "  ", 7, "x" * 2_001])
async def test_a_question_that_is_none_is_refused_by_its_name(docs: Path, question: object) -> None:
    with pytest.raises(BadInput, match=r"^question: "):
        await ask(question)


async def test_max_rounds_must_be_a_small_number(docs: Path) -> None:
    with pytest.raises(BadInput, match=r"^max_rounds: "):
        await builder.compile().ainvoke({"question": "zebras?"}, {"configurable": {"max_rounds": 1_000}})


async def test_a_folder_inside_the_docs_can_be_asked_for(docs: Path) -> None:
    result = await ask("Who brings the hives?", docs="more")
    assert result["sources"] == ["orchard.txt:3"]


@pytest.mark.parametrize("outside", ["..", "/etc", "../elsewhere", "more/../../secret"])
async def test_a_folder_outside_of_the_docs_is_refused_whether_it_exists_or_not(docs: Path, outside: str) -> None:
    (docs.parent / "secret").mkdir()
    with pytest.raises(BadInput, match=r"^docs: .* is outside"):
        await ask("Who?", docs=outside)


async def test_the_operator_can_open_a_larger_folder(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = docs.parent / "other"
    other.mkdir()
    (other / "note.txt").write_text("The well is behind the mill.")
    monkeypatch.setenv("RUNYARD_DOCS_ROOT", str(docs.parent))
    assert (await ask("Where is the well?", docs=str(other)))["sources"] == ["note.txt:1"]
    with pytest.raises(BadInput, match=r"^docs: .* is outside"):
        await ask("Where is the well?", docs="/etc")


@pytest.mark.parametrize(("given", "words"), [("nowhere", "there is no folder"), (7, "must be the path"), ("", "path")])
async def test_a_folder_that_is_not_there_is_refused(docs: Path, given: object, words: str) -> None:
    with pytest.raises(BadInput, match=f"^docs: .*{words}"):
        await ask("Who?", docs=given)


async def test_an_empty_folder_is_refused(docs: Path) -> None:
    (docs / "empty").mkdir()
    with pytest.raises(BadInput, match="no text file"):
        await ask("Who?", docs="empty")


async def test_a_missing_default_folder_names_the_variable(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_DOCS", str(docs / "gone"))
    with pytest.raises(BadInput, match="RUNYARD_DOCS names a folder that does not exist"):
        await ask("Who?")


def test_without_a_variable_the_readme_and_docs_of_the_current_folder_are_read(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNYARD_DOCS")
    monkeypatch.chdir(docs.parent)
    (docs.parent / "README.md").write_text("# Farm")
    (docs.parent / "notes.md").write_text("private")
    assert open_library().names() == ["README.md", "docs/guide.md", "docs/more/orchard.txt"]
    assert open_library("docs/more").names() == ["orchard.txt"]
    with pytest.raises(BadInput, match="outside"):
        open_library(".")


def test_hidden_binary_large_and_linked_files_are_left_alone(docs: Path) -> None:
    outside = docs.parent / "outside.md"
    outside.write_text("secret")
    (docs / "link.md").symlink_to(outside)
    (docs / "linked").symlink_to(docs.parent, target_is_directory=True)
    (docs / ".hidden.md").write_text("secret")
    (docs / ".git").mkdir()
    (docs / ".git" / "note.md").write_text("secret")
    (docs / "settings.toml").write_text("key = 'secret'")
    (docs / "huge.txt").write_text("x" * (512 * 1024 + 1))
    library = open_library()
    assert library.names() == ["guide.md", "more/orchard.txt"]
    for name in (
        "link.md",
        ".hidden.md",
        ".git/note.md",
        "../outside.md",
        "/etc/hostname",
        "huge.txt",
        "settings.toml",
    ):
        with pytest.raises(BadInput, match=r"^docs: "):
            library.read(name)


def test_bytes_that_are_not_utf8_do_not_stop_the_reading(docs: Path) -> None:
    (docs / "old.txt").write_bytes(b"caf\xe9 opens at eight")
    assert "opens at eight" in open_library().read("old.txt").text


def test_each_source_sees_what_is_its_own(docs: Path) -> None:
    library = open_library()
    seen = {source: passages(library, source) for source in ("sections", "paragraphs", "definitions")}
    assert {p["title"] for p in seen["sections"]} == {"Greenhouse guide", "Watering", "Options", "more/orchard.txt"}
    assert "## Watering" not in {p["text"] for p in seen["paragraphs"]}
    rows = [p["text"] for p in seen["definitions"]]
    assert "| `drip_rate` | drops of water in a minute |" in rows
    assert any(text.startswith("```python\ndef open_roof") for text in rows)
    for passage in (p for found in seen.values() for p in found):
        lines = library.read(passage["file"]).text.splitlines()
        assert "\n".join(lines[passage["line"] - 1 : passage["last_line"]]).strip("\n") == passage["text"]
