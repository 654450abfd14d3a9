"""``runyard-worker``: Celery's own worker command, with all its options.

``celery -A runyard.tasks.celery worker`` is the same, but loads Celery's other commands first, Flower and an
interactive prompt among them: 10 MB that a worker has no use for.
"""

from __future__ import annotations

from celery.bin.base import CLIContext
from celery.bin.worker import worker

from runyard.tasks.celery import app


def main() -> None:
    """Run a worker until it is told to stop."""
    worker.main(obj=CLIContext(app=app, no_color=False, workdir=None), auto_envvar_prefix="CELERY_WORKER")
