"""Ids: a run names its partition, a thread's is computed, both the same in every process."""

from __future__ import annotations

import time
import uuid

from hypothesis import given, strategies as st

from runyard.engine.ids import (
    MAX_PARTITIONS,
    is_uuid,
    maker_of_run,
    new_maker,
    new_run_id,
    new_thread_id,
    partition_of_run,
    partition_of_thread,
)


@given(st.integers(0, MAX_PARTITIONS - 1))
def test_a_run_id_names_the_partition_it_was_made_for(partition: int) -> None:
    assert partition_of_run(new_run_id(partition)) == partition


@given(st.integers(0, MAX_PARTITIONS - 1))
def test_a_run_id_is_a_uuid_of_version_7(partition: int) -> None:
    made = uuid.UUID(new_run_id(partition))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert abs((made.int >> 80) - time.time() * 1000) < 60_000


def test_run_ids_sort_by_the_time_they_were_made_whatever_their_partition() -> None:
    early = new_run_id(MAX_PARTITIONS - 1)
    began = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= began:
        pass
    assert new_run_id(0) > early


def test_run_ids_of_a_partition_sort_by_the_microsecond_they_were_made_in() -> None:
    made = []
    for _ in range(3_000):  # several milliseconds
        began = time.time_ns() // 1_000
        while time.time_ns() // 1_000 <= began:
            pass
        made.append(new_run_id(7))
    assert made == sorted(made)


@given(st.integers(0, MAX_PARTITIONS - 1))
def test_a_run_id_names_who_made_it(partition: int) -> None:
    maker = new_maker()
    made = new_run_id(partition, maker)
    assert (maker_of_run(made), partition_of_run(made), uuid.UUID(made).version) == (maker, partition, 7)


def test_ids_do_not_repeat() -> None:
    assert len({new_run_id(1) for _ in range(10_000)}) == 10_000
    assert new_thread_id() != new_thread_id()


def test_the_partition_of_a_thread_is_the_same_in_every_process_and_version() -> None:
    """These are in stores: a change here would lose every thread."""
    assert partition_of_thread("a0f2d8a6-5d8c-4c5b-9b0e-1f6f4f0c7d11", 16) == 9
    assert partition_of_thread("any text a client chose", 16) == 1
    assert partition_of_thread("", 16) == 0


@given(st.text(), st.integers(1, MAX_PARTITIONS))
def test_every_thread_id_has_a_partition_of_the_store(thread_id: str, partitions: int) -> None:
    assert 0 <= partition_of_thread(thread_id, partitions) < partitions


def test_threads_spread_over_the_partitions() -> None:
    counts = [0] * 16
    for _ in range(16_000):
        counts[partition_of_thread(new_thread_id(), 16)] += 1
    assert min(counts) > 800


@given(st.one_of(st.text(), st.none(), st.integers(), st.binary()))
def test_what_is_not_a_uuid_in_its_usual_form_is_none(value: object) -> None:
    assert not is_uuid(value) or isinstance(value, str)
    for wrong in ("", "x", "0" * 32, "{a0f2d8a6-5d8c-4c5b-9b0e-1f6f4f0c7d11}", "urn:uuid:" + new_thread_id()):
        assert not is_uuid(wrong)


@given(st.uuids())
def test_every_uuid_in_its_usual_form_is_one_and_names_some_partition(value: uuid.UUID) -> None:
    assert is_uuid(str(value))
    assert 0 <= partition_of_run(str(value)) < MAX_PARTITIONS
