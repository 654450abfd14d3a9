"""What seeing costs: two whole stacks, one with everything on and one with all off, measured turn by turn."""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median

from bench import workloads
from bench.doors import Door
from bench.measure import Work, closed_loop, warm_up
from bench.profiling import cpu_of
from bench.stack import Stack

#: The ledger, the metrics and a line for each record are on by default.
OFF = {
    "RUNYARD_LEDGER": "off",
    "RUNYARD_METRICS": "off",
    "RUNYARD_LOG_RECORDS": "off",
    "RUNYARD_LOG_LEVEL": "WARNING",
}
#: Of a hundred runs so many are traced.
SAMPLED = 5


@dataclass(slots=True)
class Side:
    """A stack and what was measured of it: runs/s, and ms of CPU of store, web and workers for one run, by turn."""

    name: str
    stack: Stack
    door: Door
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)

    def work(self) -> Work:
        async def one() -> None:
            workloads.check("chain10a", await self.door.wait("chain10a"))

        return one

    async def take_turn(self, seconds: float, clients: int) -> None:
        before = cpu_of(self.stack)
        rate = await closed_loop(self.work(), clients=clients, seconds=seconds)
        self.rates.append(rate.per_s)
        after = cpu_of(self.stack)
        self.parts.append({name: (after[name] - ms) / rate.count for name, ms in before.items() if name != "client"})
        self.cpu.append(sum(self.parts[-1].values()))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    with (
        _collector() as endpoint,
        Stack(workers=options.workers, settings=everything("" if options.without_traces else endpoint)) as seen,
        Stack(workers=options.workers, settings=OFF) as unseen,
    ):
        sides = (Side("on", seen, Door(seen.port)), Side("off", unseen, Door(unseen.port)))
        asyncio.run(_measure(sides, options))
    print(text(*sides))
    return 0


def everything(endpoint: str) -> dict[str, str]:
    """The settings of a stack that is seen in every way."""
    return {
        "RUNYARD_LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(SAMPLED / 100),
    }


async def _measure(sides: Sequence[Side], options: argparse.Namespace) -> None:
    for side in sides:
        await warm_up(side.work(), 100, clients=8)
    for turn in range(options.turns):
        # Whoever else uses the machine hurts both: turns are short, and each begins every other round.
        for side in sides if turn % 2 else reversed(sides):
            await side.take_turn(options.seconds, options.clients)
        print(f"turn {turn + 1} of {options.turns}", file=sys.stderr)
    for side in sides:
        await side.door.close()


def text(on: Side, off: Side) -> str:
    names = list(on.parts[0])
    lines = [f"{'':<6}{'runs/s':>10}{'CPU ms/run':>14}" + "".join(f"{name:>10}" for name in names)]
    for side in (on, off):
        parts = "".join(f"{median(turn[name] for turn in side.parts):>10.2f}" for name in names)
        lines.append(f"{side.name:<6}{median(side.rates):>10.1f}{median(side.cpu):>14.2f}{parts}")
    lines.append(f"medians of {len(on.rates)} turns")
    fewer = 100 - 100 / median(_ratios(on.cpu, off.cpu))
    lines.append(f"throughput: {costs(on.rates, off.rates):.1f} % less")
    lines.append(f"CPU: {-costs(on.cpu, off.cpu):.1f} % more: {fewer:.1f} % fewer runs where CPU is all that there is")
    return "\n".join(lines)


def costs(on: Sequence[float], off: Sequence[float]) -> float:
    """By how many percent ``on`` is below ``off``: the median over pairs of turns, which were measured side by side."""
    return 100 * (1 - median(_ratios(on, off)))


def _ratios(on: Sequence[float], off: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(on, off, strict=True)]


@contextmanager
def _collector() -> Iterator[str]:
    """Takes spans, and throws them away."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/seeing.py", description=__doc__)
    parser.add_argument("--without-traces", action="store_true", help="all but these")
    parser.add_argument("--turns", type=int, default=10, help="of each stack; default 10")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn; default 3")
    parser.add_argument("--workers", type=int, default=1, help="of each stack; default 1")
    parser.add_argument("--clients", type=int, default=16, help="that ask at once; default 16")
    return parser.parse_args(arguments)
