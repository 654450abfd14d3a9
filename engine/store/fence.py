"""The condition under which a write of a run is applied."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fence:
    """``HGET key field`` must equal ``value`` ("" also stands for "not set"), checked inside the writing script.

    A slice's fence is its run's ``lease`` field and its token; a branch's is its own field in the run's branches; an
    edit of a thread's state by a client demands that the thread has no ``active`` run. A write whose fence does not
    hold changes nothing and raises LeaseLost.
    """

    key: str
    field: str
    value: str
