"""Wake-ups in the form in which the broker keeps them, for a store that is the broker, too.

The script that records a run can then send its wake-up as well: one trip, and no moment in between. Celery and kombu
write the first message of a kind; the next ones differ from it in their ids only.
"""

from __future__ import annotations

import base64
import uuid
from typing import Any

import kombu
from celery import Celery
from kombu.transport import virtual
from kombu.utils.json import dumps

from runyard.engine.run import Wake
from runyard.tasks.wake import message_of

_RUN, _TASK, _TAG = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
Json = dict[str, Any]


class Letters:
    """``letters(wake)`` is the list and the entry that wake a run. Thread-safe: at worst a form is made twice."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._forms: dict[tuple[str, str], tuple[bytes, bytes]] = {}

    def __call__(self, wake: Wake) -> tuple[str, bytes]:
        known = wake.queue, wake.label
        if known not in self._forms:
            self._forms[known] = self._form(wake)
        form, body = self._forms[known]
        filled = base64.b64encode(body.replace(_RUN.encode(), wake.run_id.encode()))
        form = form.replace(b'"body": ""', b'"body": "%b"' % filled).replace(_RUN.encode(), wake.run_id.encode())
        own = str(uuid.uuid4()).encode()  # one does: the task's id and the delivery's are never looked for together
        for blank in (_TASK, _TAG):
            form = form.replace(blank.encode(), own)
        return wake.queue, form

    def _form(self, wake: Wake) -> tuple[bytes, bytes]:
        """A message and its body, with ids to be replaced."""
        message = _written(self._app, Wake(run_id=_RUN, queue=wake.queue, graph_id=wake.graph_id, label=wake.label))
        body, message["body"] = base64.b64decode(message["body"]), ""
        message["properties"]["delivery_tag"] = _TAG
        return dumps(message).encode(), body


def _written(app: Celery, wake: Wake) -> Json:
    """What kombu would put into the queue."""
    with kombu.Connection(transport=_Transport) as connection, app.amqp.Producer(connection) as producer:
        app.send_task(**message_of(wake), task_id=_TASK, retry=False, producer=producer)
        message: Json = connection.default_channel.put
    return message


class _Channel(virtual.Channel):  # type: ignore[misc]
    """Keeps what would be sent."""

    put: Json

    def _put(self, queue: str, message: Json, **_: Any) -> None:  # noqa: ARG002 - kombu's signature
        self.put = message

    def _has_queue(self, queue: str, **_: Any) -> bool:  # noqa: ARG002 - kombu's signature
        return True

    def _size(self, queue: str) -> int:  # noqa: ARG002 - kombu's signature
        return 0


class _Transport(virtual.Transport):  # type: ignore[misc]
    Channel = _Channel
