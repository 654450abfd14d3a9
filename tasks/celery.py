"""The Celery application: ``celery -A runyard.tasks.celery``. Workers are started by :mod:`runyard.tasks.worker`."""

from __future__ import annotations

import os
from typing import Any

import kombu
from celery import Celery, concurrency
from celery.app.amqp import AMQP

from runyard.engine.settings import Settings
from runyard.tasks.events import SteadyEvents
from runyard.tasks.settings import celery_settings
from runyard.tasks.taker import TakesOnLoop

#: The wait between two tries to reach a broker that is away grows to this.
LONGEST_WAIT_S = 2.0


class _Connection(kombu.Connection):
    """Kombu would wait longer each time, up to 30 s, and so long would a broker that is back wait for its workers."""

    def ensure_connection(self, *args: Any, **options: Any) -> kombu.Connection:
        waits = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": LONGEST_WAIT_S}
        return super().ensure_connection(*args, **{**waits, **options})


class _Amqp(AMQP):
    Connection = _Connection


# ``-P threads`` is our pool: it does what that one is for, many waiting tasks in one process, without the threads. The
# setting `worker_pool` will not do, since Celery lets it win over ``-P prefork``.
concurrency.ALIASES["threads"] = "runyard.tasks.pool:TaskPool"

app = Celery("runyard", amqp=_Amqp, include=["runyard.tasks.runs", "runyard.tasks.lifecycle"])
app.config_from_object(celery_settings(Settings.from_env(os.environ)))
app.steps["consumer"].update([SteadyEvents, TakesOnLoop])
