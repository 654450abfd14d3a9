"""What we do in LangGraph's place, quicker, comes to the same."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.callbacks.manager import AsyncCallbackManager
from langgraph._internal import _config
from langgraph.pregel import _algo

from runyard.engine.seam import quick

_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3))
_values = st.one_of(
    _scalars,
    st.lists(_scalars, max_size=2),
    st.tuples(_scalars),
    st.dictionaries(st.text(max_size=3), st.lists(_scalars, max_size=1), max_size=2),
)
_metadata = st.dictionaries(st.one_of(st.just("lc_versions"), st.text(max_size=2)), _values, max_size=4)
_handler = BaseCallbackHandler()
_configs = st.fixed_dictionaries(
    {},
    optional={
        "metadata": _metadata,
        "tags": st.lists(st.text(max_size=2), max_size=2),
        "configurable": st.dictionaries(st.text(max_size=3), _values, max_size=2),
        "callbacks": st.sampled_from([None, [], [_handler], AsyncCallbackManager([_handler])]),
        "recursion_limit": st.sampled_from([0, 7, _config.DEFAULT_RECURSION_LIMIT]),
        "max_concurrency": st.one_of(st.none(), st.integers(0, 3)),
        "run_name": st.one_of(st.none(), st.text(max_size=2)),
        "run_id": st.none(),
    },
)
_added = st.fixed_dictionaries({}, optional={"metadata": _metadata, "tags": st.one_of(st.none(), st.lists(st.text()))})


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    callbacks = config.get("callbacks")
    told = callbacks.handlers if isinstance(callbacks, AsyncCallbackManager) else callbacks
    return {**config, "callbacks": (type(callbacks), told)}


def test_langgraph_prepares_tasks_with_ours() -> None:
    assert _algo.merge_configs is quick.merge_configs  # type: ignore[attr-defined, comparison-overlap]
    assert quick._langgraphs is _config.merge_configs


@given(_configs, _added)
def test_configs_are_merged_as_langgraph_merges_them(config: Any, added: Any) -> None:
    before = copy.copy(config), copy.copy(added)
    ours, theirs = quick.merge_configs(config, added), _config.merge_configs(config, added)
    assert _comparable(ours) == _comparable(theirs)
    assert (config, added) == before, "what is merged is left as it was"


@given(_configs, _configs)
def test_what_adds_more_than_a_task_does_is_left_to_langgraph(config: Any, added: Any) -> None:
    try:
        theirs = _config.merge_configs(config, added, None)
    except Exception as error:
        told = type(error)
        try:
            quick.merge_configs(config, added, None)
        except told:
            return
        raise
    assert _comparable(quick.merge_configs(config, added, None)) == _comparable(theirs)


def test_tasks_share_no_mapping_of_a_runs_metadata() -> None:
    config: Any = {"metadata": {"of": {"a": 1}, "lc_versions": {"x": "1"}}}
    one, other = (quick.merge_configs(config, {"metadata": {"lc_versions": {"y": "2"}}}) for _ in range(2))
    one["metadata"]["of"]["a"] = 2
    assert other["metadata"]["of"] == config["metadata"]["of"] == {"a": 1}
    assert other["metadata"]["lc_versions"] == {"x": "1", "y": "2"}
