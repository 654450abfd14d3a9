"""Cron schedules: five fields and a time zone, and the instants they mean.

What happens when clocks change is as in Debian's cron: a time of day that is skipped comes right after the gap, one
that comes twice counts once, and what recurs every so many minutes or hours goes on doing so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from runyard.engine.errors import InvalidInput

#: Words for the most common schedules, as cron itself has them.
WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
#: How many of the next instants are looked at to tell how often a schedule fires.
_LOOK_AT = 100
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Schedule:
    expression: str
    zone: tzinfo = UTC

    @classmethod
    def of(cls, expression: str, timezone: str | None = None) -> Schedule:
        """Raises InvalidInput, which names the field, for a schedule that means nothing or never comes."""
        made = cls(WORDS.get(expression.strip().lower(), expression), zone_of(timezone))
        told = f"schedule: must be five cron fields (minute hour day month weekday), not {expression[:60]!r}"
        if len(made.expression.split()) != 5 or len(expression) > _LONGEST:
            raise InvalidInput(told)
        try:
            if made.next_after(round(datetime.now(UTC).timestamp() * 1000)) is None:
                raise InvalidInput(f"schedule: {expression[:60]!r} names a day that never comes")
        except (CronSimError, ValueError, AssertionError) as error:
            raise InvalidInput(f"{told}: {str(error).lower() or 'it cannot be read'}") from error
        return made

    def next_after(self, at_ms: int) -> int | None:
        """The first instant after ``at_ms``, both in ms since the epoch; None when there is none in fifty years."""
        return next(self._after(at_ms), None)

    def least_gap_s(self, at_ms: int) -> float:
        """The shortest time between two of the next instants."""
        gaps = (later - earlier for earlier, later in pairwise(islice(self._after(at_ms), _LOOK_AT)))
        return min(gaps, default=0) / 1000 or float("inf")

    def _after(self, at_ms: int) -> Iterator[int]:
        last = at_ms
        for moment in CronSim(self.expression, datetime.fromtimestamp(at_ms / 1000, self.zone)):
            # In an hour that comes twice, what comes next by the wall may lie before by the clock.
            if (instant := round(moment.timestamp() * 1000)) > last:
                last = instant
                yield instant


def zone_of(name: str | None) -> tzinfo:
    """A time zone by its IANA name; UTC when there is none. Raises InvalidInput that names the field."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # no such zone, no such file, a name that is a path or a folder
        accepted = "the name of a time zone, like Europe/Berlin or UTC"
        raise InvalidInput(f"timezone: must be {accepted}, not {name[:60]!r}") from error
