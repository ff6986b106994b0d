"""Point-in-time joins: `make bench-point-in-time`, QUICK=1 for a minute.

Two views of five doubles, 1M rows each, 10,000 keys, 500,000 entity rows, ttl 90 days, which is how far the
rows go back. Every join is the first of a fresh process (through gRPC: of a fresh server, with a client in
another process). The answers are compared before anything is told.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks import point_in_time_world as world
from benchmarks.feast_config import DUCKDB
from benchmarks.harness import QUICK, Row, Samples, in_turn, report, say

ROUNDS = 1 if QUICK else 3
FEATURE_ROWS, KEYS, ENTITY_ROWS = (100_000, 2_000, 50_000) if QUICK else (1_000_000, 10_000, 500_000)
GROWTH = (10_000,) if QUICK else (100_000, 1_000_000, 10_000_000)
CASE = f"{FEATURE_ROWS:,} × {ENTITY_ROWS:,}"

Answer = dict[str, Any]


class Bench:
    """Measures contenders, compares their answers, and keeps what was found."""

    def __init__(self) -> None:
        self.samples = Samples()
        self._answers: dict[str, Answer] = {}

    def add(self, case: str, name: str, found: Answer, same_as: str) -> None:
        """same_as: those under one such word must have the same answer."""
        first = self._answers.setdefault(same_as, found)
        alike = found["rows"] == first["rows"] and found["present"] == first["present"]
        sums = zip(found["sums"], first["sums"], strict=True)
        if not alike or not all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6) for a, b in sums):
            raise SystemExit(f"{name} gives another answer for {same_as!r}: {found} instead of {first}")
        say(f"  {found['seconds']:.2f} s, {found['cpu']:.2f} s of CPU, {found['peak_mib']:,.0f} MiB")
        for metric, key in (("s", "seconds"), ("CPU s", "cpu"), ("peak MiB", "peak_mib")):
            self.samples.add(case, f"{name}, {metric}", found[key])
        if "client_peak_mib" in found:
            self.samples.add(case, f"{name}, client's peak MiB", found["client_peak_mib"])


def main() -> None:
    """The table."""
    with tempfile.TemporaryDirectory(prefix="plumbline-bench-") as name:
        bench, folder = Bench(), Path(name)
        rows = _against_peers(bench, folder) + _growth(bench, folder)
    report("point_in_time", rows, about=_about())


def _against_peers(bench: Bench, folder: Path) -> list[Row]:
    data = folder / "data"
    world.write_data(data, FEATURE_ROWS, KEYS, ENTITY_ROWS)
    world.write_queries(folder, data)
    repos = {"on": world.write_repo(folder / "on", data, world.ours(known_at=True))}
    repos["off"] = world.write_repo(folder / "off", data, world.ours(known_at=False), repos["on"])
    feast = world.write_repo(folder / "feast", data, DUCKDB, repos["on"])
    contenders: dict[str, Callable[[], None]] = {}

    def contend(name: str, known: str, join: Callable[[], Answer]) -> None:
        contenders[name] = lambda: bench.add(CASE, name, join(), f"{CASE}, known-at {known}")

    for known, repo in repos.items():
        policy = "CREATED_BY_THEN" if known == "on" else "IGNORE_CREATED"
        rows = str(data / "rows.parquet")
        contend(f"SQL {known}", known, partial(world.join, "duckdb", str(folder / f"{known}.sql"), rows))
        contend(f"ours {known}", known, partial(world.join, "sdk", str(repo)))
        if not QUICK or known == "on":
            contend(f"gRPC {known}", known, partial(_through_grpc, repo, data, policy))
    contend("SQL bare", "off", partial(world.join, "duckdb", str(folder / "bare.sql"), rows))
    contend("polars", "off", partial(world.join, "polars", str(data), peer="polars"))
    contend("feast", "off", partial(world.join, "sdk", str(feast), peer="feast"))
    in_turn(ROUNDS, contenders)
    return _goals(bench.samples) + _shown(bench.samples, contenders)


def _through_grpc(repo: Path, data: Path, policy: str, memory: str = "2GB") -> Answer:
    with world.our_server(repo, memory) as (address, pid):
        return world.join_through(address, pid, data / "rows.parquet", policy)


def _goals(samples: Samples) -> list[Row]:
    def slower(over: str, under: str, goal: float | None) -> Row:
        names = f"{over}, s", f"{under}, s"
        return samples.ratio(CASE, *names, metric=f"time, {over} / {under}", better="lower", goal=goal)

    def faster(name: str, goal: float | None) -> Row:
        names = "feast, s", f"{name}, s"
        return samples.ratio(CASE, *names, metric=f"time, feast / {name}", better="higher", goal=goal)

    def smaller(name: str, goal: float | None) -> Row:
        names = f"{name}, peak MiB", "feast, peak MiB"
        metric = f"peak memory, {name} / feast"
        return samples.ratio(CASE, *names, metric=metric, better="lower", goal=goal)

    both = ("off", "on")
    streams = [known for known in both if samples.has(CASE, f"gRPC {known}, s")]
    ours = [f"ours {known}" for known in both] + [f"gRPC {known}" for known in streams]
    # With few rows it is the start of things that takes the time: the goals are of the full size.
    least = {"ours off": None if QUICK else 40, "ours on": None if QUICK else 20}
    return [
        *(slower(f"ours {known}", f"SQL {known}", None if QUICK else 1.5) for known in both),
        *(slower(f"gRPC {known}", f"SQL {known}", None if QUICK else 2.5) for known in streams),
        slower("ours off", "SQL bare", None),
        slower("ours off", "polars", None),
        *(faster(name, least.get(name)) for name in ours),
        *(smaller(name, None if QUICK else 1 / 3) for name in ours),
    ]


def _shown(samples: Samples, contenders: dict[str, Callable[[], None]]) -> list[Row]:
    return [
        samples.row(CASE, f"{name}, {metric}", better="lower")
        for name in contenders
        for metric in ("s", "CPU s", "peak MiB", "client's peak MiB")
        if samples.has(CASE, f"{name}, {metric}")
    ]


def _growth(bench: Bench, folder: Path) -> list[Row]:
    """More rows, with the cutoff, in 4 GB; the largest once, also through gRPC."""
    rows = []
    for count in GROWTH:
        case, largest = f"growth: {count:,} × {count // 2:,}", count == GROWTH[-1]
        data = folder / f"growth-{count}"
        world.write_data(data, count, KEYS, count // 2)
        options = world.ours(known_at=True, memory="4GB")
        repo = world.write_repo(data / "repo", data, options, folder / "on")
        contenders: dict[str, Callable[[], Answer]] = {"ours on": partial(world.join, "sdk", str(repo))}
        if largest and not QUICK:
            contenders["gRPC on"] = partial(_through_grpc, repo, data, "CREATED_BY_THEN", "4GB")

        def run(name: str, join: Callable[[], Answer], case: str = case) -> None:
            bench.add(case, name, join(), case)

        in_turn(
            1 if largest else ROUNDS, {name: partial(run, name, join) for name, join in contenders.items()}
        )
        found = [row for name in contenders for row in _of(bench.samples, case, name)]
        rows += found
    return rows


def _of(samples: Samples, case: str, name: str) -> list[Row]:
    return [
        samples.row(case, f"{name}, {metric}", better="lower")
        for metric in ("s", "CPU s", "peak MiB", "client's peak MiB")
        if samples.has(case, f"{name}, {metric}")
    ]


def _about() -> dict[str, str]:
    versions = f"Python {sys.version.split()[0]}, duckdb {duckdb.__version__}, pyarrow {pa.__version__}"
    return {
        "measured": f"feature rows × entity rows, {KEYS:,} keys, 2 views × 5 doubles, ttl 90 days; known-at "
        "on or off; each join in a fresh process",
        "rounds": f"{ROUNDS}, contenders in turn",
        "versions": f"{versions}, feast 0.67.0",
        "cores": str(os.cpu_count()),
    }


if __name__ == "__main__":
    main()
