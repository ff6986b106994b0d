"""Online reads: `make bench-online`; with QUICK=1 about a minute.

50 double features in 5 views, 10,000 entities. Contenders: feature_service on LMDB and on packed Redis,
`feast listen` on Redis (its own environment, its own write), and two servers that answer a cached reply: one
of feature_service's own kind, and bare grpc.aio. The clients are one other process, the same for all:
grpc.aio, a connection each, requests made before, replies not parsed. What it costs is shown, since it shares
the machine's cores with the server.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from benchmarks.feast_config import LMDB, packed_redis
from benchmarks.harness import QUICK, Row, Samples, in_turn, report, say
from benchmarks.load import load_generator
from benchmarks.measuring import Bench, run
from benchmarks.online_cases import CASES, ROUNDS, SECONDS, WARM_UP, Case
from benchmarks.online_growth import growth, row_cache, workers
from benchmarks.online_world import (
    cached_server,
    check,
    feast_server,
    our_requests,
    our_server,
    redis_server,
)
from benchmarks.processes import Server


def main() -> None:
    """The table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plumbline-bench-")))
        bench = Bench(stack.enter_context(load_generator()), ROUNDS, SECONDS, WARM_UP)
        rows = _against_peers(bench, folder / "peers")
        if not QUICK:
            rows += growth(bench, folder / "growth")
            rows += row_cache(bench, folder / "row cache")
            rows += workers(bench, folder / "workers")
    report("online", rows, about=about(f"{ROUNDS} of {SECONDS:g} s each, contenders in turn"))


def _against_peers(bench: Bench, folder: Path) -> list[Row]:
    with ExitStack() as stack:
        for name in ("lmdb", "redis", "feast"):
            (folder / name).mkdir(parents=True)
        first = stack.enter_context(redis_server(folder / "redis"))
        other = stack.enter_context(redis_server(folder / "feast"))
        sizes = [case.entities for case in CASES]
        starting: list[AbstractContextManager[Any]] = [
            our_server(folder / "lmdb", LMDB),
            our_server(folder / "redis", packed_redis(first)),
            feast_server(folder / "feast", other, sizes),
        ]
        with ThreadPoolExecutor() as pool:
            lmdb, redis, (feast, theirs) = pool.map(stack.enter_context, starting)
        for case in CASES:
            requests = our_requests(folder, case.entities)
            found = bench.measure("warm-up", "lmdb", lmdb, requests, case.clients)
            check(found.reply)
            same = stack.enter_context(cached_server(folder, found.reply, "same"))
            bare = stack.enter_context(cached_server(folder, found.reply, "bare"))
            contenders: dict[str, Callable[[], object]] = {
                "lmdb": partial(bench.measure, case.name, "lmdb", lmdb, requests, case.clients),
                "redis": partial(_checked, bench, case, "redis", redis, requests),
                "feast": partial(_checked, bench, case, "feast", feast, theirs[case.entities]),
                "cached": partial(bench.measure, case.name, "cached", same, requests, case.clients),
                "bare": partial(bench.measure, case.name, "bare", bare, requests, case.clients),
            }
            say(case.name)
            in_turn(ROUNDS, {name: partial(run, call) for name, call in contenders.items()})
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
        ratio("lmdb", "bare", "throughput, LMDB / bare server", case.cached),
        ratio("cached", "bare", "throughput, cached reply / bare server", None),
        *(
            samples.ratio(
                case.name,
                "lmdb server µs",
                f"{other} server µs",
                metric=f"server CPU, LMDB / {what}",
                better="lower",
            )
            for other, what in (("cached", "cached reply"), ("bare", "bare server"))
        ),
    ]
    return rows + [
        samples.row(case.name, f"{name} p99 / p50", better="lower", goal=3) for name in ("lmdb", "redis")
    ]


def _checked(bench: Bench, case: Case, name: str, server: Server, requests: Path) -> None:
    check(bench.measure(case.name, name, server, requests, case.clients).reply)


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
