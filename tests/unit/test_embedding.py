"""``store.index`` of langgraph.json: what is accepted, and what is refused at start, by name."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings

from runyard.graphs.embedding import LoopEmbeddings, load_embeddings
from runyard.graphs.registry import GraphConfigError, load_project

CODE = """
from langchain_core.embeddings import Embeddings

def embed(texts):
    return [[1.0, 2.0] for _ in texts]

async def aembed(texts):
    return embed(texts)

class Model(Embeddings):
    def embed_documents(self, texts):
        return embed(texts)

    def embed_query(self, text):
        return [3.0, 4.0]

class holder:
    model = Model()

number = 1
"""


@pytest.fixture(autouse=True)
def untouched_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", os.environ.copy())


def loaded(folder: Path, index: Any) -> Embeddings | None:
    (folder / "vectors.py").write_text(CODE)
    file = folder / "langgraph.json"
    file.write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, "store": {"index": index}}))
    return load_embeddings(load_project(file))


def test_functions_async_functions_and_embeddings_are_loaded(tmp_path: Path) -> None:
    for name in ("./vectors.py:embed", "./vectors.py:aembed"):
        assert loaded(tmp_path, {"dims": 2, "embed": name}).embed_query("text") == [1.0, 2.0]
    assert isinstance(loaded(tmp_path, {"dims": 2, "embed": "./vectors.py:aembed"}), LoopEmbeddings)
    assert loaded(tmp_path, {"dims": 2, "embed": "./vectors.py:holder.model"}).embed_query("text") == [3.0, 4.0]
    assert loaded(tmp_path, None) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dims": 0}, "store.index.dims"),
        ({"dims": "2"}, "store.index.dims"),
        ({"dims": True}, "store.index.dims"),
        ({"embed": None}, "store.index.embed"),
        ({"embed": "openai"}, "store.index.embed"),
        ({"embed": "./vectors.py:"}, "store.index.embed"),
        ({"embed": "./nowhere.py:embed"}, "no such file"),
        ({"embed": "./vectors.py:embedd"}, "did you mean 'embed'"),
        ({"embed": "./vectors.py:number"}, "not int"),
        ({"embed": "nobody:no-model"}, "'nobody:no-model' cannot be loaded"),
        ({"fields": []}, "store.index.fields"),
        ({"fields": "$"}, "store.index.fields"),
        ({"fields": [1]}, "store.index.fields"),
    ],
)
def test_what_cannot_be_an_index_is_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(GraphConfigError, match=named) as caught:
        loaded(tmp_path, {"dims": 2, "embed": "./vectors.py:embed", **change})
    assert "store.index." in caught.value.problem


def test_an_index_that_is_no_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphConfigError, match=r"store\.index must be an object"):
        loaded(tmp_path, ["text"])
