"""The tasks. A message is only a wake-up: the run is in the store, and the claim decides who takes it."""

from __future__ import annotations

import secrets

from runyard.engine.advance import advance, advance_branch
from runyard.engine.delivery import deliver
from runyard.tasks.celery import app
from runyard.tasks.lifecycle import current
from runyard.tasks.wake import ADVANCE, BRANCH, WEBHOOK


@app.task(name=ADVANCE)
def advance_run(run_id: str) -> None:
    """Take a run one slice forward."""
    process = current()
    process.run(process.wake_after(advance(process.worker, run_id, secrets.token_hex(8))))
    process.end_if_spent()


@app.task(name=BRANCH)
def run_branch(run_id: str, branch: str) -> None:
    """Run one branch of a superstep that was spread over workers."""
    process = current()
    process.run(process.wake_after(advance_branch(process.worker, run_id, branch, secrets.token_hex(8))))
    process.end_if_spent()


@app.task(name=WEBHOOK)
def deliver_webhook(run_id: str) -> None:
    """Tell a run's webhook of its end."""
    process = current()
    process.run(process.wake_after(deliver(process.worker, run_id)))
