"""Ids, and the partition that an id belongs to.

Everything of a thread lives in one partition of the store (one Redis Cluster hash tag), chosen by the thread's id.
A run id is ours to make, so it carries its partition: a run is found by its id alone, in one read. It carries its
maker, too: the news of its end goes to those who listen for that process's runs, and not to every process.
"""

from __future__ import annotations

import os
import time
import uuid
import zlib

MAX_PARTITIONS = 4096  # what the 12 bits of a run id can name


def partition_of_thread(thread_id: str, partitions: int) -> int:
    """The partition of a thread: CRC-32 of its id, so that every process in any language agrees."""
    return zlib.crc32(thread_id.encode()) % partitions


def new_maker() -> str:
    """A name for a process that makes runs and waits for them: two hexadecimal digits. Two may have the same; then each
    hears of the other's runs, too."""
    return os.urandom(1).hex()


def new_run_id(partition: int, maker: str = "") -> str:
    """A UUIDv7 whose 12 bits after the version hold ``partition``, the next 10 the microsecond of its millisecond, and
    its last 8 ``maker`` (RFC 9562 leaves them to who makes it); without one nobody's in particular.

    Ids of a partition sort by creation time in microseconds; 44 random bits keep them unique and unguessable.
    """
    milliseconds, microsecond = divmod(time.time_ns() // 1_000, 1_000)
    random_bits = int.from_bytes(os.urandom(6) + bytes.fromhex(maker or new_maker()), "big") & ((1 << 52) - 1)
    high = (milliseconds & ((1 << 48) - 1)) << 16 | 0x7 << 12 | partition
    low = 0b10 << 62 | microsecond << 52 | random_bits
    return str(uuid.UUID(int=high << 64 | low))


def partition_of_run(run_id: str) -> int:
    """The partition a run id names. Any UUID names one; an id that is not ours names a place without the run."""
    return (uuid.UUID(run_id).int >> 64) & 0xFFF


def maker_of_run(run_id: str) -> str:
    """Who made a run, as :func:`new_maker` named it."""
    return run_id[-2:]


def new_thread_id() -> str:
    return str(uuid.uuid4())


def new_thread_id_in(partition: int, partitions: int) -> str:
    """A thread id of a given partition: made until one falls there, after ``partitions`` tries on average."""
    while partition_of_thread(thread_id := new_thread_id(), partitions) != partition:
        pass
    return thread_id


def is_uuid(value: object) -> bool:
    """Whether ``value`` is a UUID in its canonical text form, which is the only form used in keys."""
    try:
        return isinstance(value, str) and str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False
