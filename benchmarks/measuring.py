"""How the load generator's measurements of servers are taken and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Row, Samples
from benchmarks.load import Job, LoadGenerator, Result
from benchmarks.processes import Server


class Bench:
    """Measures contenders and keeps what was found."""

    def __init__(self, load: LoadGenerator, rounds: int, seconds: float, warm_up: float) -> None:
        """rounds: for callers to run. seconds, warm_up: of each measurement."""
        self.samples, self.rounds, self._load = Samples(), rounds, load
        self._seconds, self._warm_up = seconds, warm_up

    def measure(self, case: str, name: str, server: Server, requests: Path, clients: int) -> Result:
        """One measurement of one contender."""
        before = server.cpu()
        job = Job(
            server.address,
            server.method,
            str(requests),
            clients,
            self._seconds,
            self._warm_up,
            server.protocol,
        )
        found = self._load.run(job)
        # The warm-up is served too: its share of the CPU time is that of its time.
        cpu = (server.cpu() - before) * self._seconds / (self._seconds + self._warm_up)
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
