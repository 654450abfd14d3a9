"""How often a long-lived process looks for cyclic garbage."""

from __future__ import annotations

import gc

#: Allocations between two looks at the youngest objects, and looks between two at each older generation. Python's own
#: (700, 10, 10) comes from small programs: a run allocates thousands of objects, and nearly all are freed without it.
THRESHOLDS = (20_000, 20, 20)


def spare() -> None:
    """Call when a process has loaded what it serves: that stays, so the collector need never look at it again.

    A seventh of a worker's time went into walking modules and graphs that cannot be garbage. What is loaded later is
    collected as ever. Safe to call again, and in a child after a fork.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
