"""Every key of the store. Nobody spells a key anywhere else.

``P`` stands for ``<prefix>:{<partition>}``; the braces make one Redis Cluster hash tag of a partition, so a script may
touch any keys of it together. ``<prefix>`` is ``ry`` unless the setting ``RUNYARD_PREFIX`` says otherwise.

A tenant other than the default has assistants and items to itself: for it ``{assistants}`` is ``{assistants/<tenant>}``
and ``P:item`` is ``P:of:<tenant>:item``. Threads and runs say in their records whose they are.

| key | type | content | gone when |
|---|---|---|---|
| `<prefix>:meta` | hash | number of partitions and version of this layout, checked at start; whether all threads are in the sets of their labels | never |
| `<prefix>:encryption` | hash | ids of the keys that values may be encrypted under, and their fingerprints | `runyard encryption renew` found no value under it any more |
| `<prefix>:leader` | string | the worker process that runs recovery now | it expires a few seconds after its last renewal |
| `<prefix>:queues` | hash | for each queue the ms of the newest wake-up that was consumed from it | never |
| `<prefix>:holding` | sorted set | queues of which some worker has taken wake-ups that it has not acted on yet, by the ms until which that is believed | never; one for each queue |
| `<prefix>:workers` | sorted set | worker process ids by the ms of their last sign of life | a minute after it |
| `<prefix>:worker:<id>` | hash | host, pid, queues, runs in hand, last wake-up consumed | it expires a minute after its last sign of life |
| `<prefix>:control` | channel | "look at this run" to all workers (cancelling) | – |
| `<prefix>:graph:<fingerprint>` | string | the shape of a graph that runs were started on, as JSON | never; one for each version of a graph |
| `<prefix>:{assistants}` | sorted set | ids of the assistants that clients made, by the ms of their making | with the assistant |
| `<prefix>:{assistants}:<id>` | hash | such an assistant at the version that is in force | deleted by the client |
| `<prefix>:{assistants}:<id>:versions` | hash | number of a version: the ms of its making, a space, what it says as JSON | with the assistant |
| `<prefix>:limits` | set | names of the limits that were ever used | never |
| `<prefix>:shares` | channel | "you have been given a share of a limit" to those that wait in their processes | – |
| `<prefix>:{limit:<name>}` | hash | a limit of the fleet: its figures, when the next may begin | never; one for each limit |
| `<prefix>:{limit:<name>}:held` | sorted set | who has a share, by the ms it ends without a sign of life | given back, or served past |
| `<prefix>:{limit:<name>}:queue` | sorted set | who waits for a share, in order of arrival | served, left, or silent for too long |
| `<prefix>:{limit:<name>}:seen` | sorted set | the same, by the ms until which they are believed to wait | as above |
| `<prefix>:{limit:<name>}:wakes` | hash | of parked waiters the run or branch to wake, and to wake again; places of those with a reserved share | as above |
| `<prefix>:{api_keys}` | sorted set | ids of API keys, by the ms of their making | never |
| `<prefix>:{api_keys}:<id>` | hash | an API key: name, tenant, scopes, instants, and a hash of its secret | never, also when it is revoked |
| `<prefix>:circuits` | set | names of the circuits that were ever used | never |
| `<prefix>:circuits:changed` | channel | "this circuit has changed" to all workers | – |
| `<prefix>:{circuit:<name>}` | hash | a circuit: mode, the window of its calls, who tries it, its thresholds | never; one for each circuit |
| `<prefix>:{circuit:<name>}:waiting` | sorted set | parked runs and branches to wake when it closes, by the ms until which they wait | woken, or their time is over |
| `<prefix>:{circuit:<name>}:log` | stream | how it changed, about the last hundred times | trimmed as it grows |
| `<prefix>:{spent:<tenant>:<day>}` | hash | what a tenant has spent in a day (UTC), and what was granted on top; only with a budget for it | it expires after 40 days |
| `<prefix>:{spent:<tenant>:<day>}:calls` | hash | its calls under way: until when they are believed to be (ms), tokens and cost they come to at most | they end, or a minute after the last |
| `<prefix>:{notices}` | sorted set | notices that are owed, one entry for each target, by the ms of the next attempt | delivered or given up |
| `<prefix>:{notices}:owed:<id>` | hash | such a delivery: the notice as JSON, its target's name, attempts | delivered, or a month after it was given up |
| `<prefix>:{notices}:failed` | sorted set | deliveries that were given up, by that ms | sent anew, or a month later |
| `<prefix>:{notices}:seen` | hash | how far dead letters and circuits were looked through for notices, in ms | never |
| `<prefix>:{notices}:told:<id>` | string | that a thing was told | it expires after a month |
| `<prefix>:{notices}:group:<name>` | hash | when something alike was told last, and how many were not told since | it expires after a day |
| `<prefix>:{notices}:rate:<name>` | string | notices of one kind and tenant in an hour | the hour is over |
| `<prefix>:rates:<name>` | string | requests in a window of a rate limit; `<name>` says whose and which | the window is over |
| `P:run:<run>` | hash | the run: request, phase, lease, counters, error | retention after its end, or deleted |
| `P:run:<run>:events` | stream | what the run told its readers | retention of events after its end |
| `P:run:<run>:branches` | hash | the parts of a superstep that went to other workers, and their leases | the superstep is complete |
| `P:run:<run>:attempts` | list | failed attempts of its nodes, oldest first, as JSON | with the run |
| `P:run:<run>:records` | stream | its ledger: attempts, tool and model calls, decisions, as JSON | with the run |
| `P:run:<run>:effects` | hash | what its nodes did to the world outside, each once | with the run |
| `P:run:<run>:webhook` | hash | what its webhook is to be told of its thread: values and their edits, interrupts | delivered, or with the run |
| `P:run:<run>:calls` | hash | calls of models and tools under way, as above; only with a budget for such | they end, or a minute after the last |
| `P:run:<run>:checkpoints` | set | where the checkpoints that a run made begin, `<thread>\\0<ns>\\0<id>`: of each slice the first in a namespace; not those of a copied thread | with those checkpoints |
| `P:thread:<thread>` | hash | the thread: metadata, active run, interrupts, latest values: `values`, and up to 32 edits that make the latest of them (`edits` says how many, `values:<n>`) | deleted by a client, or with the one run it was made for |
| `P:thread:<thread>:runs` | sorted set | its runs by the ms of their making | with the thread |
| `P:thread:<thread>:queue` | sorted set | its runs that wait for the one before them, by order of arrival | empty |
| `P:thread:<thread>:calls` | hash | the same of all its runs | as above |
| `P:thread:<thread>:crons` | set | crons that start runs on it | with the cron, or with the thread |
| `P:thread:<thread>:log` | stream | its runs that told something, in order, each with the number of its beginning | with the thread, or a day after its newest run began to tell |
| `P:thread:<thread>:results` | stream | large results of its runs that it no longer shows: `r` the run, `b` what makes its values from those after them, or `v` the values and an `e` for each of their edits | with the thread, or when events of that time are gone |
| `P:thread:<thread>:namespaces` | set | checkpoint namespaces in use | with the thread |
| `P:thread:<thread>:loose` | set | `<ns>\\0<id>` of checkpoints that have pending writes and were not put (yet) | the checkpoint is put, its namespace has none left, pruned, or with the thread |
| `P:thread:<thread>:checkpoints:<ns>` | sorted set | checkpoint ids at score 0: lexical order, which is their order in time | with the thread |
| `P:thread:<thread>:checkpoint:<ns>:<id>` | hash | one checkpoint and its pending writes; fields in `checkpoints.py` | pruned, its run deleted, or with the thread |
| `P:thread:<thread>:channels:<ns>` | hash | `<channel>\\0<version>`: one value, stored once for all checkpoints that need it | no checkpoint needs it |
| `P:threads` | sorted set | threads by the ms of their last change | with the thread |
| `P:threads:<tenant>` | sorted set | the same of a tenant other than the default, which are not in the list above | with the thread |
| `P:labels:<tenant>:<label>` | set | threads with a label of their metadata, named by a digest of it (`labels.py`), or by `many`: with more labels than are kept; nothing for the default tenant | the threads' labels change, or with the threads |
| `P:leases` | sorted set | runs and branches in hand, by the ms their lease ends | the slice ends, or recovery reaps it |
| `P:waiting` | sorted set | runs and branches that were woken, by the ms of the wake-up | a worker claims them |
| `P:lines:<queue>` | sorted set | tenants with waiting runs, by the ms of their last turn; only where some have a tenant or a priority | its lines are empty |
| `P:line:<queue>:<tenant>` | sorted set | a tenant's waiting runs, by priority and time | a worker claims them, or finds that they do not wait |
| `P:due` | sorted set | runs that wait for a time, by that ms | recovery promotes them |
| `P:cuts` | sorted set | runs of which a fan-out is to be cut off on other workers, by that ms | the time has come |
| `P:ended` | sorted set | runs that ended, by the ms of their end | pruned |
| `P:ends:<maker>` | channel | each run that has just ended, to those who listen for its maker's (the last two digits of its id; the web process that made it listens for its own): `<run>`, and with it ` <id> <data>` of its last event, unless that is above 8 kB | – |
| `P:deadlines` | sorted set | runs that must have ended by a time, by that ms | with their end |
| `P:dead` | sorted set | dead letters: runs that failed for good, by the ms of their end | revived, discarded or pruned |
| `P:dead:<tenant>` | sorted set | those of a tenant, nothing for the default one; they are in the list above, too | revived, discarded or pruned |
| `P:cron:<cron>` | hash | a cron: what it says as JSON, when it fires next, the run it started last | deleted by the client, or with its thread |
| `P:crons` | sorted set | crons by the ms of their making | with the cron |
| `P:crons_due` | sorted set | crons that are to fire, by the ms of the next time | disabled, past their end, or with the cron |
| `P:webhooks` | sorted set | ended runs whose webhook is not delivered yet, by the ms a wake-up is sent for it | delivered or given up |
| `P:webhooks_failed` | sorted set | ended runs whose webhook was given up, by that ms | sent anew, or with the run |
| `P:idempotency:<name>` | hash | the run that an Idempotency-Key has made, and a digest of its request; `<name>` is a digest of tenant, thread and key | a day after it was made |
| `P:item:<name>` | hash | one item of the long-term store: value, instants, time to live, float32 vectors of its texts; `<name>` is `<ns>\\0\\0<key>` | deleted, or its time to live is over |
| `P:items:<ns>` | sorted set | keys of a namespace's items by order of their making | with its items |
| `P:item_namespaces` | sorted set | namespaces that have items, at score 0: labels joined by `\\0`, so that a prefix is a range | with its items |
| `P:items_expiring` | sorted set | `<name>` of items that have a time to live, by the ms of its end | the item is gone, or may stay |
| `P:stale:<node>` | sorted set | digests of the inputs for which a good result of a node is kept, by its ms | its last result's age is over |
| `P:stale:<node>:<digest>` | string | a good result of a node and its ms, for when the node fails | it is too old, or there are 1000 newer ones of the node |
| `P:ttl` | sorted set | threads with a time to live, by the ms it is next looked at | swept by recovery, when the thread has none any more |
| `P:asking` | sorted set | runs that wait for a person, by the ms they are next looked at; only where somebody is told, or answers expire | answered, or nothing is left to do for it |
| `P:rollbacks` | sorted set | cancelled runs whose checkpoints are being removed, by the ms of their end | removed |
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from functools import lru_cache

from runyard.engine.ids import partition_of_run, partition_of_thread
from runyard.engine.vault import Vault

#: Raised whenever the meaning of a key changes; a store of another layout is refused at start.
LAYOUT = 1


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one store. ``partitions`` is fixed for the life of a store."""

    prefix: str = "ry"
    partitions: int = 16
    #: Whose assistants and items are meant; empty: the default tenant's.
    tenant: str = ""
    #: What encrypts values that are kept; None: nothing does.
    vault: Vault | None = None

    def seal(self, data: bytes, *owners: str) -> bytes:
        """``data`` as it is to be kept: encrypted, where that is set up, for its owners; a reader whose call names one
        of them in its keys is given it as it was."""
        return data if self.vault is None else self.vault.seal(data, *owners)

    def of_tenant(self, tenant: str) -> Keys:
        return self if tenant == self.tenant else replace(self, tenant=tenant)

    def of_thread(self, thread_id: str) -> Partition:
        return _partition(self.prefix, partition_of_thread(thread_id, self.partitions))

    def of_run(self, run_id: str) -> Partition:
        """The partition a run id names; an id that is not ours may name one that is never used, which is harmless."""
        return _partition(self.prefix, _number_of_run(run_id))

    def of_namespace(self, namespace: tuple[str, ...]) -> Partition:
        """Items of one first label share a partition, so a search below it is one partition's."""
        root = namespace[0] if namespace else ""
        return Partition(self.prefix, zlib.crc32(f"{self.tenant}{root}".encode()) % self.partitions, self.tenant)

    def all(self) -> list[Partition]:
        return [Partition(self.prefix, number, self.tenant) for number in range(self.partitions)]

    @property
    def meta(self) -> str:
        return f"{self.prefix}:meta"

    @property
    def encryption(self) -> str:
        return f"{self.prefix}:encryption"

    @property
    def leader(self) -> str:
        return f"{self.prefix}:leader"

    @property
    def workers(self) -> str:
        return f"{self.prefix}:workers"

    @property
    def control(self) -> str:
        return f"{self.prefix}:control"

    @property
    def assistants(self) -> str:
        of = f"/{self.tenant}" if self.tenant else ""
        return f"{self.prefix}:{{assistants{of}}}"

    @property
    def api_keys(self) -> str:
        return f"{self.prefix}:{{api_keys}}"

    @property
    def queues(self) -> str:
        return f"{self.prefix}:queues"

    @property
    def holding(self) -> str:
        return f"{self.prefix}:holding"

    @property
    def limits(self) -> str:
        return f"{self.prefix}:limits"

    @property
    def shares(self) -> str:
        return f"{self.prefix}:shares"

    @property
    def circuits(self) -> str:
        return f"{self.prefix}:circuits"

    @property
    def circuits_changed(self) -> str:
        return f"{self.prefix}:circuits:changed"

    def circuit(self, name: str) -> str:
        return f"{self.prefix}:{{circuit:{name}}}"

    def circuit_waiting(self, name: str) -> str:
        return f"{self.circuit(name)}:waiting"

    def circuit_log(self, name: str) -> str:
        return f"{self.circuit(name)}:log"

    def circuit_all(self, name: str) -> tuple[str, str, str]:
        """The three keys of a circuit; they share a hash tag."""
        return self.circuit(name), self.circuit_waiting(name), self.circuit_log(name)

    def spent(self, tenant: str, day: str) -> str:
        return f"{self.prefix}:{{spent:{tenant}:{day}}}"

    def spent_calls(self, tenant: str, day: str) -> str:
        return f"{self.spent(tenant, day)}:calls"

    def limit(self, name: str) -> str:
        return f"{self.prefix}:{{limit:{name}}}"

    def limit_held(self, name: str) -> str:
        return f"{self.limit(name)}:held"

    def limit_queue(self, name: str) -> str:
        return f"{self.limit(name)}:queue"

    def limit_seen(self, name: str) -> str:
        return f"{self.limit(name)}:seen"

    def limit_wakes(self, name: str) -> str:
        return f"{self.limit(name)}:wakes"

    def limit_all(self, name: str) -> tuple[str, str, str, str, str]:
        """The five keys of a limit; they share a hash tag."""
        return (
            self.limit(name), self.limit_held(name), self.limit_queue(name), self.limit_seen(name), self.limit_wakes(name)
        )  # fmt: skip

    def graph(self, fingerprint: str) -> str:
        return f"{self.prefix}:graph:{fingerprint}"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}:worker:{worker_id}"

    def api_key(self, key_id: str) -> str:
        return f"{self.api_keys}:{key_id}"

    def rate(self, name: str) -> str:
        return f"{self.prefix}:rates:{name}"

    @property
    def notices(self) -> str:
        return f"{self.prefix}:{{notices}}"

    @property
    def notices_failed(self) -> str:
        return f"{self.notices}:failed"

    @property
    def notices_seen(self) -> str:
        return f"{self.notices}:seen"

    def notice(self, id_: str) -> str:
        return f"{self.notices}:owed:{id_}"

    def notice_told(self, id_: str) -> str:
        return f"{self.notices}:told:{id_}"

    def notice_group(self, name: str) -> str:
        return f"{self.notices}:group:{name}"

    def notice_rate(self, name: str) -> str:
        return f"{self.notices}:rate:{name}"

    def assistant(self, assistant_id: str) -> str:
        return f"{self.assistants}:{assistant_id}"

    def assistant_versions(self, assistant_id: str) -> str:
        return f"{self.assistants}:{assistant_id}:versions"


