"""The processes of a deployment, each one shell line. The Procfile and the compose file say the same, by test.

The lines live here because ``runyard up`` needs them where there is no checkout; none is special, and any can die.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """One line of the Procfile. ``drain_s`` is how long it may take to end what it has in hand after SIGTERM."""

    name: str
    command: str
    drain_s: float


#: Threads are for short requests: who listens or waits for long is moved to the relay, which needs none.
WEB = Process(
    "web",
    "gunicorn --worker-class runyard.app.web_worker.WebWorker"
    " --workers ${RUNYARD_WEB_WORKERS:-2} --threads ${RUNYARD_WEB_THREADS:-64}"
    " --bind ${RUNYARD_HOST:-127.0.0.1}:${RUNYARD_PORT:-8123} --graceful-timeout 10 --no-control-socket"
    " --logger-class runyard.app.web_log.WebLog"
    ' "runyard.app.factory:create_app()"',
    drain_s=15.0,
)
#: Mingle and gossip are a second of start-up for what no worker of ours asks another. -E is what Flower reads. The
#: shell puts the process id in the name: RabbitMQ locks a worker's mailbox by its name, and Flower tells workers apart
#: by it.
WORKER = Process(
    "worker",
    "runyard-worker -n worker-$$@%h -P threads -c ${RUNYARD_CONCURRENCY:-1000}"
    " -Q ${RUNYARD_QUEUE:-default} --without-mingle --without-gossip -E",
    drain_s=30.0,
)
WORKER_CPU = Process(
    "worker-cpu",
    "runyard-worker -n worker-cpu-$$@%h -P prefork -c ${RUNYARD_CPU_CONCURRENCY:-2} -Q cpu"
    " --without-mingle --without-gossip -E",
    drain_s=30.0,
)
FLOWER = Process(
    "flower",
    "runyard flower --address ${FLOWER_ADDRESS:-127.0.0.1} --port ${FLOWER_PORT:-5555}",
    drain_s=5.0,
)

PROCESSES = (WEB, WORKER, WORKER_CPU, FLOWER)
