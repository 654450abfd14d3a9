"""What a node asks of the runtime, validated: errors name graph, node and field."""

from __future__ import annotations

from typing import Any

import pytest

from runyard.engine.errors import ConfigError
from runyard.engine.policy import NodePolicy, Stale, policies_of


def metadata(**fields: Any) -> dict[str, Any]:
    return {"runyard": fields}


def test_a_node_without_a_policy_has_the_defaults() -> None:
    assert policies_of("g", {"a": None, "b": {}, "c": {"other": 1}, "d": {"runyard": None}}) == dict.fromkeys(
        "abcd", NodePolicy()
    )


def test_a_policy_is_read_from_the_nodes_metadata() -> None:
    assert policies_of("g", {"a": metadata(queue="cpu")})["a"].queue == "cpu"


def test_configuration_wins_over_the_code() -> None:
    made = policies_of("g", {"a": metadata(queue="cpu"), "b": None}, {"a": {"queue": "gpu"}, "b": {"queue": "x"}})
    assert (made["a"].queue, made["b"].queue) == ("gpu", "x")


def test_configuration_for_a_node_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="node 'nobody' of graph 'shop'"):
        policies_of("shop", {"a": None}, {"nobody": {"queue": "x"}})


@pytest.mark.parametrize("queue", ["", "a b", "-x", "x" * 65, "ü", "a/b", "a\nb", 7, ["cpu"]])
def test_a_queue_that_is_no_name_is_refused_with_graph_node_and_field(queue: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        policies_of("shop", {"pay": metadata(queue=queue)})
    assert all(word in str(raised.value) for word in ("'shop'", "'pay'", "queue:")), raised.value


@pytest.mark.parametrize("queue", ["cpu", "a", "A.b-c_9", "x" * 64])
def test_a_queue_may_have_any_plain_name(queue: str) -> None:
    assert policies_of("g", {"a": metadata(queue=queue)})["a"].queue == queue


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'pay'.*'shop'.*quue: Unknown field"):
        policies_of("shop", {"pay": metadata(quue="cpu")})


@pytest.mark.parametrize("policy", ["cpu", ["queue"], 7, True])
def test_a_policy_that_is_no_mapping_is_refused_with_graph_and_node(policy: Any) -> None:
    with pytest.raises(ConfigError, match=r"'pay'.*'shop'"):
        policies_of("shop", {"pay": {"runyard": policy}})
    with pytest.raises(ConfigError, match=r"'pay'.*'shop'"):
        policies_of("shop", {"pay": None}, {"pay": policy})


@pytest.mark.parametrize("quorum", [True, -1, 1.5, "80", "101%", "-1%", "all", "%", [1], {}])
def test_a_quorum_that_is_no_number_and_no_share_is_refused(quorum: Any) -> None:
    with pytest.raises(ConfigError, match=r"'pay'.*'shop'.*quorum: must be a number of tasks, or a share"):
        policies_of("shop", {"pay": metadata(quorum=quorum)})


@pytest.mark.parametrize("fields", [{"rest_s": 5}, {"group": "g"}])
def test_what_says_something_of_a_fan_out_needs_a_quorum(fields: Any) -> None:
    with pytest.raises(ConfigError, match=rf"'pay'.*'shop'.*{next(iter(fields))}: says nothing without \"quorum\""):
        policies_of("shop", {"pay": metadata(**fields)})


def test_nodes_of_a_group_must_agree() -> None:
    nodes = {"a": metadata(quorum=1, group="g"), "b": metadata(quorum=2, group="g")}
    with pytest.raises(ConfigError, match=r"node 'b' of graph 'shop'.*quorum: it is of group 'g' and says 2, node 'a'"):
        policies_of("shop", nodes)


@pytest.mark.parametrize(
    "fallback",
    [7, {}, {"value": 1, "stale": 2}, {"stale": 0}, {"stale": True}, {"stale": "1h"}, {"stale": {"key": "a"}},
     {"stale": {"max_age_s": 5, "key": []}}, {"stale": {"max_age_s": 5, "keys": ["a"]}}, [], [{"value": 1}, 7]],
)  # fmt: skip
def test_a_fallback_of_no_known_form_is_refused(fallback: Any) -> None:
    with pytest.raises(ConfigError, match=r"'pay'.*'shop'.*fallback: .*must be"):
        policies_of("shop", {"pay": metadata(fallback=fallback)})


def test_a_list_of_fallbacks_may_name_nodes_and_stale_results() -> None:
    chain = [{"stale": {"max_age_s": 60, "key": "city"}}, "b", {"value": 0}]
    policy = policies_of("g", {"a": metadata(fallback=chain), "b": None})["a"]
    assert (policy.stale, len(policy.fallbacks)) == (Stale(60, ("city",)), 3)
    with pytest.raises(ConfigError, match="fallback: there is no node 'c'"):
        policies_of("g", {"a": metadata(fallback=[{"stale": 60}, "c"])})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"on_exhausted": "wait"}, "on_exhausted: must be fail, partial or park"),
        ({"park_s": 5}, 'park_s: says nothing without "on_exhausted": "park"'),
        ({"on_exhausted": "park", "park_s": 0}, "park_s: must be seconds above 0"),
        ({"on_exhausted": "park", "quorum": 1}, 'on_exhausted: "quorum" says already'),
    ],
)
def test_what_follows_exhausted_attempts_is_said_in_one_way(fields: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"'pay'.*'shop'.*{said}"):
        policies_of("shop", {"pay": metadata(**fields)})


def test_on_exhausted_wins_over_required() -> None:
    made = policies_of("g", {"a": metadata(required=False), "b": metadata(required=False, on_exhausted="fail")})
    assert (made["a"].when_exhausted, made["b"].when_exhausted) == ("partial", "fail")
