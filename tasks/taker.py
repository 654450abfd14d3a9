"""Takes wake-ups out of a Redis broker on the event loop that acts on them, in place of Celery's own consumer.

Celery's main thread would take each, hand it to the loop, and be woken again to acknowledge it, and for each of that
the two threads would wait for the interpreter's lock: a twelfth of what a run of ten nodes costs a worker. Here the
main thread does what is left: it hears remote control, tells Flower, and sees the broker go and come back. Of all other
brokers (RabbitMQ, Sentinel), and in prefork workers, Celery takes the messages itself.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, wait
from typing import Any

import kombu
import orjson
import redis
import redis.asyncio
import structlog
from celery import bootsteps
from celery.exceptions import InvalidTaskError
from celery.utils.functional import noop
from celery.worker.consumer.tasks import Tasks
from hiredis import pack_command
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.transport import virtual
from kombu.transport.redis import Channel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from runyard.engine.store.pipe import Pipe
from runyard.tasks.coroutine import CoroutineTask
from runyard.tasks.loop import the_loop
from runyard.tasks.pool import TaskPool
from runyard.tasks.wake import BROKER_AWAY

log = structlog.get_logger(__name__)
Json = dict[str, Any]

#: How long the broker holds an answer back while there is nothing to take: so long may a worker take to stop.
HOLD_S = 1
#: It is away when it has not answered for so much longer.
LATE_S = 2.0
#: Between two tries to reach a broker that is away.
PAUSE_S = 0.5

_ON_THE_LOOP = {
    redis.Connection: redis.asyncio.Connection,
    redis.SSLConnection: redis.asyncio.SSLConnection,
    redis.UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
}


class TakesOnLoop(bootsteps.StartStopStep):  # type: ignore[misc]
    """Puts a taker in the place of what Celery has made to consume messages with, where that can be."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Called anew whenever the broker is back."""
        if isinstance(consumer.pool, TaskPool) and type(consumer.task_consumer.channel) is Channel:
            consumer.task_consumer = Taker(consumer)

    def stop(self, consumer: Any) -> None:
        """A worker that ends waits for its taker, ahead of what is in hand; one that connects anew does not."""
        if isinstance(consumer.task_consumer, Taker):
            consumer.task_consumer.cancel()
            if consumer.blueprint.state != bootsteps.RUN:
                consumer.task_consumer.join()


