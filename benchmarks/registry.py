"""The model registry: `make bench-registry`; with QUICK=1 about two minutes.

Contenders: MLflow's own server (`mlflow server`, the faster of its default of 4 workers and of 2) against
ours over gRPC and over the MLflow facade, both on SQLite and both on one PostgreSQL, each with its own
database. Then ours alone: lineage in a graph of 100,000 nodes, and a large file up and down. CASES=alias,file
runs only the cases with such words in their names, DATABASES=SQLite only those on SQLite; neither is written.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc

from benchmarks.harness import QUICK, Row, in_turn, report, say
from benchmarks.load import load_generator
from benchmarks.measuring import Bench
from benchmarks.processes import Server
from benchmarks.registry_cases import CASES, ROUNDS, SECONDS, VERSIONS, WARM_UP, Case
from benchmarks.registry_databases import KINDS, Kind, databases
from benchmarks.registry_files import files
from benchmarks.registry_fill import fill
from benchmarks.registry_lineage import lineage
from benchmarks.registry_world import PER_BATCH, Ours, Requests, fill_mlflow, mlflow_server, our_server

_ONLY = [word for word in os.environ.get("CASES", "").split(",") if word]
_KINDS = [kind for kind in KINDS if kind in os.environ.get("DATABASES", ",".join(KINDS)).split(",")]
_WORKERS = (2,) if QUICK else (4, 2)


def main() -> None:
    """The table."""
    # So that servers and folders go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    rows: list[Row] = []
    about = _about()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plumbline-bench-")))
        bench = Bench(stack.enter_context(load_generator()), ROUNDS, SECONDS, WARM_UP)
        cases = [case for case in CASES if _wanted(case.name)]
        if cases:
            for kind in _KINDS:
                found, workers = _against_mlflow(bench, kind, cases, folder / kind)
                rows += found
                about[f"MLflow on {kind}"] = f"{workers} workers" + (
                    "" if QUICK else ", the faster of 4 and 2"
                )
        if _wanted("lineage"):
            for kind in _KINDS:
                rows += lineage(bench, kind, folder / f"lineage on {kind}")
        if _wanted("file"):
            rows += files(folder / "files")
    rows.sort(key=lambda row: row.goal is None)
    report("registry", rows, about=about, write=not _ONLY and len(_KINDS) == len(KINDS))


def _wanted(name: str) -> bool:
    return not _ONLY or any(word in name for word in _ONLY)


def _against_mlflow(bench: Bench, kind: Kind, cases: list[Case], folder: Path) -> tuple[list[Row], int]:
    """The rows, and how many workers MLflow has."""
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        new = stack.enter_context(databases(kind, folder))
        our_url, their_url = new("ours"), new("mlflow")
        say(f"{kind}: filling {VERSIONS:,} versions into each")
        with ThreadPoolExecutor() as pool:
            theirs = pool.submit(fill_mlflow, folder / "mlflow", their_url, VERSIONS)
            fill(our_url, VERSIONS, PER_BATCH)
            theirs.result()
        requests = Requests(folder / "requests", VERSIONS)
        workers = _faster(bench, kind, folder / "mlflow", their_url, requests)
        mlflow = stack.enter_context(mlflow_server(folder / "mlflow", their_url, workers))
        ours = stack.enter_context(our_server(folder / "ours", our_url))
        rows = [row for case in cases for row in _measured(bench, kind, case, requests, ours, mlflow)]
        for name, server, goal in (("our", ours.grpc, 200.0), ("MLflow's", mlflow, None)):
            bench.samples.add(kind, f"{name} peak memory, MiB", server.peak_mib())
            rows.append(bench.samples.row(kind, f"{name} peak memory, MiB", better="lower", goal=goal))
    return rows, workers


def _faster(bench: Bench, kind: Kind, folder: Path, url: str, requests: Requests) -> int:
    """The number of MLflow's workers that serves gets and creates best."""
    if len(_WORKERS) == 1:
        return _WORKERS[0]
    found = {}
    for workers in _WORKERS:
        found[workers] = 1.0
        with mlflow_server(folder, url, workers) as server:
            for case in CASES[:2]:
                name = f"trial, {kind}, {case.name}"
                _, over_http = case.requests(requests)
                done = bench.measure(name, f"{workers} workers", server, over_http, case.clients)
                say(f"{name}, {workers} workers: {done.rps:.0f} rps")
                found[workers] *= done.rps
    return max(found, key=lambda workers: found[workers])


def _measured(
    bench: Bench, kind: Kind, case: Case, requests: Requests, ours: Ours, mlflow: Server
) -> list[Row]:
    name = f"{case.name}, {case.clients} clients, {kind}" if case.clients > 1 else f"{case.name}, {kind}"
    say(name)
    kept = case.requests(requests) if case.kept else None

    def measure(contender: str, server: Server, over_http: bool, check: Callable[[bytes], None]) -> None:
        file = (kept or case.requests(requests))[over_http]
        found = bench.measure(name, contender, server, file, case.clients)
        try:
            check(bytes.fromhex(found.reply))
        except AssertionError as error:
            raise SystemExit(f"{name}: {contender} answered otherwise: {error}") from None
        sent = found.calls * (1 + WARM_UP / SECONDS)
        if not over_http and case.most_calls is not None and sent > 0.9 * case.most_calls:
            raise SystemExit(f"{name}: {sent:,.0f} calls; more requests must be made before")

    contenders: dict[str, Callable[[], None]] = {}
    if case.method is not None:
        contenders["gRPC"] = partial(measure, "gRPC", ours.method(case.method), False, case.check_grpc)
    if ours.http is not None:
        contenders["facade"] = partial(measure, "facade", ours.http, True, case.check_http)
    contenders["MLflow"] = partial(measure, "MLflow", mlflow, True, case.check_http)
    in_turn(ROUNDS, contenders)
    ratios = [
        bench.samples.ratio(
            name,
            f"{contender} rps",
            "MLflow rps",
            metric=f"throughput, {contender} / MLflow",
            better="higher",
            goal=case.goal,
        )
        for contender in contenders
        if contender != "MLflow"
    ]
    return ratios + [row for contender in contenders for row in bench.shown(name, contender)]


def _about() -> dict[str, str]:
    versions = (Path(__file__).parent / "peers" / "mlflow.in").read_text().split()
    peer = next(word for word in versions if word.startswith("mlflow=="))
    return {
        "measured": f"a model of {VERSIONS:,} versions; clients in one other process, connections kept",
        "rounds": f"{ROUNDS} of {SECONDS:g} s each, contenders in turn",
        "versions": f"Python {sys.version.split()[0]}, grpcio {grpc.__version__}, {peer.replace('==', ' ')}",
        "cores": str(os.cpu_count()),
    }


if __name__ == "__main__":
    main()
