"""How many runs and branches of one tenant, or of one graph, are in hand at once over the fleet.

``runyard.concurrency``: ``{"tenant": 50, "tenants": {"acme": 200}, "graphs": {"research": 20}}``. A cap is
a limit like those of nodes (:mod:`runyard.engine.limits`): what has no room parks before its graph is loaded, in order.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from runyard.engine import tenancy
from runyard.engine.errors import ConfigError
from runyard.engine.faults import faults_of
from runyard.engine.limits import Limit
from runyard.engine.run import Parked, Run
from runyard.engine.shares import Shares, Ticket
from runyard.engine.store.runs import member_of


@dataclass(frozen=True, slots=True)
class Caps:
    #: For each tenant that is not named; None: no cap.
    tenant: int | None = None
    #: By the tenant's name as it is stored.
    tenants: Mapping[str, int] = field(default_factory=dict)
    graphs: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.tenant is not None or bool(self.tenants) or bool(self.graphs)

    def of(self, run: Run) -> list[tuple[str, str, Limit]]:
        """What a run needs a share of: why, name for people, limit. Always in this order."""
        found = []
        most = self.tenants.get(run.tenant, self.tenant)
        if most is not None:
            found.append(("tenant", tenancy.shown(run.tenant), Limit(f"tenant:{run.tenant}", concurrency=most)))
        if run.graph_id in self.graphs:
            limit = Limit(f"graph:{run.graph_id}", concurrency=self.graphs[run.graph_id])
            found.append(("graph", run.graph_id, limit))
        return found


#: Where nothing is capped there is room. A run that waits has it as long as it waits, so it is one for all.
_ROOM: AbstractAsyncContextManager[Parked | None] = nullcontext()


def room_for(
    shares: Shares, caps: Caps, run: Run, token: str, branch: str | None
) -> AbstractAsyncContextManager[Parked | None]:
    """Hold a run's shares for as long as the block lasts; gives what to park for when there is none for one of them."""
    return _held(shares, caps, run, token, branch) if caps else _ROOM


@asynccontextmanager
async def _held(shares: Shares, caps: Caps, run: Run, token: str, branch: str | None) -> AsyncIterator[Parked | None]:
    tickets: list[Ticket] = []
    parked = None
    try:
        for why, name, limit in caps.of(run):
            ticket = shares.ticket(limit, member_of(run.run_id, branch), token)
            has_share, most_s = await ticket.park(member_of(run.run_id, branch))
            if not has_share:
                known = [entry["since"] for entry in run.parked if (entry["why"], entry["name"]) == (why, name)]
                since = known[0] if known else round(time.time() * 1000)
                parked = Parked(most_s, ({"task_id": "", "node": "", "why": why, "name": name, "since": since},))
                break
            tickets.append(ticket)
        if parked is not None:  # whoever waits for one holds none of the others
            _give_back(tickets)
        yield parked
    finally:
        _give_back(tickets)


def _give_back(tickets: list[Ticket]) -> None:
    while tickets:
        tickets.pop().give_back()


_MOST = 100_000
_SAID = f"must be a whole number from 1 to {_MOST}"


def _number() -> fields.Integer:
    checked = validate.Range(1, _MOST, error=_SAID)
    return fields.Integer(strict=True, validate=checked, error_messages={"invalid": _SAID})


class _CapsSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"type": "must be an object", "unknown": "is not known here"}  # noqa: RUF012

    tenant = _number()
    tenants = fields.Dict(keys=fields.String(), values=_number())
    graphs = fields.Dict(keys=fields.String(), values=_number())


def caps_of(configured: object) -> Caps:
    """The caps of a project. Raises ConfigError that names the field."""
    try:
        said: dict[str, Any] = _CapsSchema().load(configured)  # type: ignore[arg-type]  # what is no mapping is refused
    except ValidationError as error:
        raise ConfigError(f"runyard.concurrency is not valid: {faults_of(error)}.") from error
    named = {tenancy.stored(name): most for name, most in said.get("tenants", {}).items()}
    return Caps(said.get("tenant"), named, said.get("graphs", {}))