class Taker(kombu.Consumer):  # type: ignore[misc]
    """To Celery a consumer like its own. One wake-up at a time, and only when there is a place for it in the pool.

    What is not an ordinary wake-up (an unknown task, an ``eta``, a rate limit) goes to Celery's thread, and the way
    that Celery has for it.
    """

    def __init__(self, consumer: Any) -> None:
        """``consumer`` is the worker's, with the consumer of messages that it would use."""
        given = consumer.task_consumer
        super().__init__(given.channel, given.queues, accept=given.accept, on_decode_error=given.on_decode_error)
        self._celery, self._loop = consumer, the_loop().loop
        self._params = given.channel._connparams()  # noqa: SLF001 - kombu has no other way to say how it connects
        #: When each queue was taken from last, counted: the others are asked first.
        self._turns: dict[str, int] = {}
        self._work: Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = self._asking = False

    # --- what Celery calls, from its thread

    def consume(self, no_ack: bool | None = None) -> None:  # noqa: ARG002 - kombu's signature
        """Take messages of all its queues from now on."""
        if self._work is None:
            self._work = asyncio.run_coroutine_threadsafe(self._take(), self._loop)

    def cancel(self) -> None:
        """Take no more. What the broker hands out meanwhile is put back."""
        self._loop.call_soon_threadsafe(self._stop)

    close = cancel

    def join(self) -> None:
        """Wait until it has stopped."""
        if self._work is not None:
            wait([self._work], timeout=HOLD_S + LATE_S + 1)

    def consuming_from(self, queue: Any) -> bool:
        return getattr(queue, "name", queue) in {known.name for known in self.queues}

    def cancel_by_queue(self, queue: Any) -> None:
        self.queues = [known for known in self.queues if known.name != getattr(queue, "name", queue)]

    # --- on the loop

    def _stop(self) -> None:
        self._stopping = True
        if self._task is not None and not self._asking:
            self._task.cancel()

    async def _take(self) -> None:
        self._task = asyncio.current_task()
        while not self._stopping:
            try:
                await self._take_from_broker()
            except BROKER_AWAY as error:
                log.warning("worker.broker_away", error=str(error))
            except Exception:  # nobody else would take anything in this process
                log.exception("worker.cannot_take")
            if not self._stopping:
                await asyncio.sleep(PAUSE_S)

    async def _take_from_broker(self) -> None:
        connection = self._connection()
        try:
            await connection.connect()
            pipe = Pipe(connection, timeout_s=HOLD_S + LATE_S)
            while not self._stopping:
                await self._take_one(pipe)
        finally:
            await connection.disconnect(nowait=True)

    def _connection(self) -> Any:
        """As Celery's thread has one."""
        params = {**self._params, "retry": Retry(NoBackoff(), 0), "driver_info": None}
        del params["max_connections"]
        return _ON_THE_LOOP[params.pop("connection_class")](**params)

    async def _take_one(self, pipe: Pipe) -> None:
        keys = self._keys()
        if not keys:
            return await asyncio.sleep(HOLD_S)
        await self._celery.pool.place()
        self._asking = True
        try:
            taken = await _asked(pipe, "BRPOP", *keys, HOLD_S)
            if taken is not None and self._stopping:
                await _asked(pipe, "RPUSH", *taken)
            elif taken is not None:
                self._note_turn(taken[0])
                self._act(taken[1])
        finally:
            self._asking = False
        return None

    def _keys(self) -> list[str]:
        """The lists to take from: by priority, and among queues the one first whose turn is longest ago."""
        names = sorted([queue.name for queue in self.queues], key=lambda name: self._turns.get(name, 0))
        sep = self.channel.sep
        return [f"{name}{sep}{step}" if step else name for step in self.channel.priority_steps for name in names]

    def _note_turn(self, key: bytes) -> None:
        self._turns[key.decode().partition(self.channel.sep)[0]] = max(self._turns.values(), default=0) + 1

    def _act(self, letter: bytes) -> None:
        try:
            message = _Message(orjson.loads(letter), channel=self.channel, accept=self.accept)
            if not self._is_ordinary(message.headers) or not self._begun(message):
                self._celery.call_soon(self.on_message, message)
        except Exception:  # one message that cannot be read, and the next ones are to be taken all the same
            log.exception("worker.message_not_understood")

    def _is_ordinary(self, headers: Json) -> bool:
        name = headers.get("task")
        return (
            isinstance(self._celery.app.tasks.get(name), CoroutineTask)
            and not headers.get("eta")
            and not self._celery.task_buckets[name]
        )

    def _begun(self, message: _Message) -> bool:
        """Start the task, here and now. A message that has been popped needs no acknowledgement."""
        try:
            self._celery.strategies[message.headers["task"]](message, None, noop, noop, self._celery.on_task_message)
        except (InvalidTaskError, ContentDisallowed, DecodeError):
            return False
        return True


class _Message(virtual.Message):  # type: ignore[misc]
    """One whose body is read as quickly as it can be."""

    def decode(self) -> Any:
        if self.content_type != "application/json" or b"__type__" in self.body:  # JSON for what kombu makes of it
            return super().decode()
        if self._decoded_cache is None:
            self._decoded_cache = orjson.loads(self.body)
        return self._decoded_cache


async def _asked(pipe: Pipe, *words: str | bytes | int) -> Any:
    [reply] = await pipe.exchange(pack_command(words), 1)
    if isinstance(reply, Exception):
        raise reply
    return reply
