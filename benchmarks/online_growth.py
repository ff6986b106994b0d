"""What else moves online reads on LMDB: features, entities, workers, the row cache, pushes meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.beside import beside
from benchmarks.feast_config import LMDB
from benchmarks.harness import Row, in_turn
from benchmarks.measuring import Bench, run
from benchmarks.online_cases import Case
from benchmarks.online_world import ENTITIES, FEATURES, check, our_requests, our_server
from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb

_CASE = Case(100, 8)
_PUSHED_ROWS, _PUSH_SECONDS = 10, 0.05


def growth(bench: Bench, folder: Path) -> list[Row]:
    """More features, more entities, and a matrix instead of columns."""
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
            contenders[name] = partial(run, measure)
            names.append(name)
            if (service, entities) == ("narrow", 100):
                # The requests' fields are the same.
                matrix = replace(server, method=server.method.replace("OnlineFeatures", "FeatureMatrix"))
                check(bench.measure("warm-up", "matrix", matrix, requests, clients).reply)
                contenders["matrix"] = partial(
                    run, partial(bench.measure, name, "matrix", matrix, requests, clients)
                )
                with_matrix = name
        in_turn(bench.rounds, contenders)
    ratio = bench.samples.ratio(
        with_matrix, "matrix rps", "growth rps", metric="throughput, matrix / columns", better="higher"
    )
    shown = [row for name in names for row in bench.shown(name, "growth")[:4]]
    return [ratio, *bench.shown(with_matrix, "matrix")[:4], *shown]


def row_cache(bench: Bench, folder: Path) -> list[Row]:
    """The same requests with the row cache, without it, and with it while rows of one view are pushed."""
    case = f"row cache, {_CASE.name}"
    with ExitStack() as stack:
        for name in ("with", "without"):
            (folder / name).mkdir(parents=True)
        kept = stack.enter_context(our_server(folder / "with", LMDB))
        bare = stack.enter_context(our_server(folder / "without", {**LMDB, "row_cache": 0}))
        requests = our_requests(folder, _CASE.entities)

        def pushing() -> None:
            with beside(kept.address, "pushes", _push):
                run(partial(bench.measure, case, "with pushes", kept, requests, _CASE.clients))

        contenders: dict[str, Callable[[], None]] = {
            "with": partial(run, partial(bench.measure, case, "with", kept, requests, _CASE.clients)),
            "without": partial(run, partial(bench.measure, case, "without", bare, requests, _CASE.clients)),
            "with pushes": pushing,
        }
        in_turn(bench.rounds, contenders)
    names = ("with", "with pushes")
    ratios = [
        bench.samples.ratio(
            case, f"{name} rps", "without rps", metric=f"throughput, {name} / without", better="higher"
        )
        for name in names
    ]
    return ratios + [row for name in contenders for row in bench.shown(case, name)[:5]]


def workers(bench: Bench, folder: Path) -> list[Row]:
    """One worker and two."""
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], None]] = {}
        for count in (1, 2):
            own = folder / str(count)
            own.mkdir(parents=True)
            server = stack.enter_context(our_server(own, LMDB, workers=count))
            requests = our_requests(own, _CASE.entities)
            name = f"{count} workers"
            measure = partial(bench.measure, "workers", name, server, requests, _CASE.clients)
            contenders[name] = partial(run, measure)
        in_turn(bench.rounds, contenders)
    ratio = bench.samples.ratio(
        "workers", "2 workers rps", "1 workers rps", metric="throughput, 2 workers / 1", better="higher"
    )
    return [ratio, *bench.shown("workers", "1 workers")[:3], *bench.shown("workers", "2 workers")[:3]]


def _push(client: FeatureClient, stop: threading.Event) -> None:
    """Some rows of one view are written again, twenty times a second."""
    start = 0
    while not stop.wait(_PUSH_SECONDS):
        # Entity 7, whose values are checked, stays.
        ids = [8 + (start + i) % (ENTITIES - 8) for i in range(_PUSHED_ROWS)]
        rows: dict[str, Any] = {"id": ids, "event_timestamp": [datetime.now(UTC)] * len(ids)}
        rows |= {f"narrow0_f{i}": [float(start)] * len(ids) for i in range(FEATURES)}
        client.push("narrow0", rows, destination=pb.PUSH_DESTINATION_ONLINE)
        start += _PUSHED_ROWS
