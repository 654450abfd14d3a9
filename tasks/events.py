"""How the events that Flower lives on leave a worker: many at a time, and never from its event loop."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.worker.consumer.events import Events

from runyard.tasks.wake import BROKER_AWAY

#: How long an event may wait for others. Celery sends them with every turn of its loop, each time over a client that
#: kombu makes for it, and every 24th from whatever thread it happened in: here that is the loop that runs the graphs.
HOLD_S = 0.2
#: More than this in one message would be sent at once.
MOST_HELD = 100_000


class SteadyEvents(bootsteps.StartStopStep):  # type: ignore[misc]
    """Sends what has happened every HOLD_S, from the thread that consumes messages."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Called anew whenever the broker is back; the dispatcher is a new one then."""
        dispatcher = consumer.event_dispatcher
        if consumer.hub is None or not dispatcher.enabled:
            return  # without Celery's own loop events are not held at all
        dispatcher.on_send_buffered, dispatcher.buffer_limit = None, MOST_HELD
        self._timer = consumer.timer.call_repeatedly(HOLD_S, _flush, (dispatcher,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            _flush(consumer.event_dispatcher)

    shutdown = stop


def _flush(dispatcher: Any) -> None:
    """What cannot be sent is kept by the dispatcher and goes to the next one."""
    with suppress(*BROKER_AWAY):
        dispatcher.flush()
