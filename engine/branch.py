"""A branch: some tasks of a dispatched superstep, run by a worker of their queue under a lease of their own.

LangGraph is entered as for a slice, but only this branch's tasks start, and the superstep is never closed here: the
run's next slice does that, when the last branch has woken it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl
from langgraph.types import PregelExecutableTask

from runyard.engine import seam
from runyard.engine.doom import killed_for
from runyard.engine.errors import LeaseLost
from runyard.engine.feed import Feed
from runyard.engine.gate import Parks
from runyard.engine.given import answers
from runyard.engine.leases import Held, Stop
from runyard.engine.node import NodeRunner, WaitsForRetry
from runyard.engine.prepared import Opened, Prepared, begun_in, check_shape, prepare
from runyard.engine.run import Parked
from runyard.engine.saver import RedisSaver
from runyard.engine.slice import NOT_AN_OUTCOME, failure, quarantined, raise_if_no_outcome, stream
from runyard.engine.store import runs
from runyard.engine.worker import Worker

#: Given back unfinished, because the worker stops.
RETURNED = "returned"
#: None when all tasks have saved what they wrote, RETURNED, Parked, ``{"error": …}``, ``{"interrupted": [task ids]}``
#: or ``{"retry_at": ms}``.
Result = dict[str, Any] | str | Parked | None


class BranchSaver(RedisSaver):
    """Saves what nodes write; closing the run's superstep is not a branch's to do."""

    def take_checkpoint(self, config: RunnableConfig, /, *given: Any) -> Callable[[], Awaitable[None]] | None:
        if not config["configurable"].get("checkpoint_ns"):
            raise seam.NotHere("the superstep")
        return super().take_checkpoint(config, *given)


async def run_branch(worker: Worker, claim: runs.BranchClaim, held: Held) -> Result:
    """Run a branch's tasks. Raises LeaseLost and StoreUnavailable."""
    run = claim.run
    if run.crashes >= worker.settings.max_crashes and killed_for(claim.doom) is None:
        known = {"node": claim.branch.nodes[0]} if len(set(claim.branch.nodes)) == 1 else {}
        return {"error": {**quarantined(run), **known}}
    async with Opened() as opened:
        try:
            prepared = await prepare(worker, claim, opened, worker.steps(run, claim.fence), worker.branch_saver)
            await check_shape(worker, prepared, run)
        except NOT_AN_OUTCOME:
            raise
        except Exception as error:  # noqa: BLE001 - the graph cannot be loaded here: the run fails with the reason
            return {"error": failure(error).error}
        return await _run(worker, prepared, claim, held)


async def _run(worker: Worker, prepared: Prepared, claim: runs.BranchClaim, held: Held) -> Result:
    run, branch = claim.run, claim.branch
    steps = prepared.steps

    def admit(task: PregelExecutableTask, _: list[PregelExecutableTask]) -> None:
        if (seam.failed_of(task) or task.id) not in branch.task_ids:
            raise seam.NotHere(task.id)

    handled = prepared.graph.node_error_handler_map
    nodes = NodeRunner(
        worker,
        run,
        claim.fence,
        prepared.graph,
        prepared.policies,
        prepared.degraded,
        prepared.ledger,
        steps,
        claim.doom,
        branch.name,
        now_ms=claim.now_ms,
    )
    runner = seam.TaskRunner(
        admit,
        handled=handled,
        max_concurrency=prepared.config.get("max_concurrency"),
        saved=prepared.outputs,
        begun=begun_in(worker, prepared, run),
        execute=nodes,
        begin=nodes.begin,
        left=nodes.left,
    )
    feed = Feed(run.request, steps.tell, nodes_only=True, repeated=runner.restored)
    try:
        result = await _consume(prepared, claim, runner, nodes, feed, held)
    finally:
        if prepared.meter is not None:
            await prepared.meter.close()
    await steps.settle()
    return result


async def _consume(  # noqa: C901, PLR0911 - one result each
    prepared: Prepared, claim: runs.BranchClaim, runner: seam.TaskRunner, nodes: NodeRunner, feed: Feed, held: Held
) -> Result:
    try:
        async for part in stream(prepared, claim.run, answers(claim.run), runner, RunControl()):
            feed.take_part(part)
    except (seam.NotHere, WaitsForRetry, Parks):
        pass
    except asyncio.CancelledError:
        if held.stopped is Stop.SHUTDOWN:
            return RETURNED
        raise LeaseLost from None
    except NOT_AN_OUTCOME:
        raise
    except Exception as error:  # noqa: BLE001 - a node failed for good: the run's next slice ends it with this
        raise_if_no_outcome(runner.failures)
        return {"error": failure((runner.failures or [error])[0], None, nodes.failed).error}
    finally:
        feed.close()
        await runner.close()
        prepared.ledger.close()
    if runner.failures:
        raise_if_no_outcome(runner.failures)
        return {"error": failure(runner.failures[0], None, nodes.failed).error}
    if prepared.meter is not None and prepared.meter.edge is not None:
        return {"edge": dataclasses.asdict(prepared.meter.edge)}
    if nodes.gate.parked:
        waits = nodes.waits_until()
        return waits if isinstance(waits, Parked) else None
    if nodes.waits:
        return {"retry_at": round(time.time() * 1000 + min(nodes.waits) * 1000)}
    mine = [task_id for task_id in runner.interrupts if task_id in claim.branch.task_ids]
    return {"interrupted": mine} if mine else None