_number_of_run = lru_cache(maxsize=4096)(partition_of_run)


def tells_ends(channel: str) -> bool:
    """Whether a channel is one of :meth:`Partition.ends`."""
    return channel[-8:-2] == ":ends:"


@dataclass(frozen=True, slots=True)
class Partition:
    """The keys of one partition; all of them share its hash tag."""

    prefix: str
    number: int
    #: Whose items are meant.
    tenant: str = ""
    #: What all its keys begin with.
    tag: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tag", f"{self.prefix}:{{{self.number}}}")

    @property
    def _own(self) -> str:
        return f"{self.tag}:of:{self.tenant}:" if self.tenant else f"{self.tag}:"

    @property
    def leases(self) -> str:
        return f"{self.tag}:leases"

    @property
    def waiting(self) -> str:
        return f"{self.tag}:waiting"

    def lines(self, queue: str) -> str:
        return f"{self.tag}:lines:{queue}"

    def line(self, queue: str, tenant: str) -> str:
        return f"{self.tag}:line:{queue}:{tenant}"

    @property
    def due(self) -> str:
        return f"{self.tag}:due"

    @property
    def cuts(self) -> str:
        return f"{self.tag}:cuts"

    @property
    def ended(self) -> str:
        return f"{self.tag}:ended"

    def ends(self, maker: str) -> str:
        return f"{self.tag}:ends:{maker}"

    @property
    def asking(self) -> str:
        return f"{self.tag}:asking"

    @property
    def deadlines(self) -> str:
        return f"{self.tag}:deadlines"

    @property
    def dead(self) -> str:
        return f"{self.tag}:dead"

    @property
    def rollbacks(self) -> str:
        return f"{self.tag}:rollbacks"

    @property
    def crons(self) -> str:
        return f"{self.tag}:crons"

    @property
    def crons_due(self) -> str:
        return f"{self.tag}:crons_due"

    @property
    def webhooks(self) -> str:
        return f"{self.tag}:webhooks"

    @property
    def webhooks_failed(self) -> str:
        return f"{self.tag}:webhooks_failed"

    @property
    def ttl(self) -> str:
        return f"{self.tag}:ttl"

    @property
    def threads(self) -> str:
        return f"{self.tag}:threads"

    def threads_of(self, tenant: str) -> str:
        return f"{self.threads}:{tenant}" if tenant else self.threads

    def labels_of(self, tenant: str, label: str) -> str:
        """Its name is made by lib_label.lua, too."""
        return f"{self.tag}:labels:{tenant}:{label}"

    def dead_of(self, tenant: str | None) -> str:
        """Those of a tenant, "" for the default; None: all."""
        return self.dead if tenant is None else f"{self.dead}:{tenant}"

    @property
    def item_namespaces(self) -> str:
        return f"{self._own}item_namespaces"

    @property
    def items_expiring(self) -> str:
        return f"{self._own}items_expiring"

    def idempotency(self, name: str) -> str:
        return f"{self.tag}:idempotency:{name}"

    def item(self, name: str) -> str:
        return f"{self._own}item:{name}"

    def items(self, namespace: str) -> str:
        return f"{self._own}items:{namespace}"

    def cron(self, cron_id: str) -> str:
        return f"{self.tag}:cron:{cron_id}"

    def stale(self, node: str) -> str:
        """``node`` is itself a digest, of tenant, graph and node."""
        return f"{self.tag}:stale:{node}"

    def stale_result(self, node: str, digest: str) -> str:
        return f"{self.stale(node)}:{digest}"

    def run(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}"

    def events(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}:events"

    def branches(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}:branches"

    def run_calls(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}:calls"

    def thread_calls(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:calls"

    def attempts(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}:attempts"

    def records(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}:records"

    def effects(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}:effects"

    def webhook(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}:webhook"

    def run_checkpoints(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}:checkpoints"

    def thread(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}"

    def thread_runs(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:runs"

    def thread_queue(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:queue"

    def thread_crons(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:crons"

    def thread_log(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:log"

    def thread_results(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:results"

    def namespaces(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:namespaces"

    def loose(self, thread_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:loose"

    def checkpoints(self, thread_id: str, namespace: str) -> str:
        return f"{self.tag}:thread:{thread_id}:checkpoints:{namespace}"

    def checkpoint(self, thread_id: str, namespace: str, checkpoint_id: str) -> str:
        return f"{self.tag}:thread:{thread_id}:checkpoint:{namespace}:{checkpoint_id}"

    def channels(self, thread_id: str, namespace: str) -> str:
        return f"{self.tag}:thread:{thread_id}:channels:{namespace}"


#: A partition is asked for its keys a few times for each superstep: it is made once.
_partition = lru_cache(maxsize=4096)(Partition)
