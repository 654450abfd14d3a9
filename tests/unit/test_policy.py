"""What a node asks of the runtime, validated: errors name graph, node and field."""

from __future__ import annotations

from typing import Any

import pytest

from runyard.engine.errors import ConfigError
from runyard.engine.policy import NodePolicy, policies_of


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
