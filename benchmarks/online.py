"""Online reads: `make bench-online`; with QUICK=1 in less than a minute.

50 double features in 5 views, 10,000 entities. Contenders: feature_service on LMDB and on packed Redis,
`feast listen` on Redis (its own environment, its own write), and a bare grpc.aio server that answers a cached
reply. The clients are one other process, the same for all: grpc.aio, a connection each, requests made before,
replies not parsed. What it costs is shown, since it shares the machine's cores with the server.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc

from benchmarks.feast_config import LMDB, packed_redis
from benchmarks.harness import QUICK, Row, Samples, in_turn, report, say
from benchmarks.load import Job, LoadGenerator, Result, load_generator
from benchmarks.online_world import (
    Server,
    cached_server,
    check,
    feast_server,
    our_requests,
    our_server,
    redis_server,
)

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
        self.samples, self._load = Samples(), load

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


def main() -> None:
    """The table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plumbline-bench-")))
        bench = Bench(stack.enter_context(load_generator()))
        rows = _against_peers(bench, folder / "peers")
        rows += _growth(bench, folder / "growth")
        if not QUICK:
            rows += _workers(bench, folder / "workers")
    report("online", rows, about=about(f"{ROUNDS} of {SECONDS:g} s each, contenders in turn"))


def _against_peers(bench: Bench, folder: Path) -> list[Row]:
    with ExitStack() as stack:
        for name in ("lmdb", "redis", "feast"):
            (folder / name).mkdir(parents=True)
        first = stack.enter_context(redis_server(folder / "redis"))
        other = stack.enter_context(redis_server(folder / "feast"))
        lmdb = stack.enter_context(our_server(folder / "lmdb", LMDB))
        redis = stack.enter_context(our_server(folder / "redis", packed_redis(first)))
        sizes = [case.entities for case in CASES]
        feast, theirs = stack.enter_context(feast_server(folder / "feast", other, sizes))
        for case in CASES:
            requests = our_requests(folder, case.entities)
            found = bench.measure("warm-up", "lmdb", lmdb, requests, case.clients)
            check(found.reply)
            cached = stack.enter_context(cached_server(folder, found.reply))
            contenders: dict[str, Callable[[], object]] = {
                "lmdb": partial(bench.measure, case.name, "lmdb", lmdb, requests, case.clients),
                "redis": partial(_checked, bench, case, "redis", redis, requests),
                "feast": partial(_checked, bench, case, "feast", feast, theirs[case.entities]),
                "cached": partial(bench.measure, case.name, "cached", cached, requests, case.clients),
            }
            say(case.name)
            in_turn(ROUNDS, {name: partial(_run, call) for name, call in contenders.items()})
    return [row for case in CASES for row in _goals(bench.samples, case)] + [
        row for case in CASES for name in contenders for row in bench.shown(case.name, name)
    ]


def _goals(samples: Samples, case: Case) -> list[Row]:
    def ratio(over: str, under: str, metric: str, goal: float | None) -> Row:
        names = f"{over} rps", f"{under} rps"
        return samples.ratio(case.name, *names, metric=metric, better="higher", goal=goal)

    rows = [
        ratio("lmdb", "feast", "throughput, LMDB / feast listen", case.feast),
        ratio("redis", "feast", "throughput, packed Redis / feast listen", case.redis_feast),
        ratio("lmdb", "cached", "throughput, LMDB / cached reply", case.cached),
        ratio("redis", "cached", "throughput, packed Redis / cached reply", None),
        samples.ratio(
            case.name,
            "lmdb server µs",
            "cached server µs",
            metric="server CPU, LMDB / cached reply",
            better="lower",
        ),
    ]
    return rows + [
        samples.row(case.name, f"{name} p99 / p50", better="lower", goal=3) for name in ("lmdb", "redis")
    ]


def _growth(bench: Bench, folder: Path) -> list[Row]:
    """LMDB alone: more features, more entities, and a matrix instead of columns."""
    folder.mkdir()
    cases = [("narrow", 1, 16), ("wide", 1, 16), ("narrow", 100, 8), ("wide", 100, 8), ("narrow", 1000, 4)]
    names = []
    with our_server(folder, LMDB, wide=True) as server:
        contenders: dict[str, Callable[[], None]] = {}
        for service, entities, clients in cases:
            features = 50 if service == "narrow" else 250
            name = f"{features} features, {Case(entities, clients).name}"
            requests = our_requests(folder, entities, service)
            check(bench.measure("warm-up", "wide", server, requests, clients).reply, service)
            measure = partial(bench.measure, name, "growth", server, requests, clients)
            contenders[name] = partial(_run, measure)
            names.append(name)
            if (service, entities) == ("narrow", 100):
                # The requests' fields are the same.
                matrix = replace(server, method=server.method.replace("OnlineFeatures", "FeatureMatrix"))
                check(bench.measure("warm-up", "matrix", matrix, requests, clients).reply)
                contenders["matrix"] = partial(
                    _run, partial(bench.measure, name, "matrix", matrix, requests, clients)
                )
                with_matrix = name
        in_turn(ROUNDS, contenders)
    ratio = bench.samples.ratio(
        with_matrix, "matrix rps", "growth rps", metric="throughput, matrix / columns", better="higher"
    )
    shown = [row for name in names for row in bench.shown(name, "growth")[:4]]
    return [ratio, *bench.shown(with_matrix, "matrix")[:4], *shown]


def _workers(bench: Bench, folder: Path) -> list[Row]:
    case = Case(100, 8)
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], None]] = {}
        for workers in (1, 2):
            own = folder / str(workers)
            own.mkdir(parents=True)
            server = stack.enter_context(our_server(own, LMDB, workers=workers))
            requests = our_requests(own, case.entities)
            name = f"{workers} workers"
            measure = partial(bench.measure, "workers", name, server, requests, case.clients)
            contenders[name] = partial(_run, measure)
        in_turn(ROUNDS, contenders)
    ratio = bench.samples.ratio(
        "workers", "2 workers rps", "1 workers rps", metric="throughput, 2 workers / 1", better="higher"
    )
    return [ratio, *bench.shown("workers", "1 workers")[:3], *bench.shown("workers", "2 workers")[:3]]


def _checked(bench: Bench, case: Case, name: str, server: Server, requests: Path) -> None:
    check(bench.measure(case.name, name, server, requests, case.clients).reply)


def _run(call: Callable[[], object]) -> None:
    call()


def about(rounds: str) -> dict[str, str]:
    """What stands beside the figures."""
    return {
        "measured": "50 doubles in 5 views, 10,000 entities; clients in one other process, closed loop",
        "rounds": rounds,
        "versions": f"Python {sys.version.split()[0]}, grpcio {grpc.__version__}, feast 0.67.0",
        "cores": str(os.cpu_count()),
    }


if __name__ == "__main__":
    main()
