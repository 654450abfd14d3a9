"""Keys: the table in the module's docstring is the truth, and a partition is one hash tag."""

from __future__ import annotations

import inspect
import re

from hypothesis import given, strategies as st

from runyard.engine.ids import MAX_PARTITIONS, new_maker, new_run_id, partition_of_run
from runyard.engine.store import keys as module
from runyard.engine.store.keys import Keys, Partition, tells_ends

#: Not keys, but the way to them.
WAYS = {"seal", "of_tenant", "of_thread", "of_run", "of_namespace", "all", "tag", "limit_all", "circuit_all"}


def table() -> list[list[str]]:
    rows = [line.split(" | ") for line in (module.__doc__ or "").splitlines() if line.startswith("| `")]
    return [[cell.strip("| `") for cell in row] for row in rows]


def made_by(of: Keys | Partition, prefix: str) -> dict[str, str]:
    """Every key of an object by the name of its function, arguments as the table names them."""
    words = {
        "run_id": "<run>", "thread_id": "<thread>", "namespace": "<ns>", "checkpoint_id": "<id>", "worker_id": "<id>",
        "assistant_id": "<id>", "fingerprint": "<fingerprint>", "name": "<name>", "queue": "<queue>",
        "tenant": "<tenant>", "day": "<day>", "label": "<label>",
        "key_id": "<id>", "node": "<node>", "digest": "<digest>",
        "cron_id": "<cron>", "id_": "<id>", "maker": "<maker>",
    }  # fmt: skip
    made = {}
    for name, member in inspect.getmembers(type(of)):
        if name.startswith("_") or name in WAYS or name in of.__dataclass_fields__:
            continue
        if isinstance(member, property):
            key = getattr(of, name)
        else:
            key = getattr(of, name)(*(words[word] for word in list(inspect.signature(member).parameters)[1:]))
        made[name] = key.replace(prefix, "P" if isinstance(of, Partition) else "<prefix>", 1)
    return made


def all_made() -> dict[str, str]:
    return {**made_by(Keys("ry"), "ry"), **made_by(Partition("ry", 3), "ry:{3}")}


def test_the_table_lists_every_key_and_every_key_is_in_the_table() -> None:
    assert sorted(row[0] for row in table()) == sorted(all_made().values())


@given(st.integers(0, MAX_PARTITIONS - 1), st.text())
def test_the_channels_of_ends_are_told_from_those_of_runs_and_threads_whatever_their_ids_are(
    number: int, thread_id: str
) -> None:
    at = Partition("ry", number)
    assert tells_ends(at.ends(new_maker()))
    assert not any(tells_ends(channel) for channel in (at.events(thread_id), at.thread_log(thread_id)))


def test_every_row_says_type_content_and_end() -> None:
    kinds = {"hash", "string", "set", "sorted set", "stream", "list", "channel"}
    for row in table():
        assert len(row) == 4
        assert row[1] in kinds
        assert row[2]
        assert row[3] or row[1] == "channel"


@given(st.integers(0, MAX_PARTITIONS - 1), st.text(), st.text(), st.text())
def test_all_keys_of_a_partition_share_its_hash_tag_whatever_the_ids_are(
    number: int, thread_id: str, namespace: str, checkpoint_id: str
) -> None:
    at = Partition("ry", number)
    for key in (
        at.leases, at.waiting, at.due, at.ended, at.rollbacks, at.threads, at.thread(thread_id),
        at.thread_runs(thread_id), at.thread_queue(thread_id), at.namespaces(thread_id), at.loose(thread_id),
        at.checkpoints(thread_id, namespace), at.channels(thread_id, namespace),
        at.checkpoint(thread_id, namespace, checkpoint_id), at.run(thread_id), at.events(thread_id),
        at.branches(thread_id), at.run_checkpoints(thread_id), at.item(namespace), at.items(namespace),
        at.item_namespaces, at.items_expiring,
    ):  # fmt: skip
        tag = re.search(r"\{(.*?)\}", key, re.DOTALL)  # Redis Cluster: the first { and the first } after it
        assert tag is not None
        assert tag[1] == str(number)


def test_different_functions_never_make_the_same_key() -> None:
    made = list(all_made().values())
    assert len(set(made)) == len(made)


@given(st.integers(1, MAX_PARTITIONS), st.uuids())
def test_a_run_is_found_in_the_partition_of_its_thread(partitions: int, thread_id: object) -> None:
    keys = Keys("ry", partitions)
    at = keys.of_thread(str(thread_id))
    run_id = new_run_id(at.number)
    assert keys.of_run(run_id) == at
    assert partition_of_run(run_id) == at.number
    assert at in keys.all()
    assert len(keys.all()) == partitions
