"""Which of the measurements are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.measures import CONTENDERS, MEASURES, Contender, Measure


@dataclass(frozen=True, slots=True)
class Plan:
    """``only``: names of contenders or measures, or the first part of one; empty wants everything."""

    only: tuple[str, ...] = ()

    def wants(self, contender: Contender, measure: Measure) -> bool:
        contenders, measures = self._named([c.name for c in CONTENDERS]), self._named([m.name for m in MEASURES])
        return (not contenders or contender.name in contenders) and (not measures or measure.name in measures)

    def wants_any(self, contender: Contender, *measures: Measure) -> bool:
        return any(self.wants(contender, measure) for measure in measures or MEASURES)

    def unknown(self) -> list[str]:
        """Words of ``only`` that name nothing."""
        names = [item.name for item in (*CONTENDERS, *MEASURES)]
        return [word for word in self.only if not any(name.startswith(word) for name in names)]

    def _named(self, names: Iterable[str]) -> set[str]:
        """An exact name means itself alone; anything else all that begin with it."""
        names = list(names)
        return {
            name
            for word in self.only
            for name in names
            if name == word or (word not in names and name.startswith(word))
        }
