"""The research graph without a source, without its model, without any source: what the answer says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runyard.engine import wire
from runyard.engine.run import Phase, Run
from runyard.graphs.research.graph import graph
from tests.support.engine import Engine, engine


@pytest.fixture(autouse=True)
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guide.md").write_text("# Watering\n\nTomatoes are watered every morning.\n")
    monkeypatch.setenv("RUNYARD_DOCS", str(tmp_path))
    monkeypatch.delenv("RUNYARD_MODEL", raising=False)


async def ask(eng: Engine, *dead: str) -> Run:
    given = {"question": "When are tomatoes watered?"}
    run = eng.start("research", given, config={"configurable": {"dead": list(dead)}})
    await eng.drive()
    return eng.service.get_run(run.run_id)


def answer_of(eng: Engine, run: Run) -> dict[str, Any]:
    return dict(wire.decode(eng.service.get_thread(run.thread_id).values))


async def test_an_answer_says_which_source_and_that_the_model_was_dead(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runyard.engine.node.MOMENT_S", 60.0)  # sit every retry out
    async with engine(redis_url, {"research": graph}) as eng:
        run = await ask(eng, "definitions", "model")
        assert run.phase is Phase.SUCCEEDED, run.error
        told = answer_of(eng, run)
        assert "Tomatoes are watered every morning." in told["answer"]
        assert told["answer"].endswith(
            "This answer had to do without:\n"
            "- the model, to plan: ConnectionError: the model is dead\n"
            "- the source 'definitions': ConnectionError: source 'definitions' is dead"
        )
        assert told["model"] is None
        assert {(part["node"], part["instead"]) for part in run.degraded} == {
            ("plan", "fallback"),
            ("search", "nothing"),
        }


async def test_without_any_source_there_is_no_answer_but_a_dead_letter(redis_url: str) -> None:
    async with engine(redis_url, {"research": graph}) as eng:
        run = await ask(eng, "sections", "paragraphs", "definitions")
        assert run.phase is Phase.FAILED
        assert (run.error or {})["node"] == "search"


async def test_with_all_sources_nothing_is_said_of_missing_ones(redis_url: str) -> None:
    async with engine(redis_url, {"research": graph}) as eng:
        run = await ask(eng)
        assert "do without" not in answer_of(eng, run)["answer"]
        assert not run.degraded


async def test_what_is_to_be_dead_must_be_known(redis_url: str) -> None:
    async with engine(redis_url, {"research": graph}) as eng:
        run = await ask(eng, "tables")
        assert "dead: must be a list of sections, paragraphs, definitions or model" in (run.error or {})["message"]


def unreadable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Files that the disk does not give. Permissions would not do: root, as whom containers run tests, may read all."""
    opened = Path.open

    def failing(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name in names:
            raise OSError(5, "Input/output error", str(self))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)


async def test_a_file_that_cannot_be_read_is_missing_and_the_sources_go_on(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "secret.md").write_text("Tomatoes are never watered.\n")
    unreadable(monkeypatch, "secret.md")
    async with engine(redis_url, {"research": graph}) as eng:
        run = await ask(eng)
        assert run.phase is Phase.SUCCEEDED, run.error
        told = answer_of(eng, run)["answer"]
        assert "Tomatoes are watered every morning." in told
        assert "do without:\n- what is in 'more/secret.md': OSError: [Errno 5] Input/output error" in told
        assert [(part["node"], part["instead"]) for part in run.degraded] == [("search", "nothing")]


async def test_a_folder_of_which_nothing_can_be_read_is_a_dead_letter_that_says_so(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch, "guide.md")
    async with engine(redis_url, {"research": graph}) as eng:
        run = await ask(eng)
        assert run.phase is Phase.FAILED
        assert (run.error or {})["message"].endswith(", and guide.md cannot be read")
