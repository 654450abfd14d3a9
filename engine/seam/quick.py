"""The same as LangGraph's, quicker, of what it does for every task: ``tests/unit/test_seam_quick.py`` compares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal import _config
from langgraph.pregel import _algo

_langgraphs = _config.merge_configs
#: Values that metadata mostly holds, none of which is copied. To ask an abstract class whether it is their type, as
#: LangGraph does, takes longer than all else here.
_PLAIN = frozenset({str, int, tuple, list, bool, float, type(None)})
_ADDED = frozenset({"metadata", "tags"})


def merge_configs(*configs: RunnableConfig | None) -> RunnableConfig:
    """Merge the config of a run and what a task adds to it, or whatever else LangGraph merges."""
    config, added = configs if len(configs) == 2 else (None, None)
    if config is None or added is None or not _ADDED.issuperset(added):
        return _langgraphs(*configs)
    merged: Any = {key: value for key, value in config.items() if value}
    if "callbacks" in merged:
        merged["callbacks"] = _config._merge_callbacks(None, merged["callbacks"])  # noqa: SLF001
    if isinstance(merged.get("recursion_limit"), _config._DefaultRecursionLimit):  # noqa: SLF001
        del merged["recursion_limit"]
    if metadata := added.get("metadata"):
        merged["metadata"] = _merge_metadata(merged.get("metadata"), metadata)
    elif "metadata" in merged:
        merged["metadata"] = _merge_metadata(None, merged["metadata"])
    if tags := added.get("tags"):
        merged["tags"] = [*merged["tags"], *tags] if "tags" in merged else tags
    merged.setdefault("configurable", {})
    return merged  # type: ignore[no-any-return]


def _merge_metadata(base: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**(base or {}), **new}
    for key, value in merged.items():
        if type(value) not in _PLAIN and isinstance(value, Mapping):
            merged[key] = dict(value)
    if base and "lc_versions" in base and "lc_versions" in new:
        merged["lc_versions"] = _config._merge_metadata(  # noqa: SLF001
            {"lc_versions": base["lc_versions"]}, {"lc_versions": new["lc_versions"]}
        )["lc_versions"]
    return merged


#: What prepares tasks finds it by this name.
_algo.merge_configs = merge_configs  # type: ignore[attr-defined]
