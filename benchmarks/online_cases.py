"""What the parts of the online benchmark share: cases, and how one is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import QUICK, Row, Samples
from benchmarks.load import Job, LoadGenerator, Result
from benchmarks.online_world import Server

ROUNDS, SECONDS, WARM_UP = (1, 0.6, 0.2) if QUICK else (5, 3.0, 0.5)


@dataclass(frozen=True)
class Case:
    """entities in a request, and clients. The goals are of throughput against each contender."""

    entities: int
    clients: int
    feast: float | None = None
    redis_feast: float | None = None
    cached: float | None = None

    @property
    def name(self) -> str:
        """For the table."""
        few = "1 entity" if self.entities == 1 else f"{self.entities:,} entities"
        return f"{few}, {self.clients} clients"


CASES = [
    Case(1, 16, feast=15, redis_feast=8, cached=0.7),
    Case(10, 8),
    Case(100, 8, feast=40, redis_feast=20, cached=0.35),
]


class Bench:
    """Measures contenders and keeps what was found."""

    def __init__(self, load: LoadGenerator) -> None:
        self.samples, self.rounds, self._load = Samples(), ROUNDS, load

    def measure(self, case: str, name: str, server: Server, requests: Path, clients: int) -> Result:
        """One measurement of one contender."""
        before = server.cpu()
        job = Job(server.address, server.method, str(requests), clients, SECONDS, WARM_UP)
        found = self._load.run(job)
        # The warm-up is served too: its share of the CPU time is that of its time.
        cpu = (server.cpu() - before) * SECONDS / (SECONDS + WARM_UP)
        for metric, number in (
            ("rps", found.rps),
            ("p50 ms", found.p50),
            ("p99 ms", found.p99),
            ("p99 / p50", found.p99 / found.p50),
            ("longest ms", found.longest),
            ("server µs", cpu / found.calls * 1e6),
            ("client µs", found.client_us),
        ):
            self.samples.add(case, f"{name} {metric}", number)
        return found

    def shown(self, case: str, name: str) -> list[Row]:
        """The measurements of one contender, for the table."""
        rows = [self.samples.row(case, f"{name} rps", better="higher")]
        metrics = ("p50 ms", "p99 ms", "longest ms", "server µs", "client µs")
        return rows + [self.samples.row(case, f"{name} {metric}", better="lower") for metric in metrics]


def run(call: Callable[[], object]) -> None:
    """Calls it, for its effect."""
    call()
