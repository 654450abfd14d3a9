"""The tasks. A message is only a wake-up: the run is in the store, and the claim decides who takes it.

What a task returns or raises is for people who look at the queue: nothing reads it.
"""

from __future__ import annotations

import secrets
from typing import Any

from runyard.engine.advance import advance, advance_branch
from runyard.engine.delivery import deliver
from runyard.engine.outcomes import branch_in_words, failure_in_words, in_words
from runyard.engine.run import Run
from runyard.tasks.celery import app
from runyard.tasks.coroutine import CoroutineTask
from runyard.tasks.lifecycle import current
from runyard.tasks.wake import ADVANCE, BRANCH, WEBHOOK, RunFailed


class Said:
    """Words that are shown as they are: of text Celery would show the quotes."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return self._words


class Told:
    """What came of a wake-up."""

    __slots__ = ("_failure", "_run_id", "_said", "_words")

    def __init__(self, run_id: str, words: Any = in_words) -> None:
        self._run_id, self._words = run_id, words
        self._said, self._failure = "nothing to do", ""

    def __call__(self, run: Run, outcome: Any) -> None:
        failure = failure_in_words(outcome)
        self._said = failure or self._words(outcome)
        if run.run_id != self._run_id:  # a wake-up only says that there is something to do
            self._said = f"{self._said} (run {run.run_id})"
        self._failure = self._said if failure else ""

    def result(self) -> Said:
        """Raises RunFailed for a run that failed for good."""
        if self._failure:
            raise RunFailed(self._failure)
        return Said(self._said)


@app.task(base=CoroutineTask, name=ADVANCE, throws=(RunFailed,))
async def advance_run(run_id: str) -> Said:
    """Take a run one slice forward."""
    process, told = await current(), Told(run_id)
    await process.send(await advance(process.worker, run_id, secrets.token_hex(8), told))
    process.end_if_spent()
    return told.result()


@app.task(base=CoroutineTask, name=BRANCH, throws=(RunFailed,))
async def run_branch(run_id: str, branch: str) -> Said:
    """Run one branch of a superstep that was spread over workers."""
    process, told = await current(), Told(run_id, branch_in_words)
    await process.send(await advance_branch(process.worker, run_id, branch, secrets.token_hex(8), told))
    process.end_if_spent()
    return told.result()


@app.task(base=CoroutineTask, name=WEBHOOK)
async def deliver_webhook(run_id: str) -> None:
    """Tell a run's webhook of its end."""
    process = await current()
    await process.send(await deliver(process.worker, run_id))
