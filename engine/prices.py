"""What model calls cost: a table of prices by model, from the project's configuration.

``"runyard": {"prices": {"gpt-5-mini": {"in": 0.25, "out": 2}, "claude-*": {"in": 3, "out": 15}}}`` in langgraph.json:
so much for a million tokens in and out, in whatever currency the operator counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from runyard.engine.errors import ConfigError

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """For a million tokens."""

    into: float
    out: float

    def of(self, tokens_in: int, tokens_out: int) -> float:
        return (self.into * tokens_in + self.out * tokens_out) / _MILLION


class Prices:
    """The price of each model: by its name, else by the longest pattern that fits it."""

    def __init__(self, table: Mapping[str, Any] | None = None) -> None:
        """Raises ConfigError that names the model and the field."""
        self._table = {model: _price(model, given) for model, given in (table or {}).items()}
        self._known: dict[str, Price | None] = {}

    def cost(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """What a call cost; None when the model has no price."""
        price = self._price(model)
        return None if price is None else price.of(tokens_in, tokens_out)

    def most(self, model: str, tokens_in: int, tokens_out: int) -> float:
        """What a call may cost at most: a model that has no price may answer under a name that has one."""
        price = self._price(model)
        some = self._table.values() if price is None else [price]
        return max((one.of(tokens_in, tokens_out) for one in some), default=0.0)

    def _price(self, model: str) -> Price | None:
        if self._table and model not in self._known:
            self._known[model] = self._find(model)
        return self._known.get(model)

    def _find(self, model: str) -> Price | None:
        if model in self._table:
            return self._table[model]
        fitting = [name for name in self._table if fnmatchcase(model, name)]
        return self._table[max(fitting, key=len)] if fitting else None


def _price(model: str, given: Any) -> Price:
    where = f"runyard.prices.{model}"
    if not isinstance(given, Mapping):
        raise ConfigError(f'{where} must be {{"in": …, "out": …}} for a million tokens, not {given!r}.')
    if unknown := sorted(given.keys() - {"in", "out"}):
        raise ConfigError(f"{where}.{unknown[0]} is not known: there are in and out.")
    found = {}
    for name in ("in", "out"):
        value = given.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
            raise ConfigError(f"{where}.{name} must be 0 or a number above it, not {value!r}.")
        found[name] = float(value)
    return Price(found["in"], found["out"])
