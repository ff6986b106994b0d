"""What the parts of the online benchmark share: its cases, rounds and times."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.harness import QUICK

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
