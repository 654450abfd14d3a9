"""The only place that touches LangGraph's private parts. ``tests/unit/test_seam.py`` fails loudly when they move.

Verified with langgraph 1.2.22, which is why setup.cfg pins the minor version.

One private hook does most of it: ``configurable["__pregel_runner_submit"]`` sees every task of a superstep before it
starts (:mod:`runner`). A bubble-up raised from the future it returns leaves that task without writes and stops no
sibling.
"""

from langgraph._internal._constants import (
    CONFIG_KEY_RUNNER_SUBMIT as RUNNER_SUBMIT,
    CONFIG_KEY_STREAM_MESSAGES_V2,
    ERROR,
    INTERRUPT,
    NULL_TASK_ID,
)
from langgraph.constants import START

from runyard.engine.seam import alone as _alone, quick as _quick  # noqa: F401 - they take their places in LangGraph
from runyard.engine.seam.executor import Executor
from runyard.engine.seam.graphs import (
    Routes,
    StepsLeft,
    bind,
    channel_at,
    forgets,
    may_stop,
    node_metadata,
    routes,
    runs_nothing_next,
    tells_values,
    with_events,
    writes_of,
)
from runyard.engine.seam.queue import StreamQueue
from runyard.engine.seam.runner import Afterwards, Begin, Execute, NotHere, Once, TaskRunner
from runyard.engine.seam.saved import interrupts_of, outputs_of, stopped_at_breakpoint
from runyard.engine.seam.shapes import Shape, difference, fingerprint, shape, waiting_nodes
from runyard.engine.seam.tasks import (
    destinations,
    failed_of,
    is_root,
    is_sent,
    is_sync,
    stand_in,
    step_of,
)
from runyard.engine.seam.untold import InsideNodes

#: Set in `configurable`, models tell their messages as content blocks instead of chunks.
CONTENT_BLOCKS = CONFIG_KEY_STREAM_MESSAGES_V2

__all__ = [
    "CONTENT_BLOCKS", "ERROR", "INTERRUPT", "NULL_TASK_ID", "RUNNER_SUBMIT", "START", "Afterwards", "Begin",
    "Execute", "Executor", "InsideNodes", "NotHere", "Once", "Routes", "Shape", "StepsLeft", "StreamQueue",
    "TaskRunner", "bind", "channel_at", "destinations", "difference", "failed_of", "fingerprint", "forgets",
    "interrupts_of", "is_root", "is_sent", "is_sync", "may_stop", "node_metadata", "outputs_of", "routes",
    "runs_nothing_next", "shape", "stand_in", "step_of", "stopped_at_breakpoint", "tells_values", "waiting_nodes",
    "with_events", "writes_of",
]  # fmt: skip
