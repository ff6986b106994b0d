"""Materialization: `make bench-materialize`, QUICK=1 for two minutes.

One view of ten doubles, 1M rows, 1M keys: every row is written. Ours (`PackedComputeEngine` called by
Feast's SDK, and the Materialize call of feature_service) into LMDB against Feast's local engine into its
SQLite store, and into packed Redis against Feast's engine into its Redis store. Feast reads with its DuckDB
store, the faster of its two. Each run is the first of a fresh process, into an empty store, and what is
online afterwards is compared with the source. Feast takes minutes: at the full size it runs once, and the
rounds that show the spread have a tenth of the rows on both sides.

Then online reads (100 keys a request, one client) of a feature_service while all rows are written again, by
the service itself or by another process, against the same reads while nothing is written.
"""

from __future__ import annotations

import json
import platform
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import feast

from benchmarks import materialize_world as world
from benchmarks.beside import beside
from benchmarks.feast_config import LMDB, SQLITE, Options, feast_redis, packed_redis
from benchmarks.harness import QUICK, Row, Samples, in_turn, report, say
from benchmarks.load import Job, load_generator
from benchmarks.online_world import redis_server
from plumbline.features.client import FeatureClient

ROUNDS, ROUND_ROWS = (0, 0) if QUICK else (3, 100_000)
FULL_ROWS, OUR_FULL_ROUNDS = (10_000, 1) if QUICK else (1_000_000, 3)
READ_ROUNDS, READ_SECONDS, KEYS_A_READ = (1, 1.0, 100) if QUICK else (3, 8.0, 100)
READS = f"reads of {KEYS_A_READ} keys"
#: Ours, Feast's, and the goal for rows a second.
PAIRS = (
    ("ours, LMDB", "feast, SQLite", 20.0),
    ("gRPC, LMDB", "feast, SQLite", 20.0),
    *(() if QUICK else (("ours, Redis", "feast, Redis", None),)),
)
#: The online store, given the address of a Redis.
Online = Callable[[str], Options]


class Bench:
    """Runs contenders, each into a new repository, and keeps what was found."""

    def __init__(self, folder: Path) -> None:
        self.samples, self._folder, self._made = Samples(), folder, 0
        self._applied: dict[str, Path] = {}

    def contenders(self, rows: int, data: Path) -> dict[str, Callable[[], None]]:
        """By name; each call is one run."""

        def contend(
            name: str, online: Online, rest: world.Rest, run: Callable[[Path], dict[str, Any]]
        ) -> None:
            found[name] = partial(self._measure, rows, data, name, online, rest, run)

        found: dict[str, Callable[[], None]] = {}
        contend("ours, LMDB", lambda _: LMDB, world.OURS, world.run)
        contend("gRPC, LMDB", lambda _: LMDB, world.OURS, world.run_through)
        contend("feast, SQLite", lambda _: SQLITE, world.FEAST, partial(world.run, peer="feast"))
        contend("ours, Redis", packed_redis, world.OURS, world.run)
        contend("feast, Redis", feast_redis, world.FEAST, partial(world.run, peer="feast"))
        return {name: run for name, run in found.items() if any(name in pair for pair in PAIRS)}

    def _measure(
        self,
        rows: int,
        data: Path,
        name: str,
        online: Online,
        rest: world.Rest,
        run: Callable[[Path], dict[str, Any]],
    ) -> None:
        self._made += 1
        folder = self._folder / str(self._made)
        folder.mkdir()
        with redis_server(folder) as redis:
            found = run(self._repo(folder / "repo", data, online(redis), rest))
        say(f"  {found['seconds']:.2f} s, {found['cpu']:.2f} s of CPU, {found['peak_mib']:,.0f} MiB")
        case = _case(rows)
        self.samples.add(case, f"{name}, rows/s", rows / found["seconds"])
        self.samples.add(case, f"{name}, CPU s", found["cpu"])
        self.samples.add(case, f"{name}, peak MiB", found["peak_mib"])

    def _repo(self, folder: Path, data: Path, online: Options, rest: world.Rest) -> Path:
        """A new repository; each kind is applied once, for it costs more than a small run."""
        kind = json.dumps([online["type"], rest])
        if kind not in self._applied:
            self._applied[kind] = world.write_repo(
                self._folder / f"kind{len(self._applied)}", data, online, rest
            )
        return world.copy_repo(self._applied[kind], folder, data, online, rest)

    def reads(self, data: Path, rows: int) -> None:
        """p50 and p99 of reads: of an idle server, and while all rows are written again."""
        repo = self._repo(self._folder / "reads", data, LMDB, world.OURS)
        world.run(repo)
        requests = world.read_requests(self._folder / "requests", rows, KEYS_A_READ)
        with world.our_server(repo) as server, load_generator() as load:
            job = Job(server.address, server.method, str(requests), 1, READ_SECONDS, 0.5)

            def read(name: str) -> None:
                found = load.run(job)
                say(f"  p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms, longest {found.longest:.0f} ms")
                self.samples.add(READS, f"{name}, p50 ms", found.p50)
                self.samples.add(READS, f"{name}, p99 ms", found.p99)

            def during(name: str) -> None:
                with beside(server.address, "materialization", _rewrite):
                    read(name)

            def elsewhere(name: str) -> None:
                with world.rewriting(repo, 600):
                    read(name)

            in_turn(
                READ_ROUNDS,
                {
                    "idle": partial(read, "idle"),
                    "materializing": partial(during, "materializing"),
                    "another process materializes": partial(elsewhere, "another process materializes"),
                },
            )


def main() -> None:
    """The table."""
    with tempfile.TemporaryDirectory(prefix="plumbline-bench-") as name:
        folder = Path(name)
        bench = Bench(folder)
        small = world.write_data(folder / "small.parquet", ROUND_ROWS)
        full = world.write_data(folder / "full.parquet", FULL_ROWS)
        if ROUNDS:
            in_turn(ROUNDS, bench.contenders(ROUND_ROWS, small))
        contenders = bench.contenders(FULL_ROWS, full)
        in_turn(1, {name: run for name, run in contenders.items() if name.startswith("feast")})
        in_turn(
            OUR_FULL_ROUNDS, {name: run for name, run in contenders.items() if not name.startswith("feast")}
        )
        bench.reads(full, FULL_ROWS)
    report("materialize", _rows(bench.samples, list(contenders)), about=_about())


def _rows(samples: Samples, names: list[str]) -> list[Row]:
    rows = []
    cases = {_case(FULL_ROWS): True} | ({_case(ROUND_ROWS): False} if ROUNDS else {})
    for case, full in cases.items():
        for ours, feasts, goal in PAIRS:
            # Set for the full size, where what a process does once weighs little.
            least = goal if full and not QUICK else None
            what = f"{ours} / {feasts}"
            # Feast ran once at the full size: its run stands for every round.
            ratio = samples.against_one if full else samples.ratio
            speeds = f"{ours}, rows/s", f"{feasts}, rows/s"
            rows.append(ratio(case, *speeds, metric=f"rows/s, {what}", better="higher", goal=least))
            peaks = f"{ours}, peak MiB", f"{feasts}, peak MiB"
            rows.append(ratio(case, *peaks, metric=f"peak memory, {what}", better="lower"))
    for name in ("materializing", "another process materializes"):
        names_of = f"{name}, p99 ms", "idle, p99 ms"
        rows.append(samples.ratio(READS, *names_of, metric=f"p99, {name} / idle", better="lower"))
    for case in cases:
        for name in names:
            rows.append(samples.row(case, f"{name}, rows/s", better="higher"))
            rows += [samples.row(case, f"{name}, {what}", better="lower") for what in ("CPU s", "peak MiB")]
    for name in ("idle", "materializing", "another process materializes"):
        rows += [samples.row(READS, f"{name}, {what}", better="lower") for what in ("p50 ms", "p99 ms")]
    return rows


def _rewrite(client: FeatureClient, stop: threading.Event) -> None:
    """A server writes all rows again, and again."""
    while not stop.is_set():
        start = datetime.now(UTC) - timedelta(days=365)
        for _ in client.materialize(["wide"], start=start):
            if stop.is_set():
                break


def _case(rows: int) -> str:
    return f"{rows:,} × 10"


def _about() -> dict[str, str]:
    return {
        "measured": f"{ROUNDS} rounds of {ROUND_ROWS:,} rows, both sides in turn; {FULL_ROWS:,} rows: Feast "
        f"once, ours {OUR_FULL_ROUNDS} times; one row a key, 10 doubles",
        "versions": f"Python {platform.python_version()}, Feast {feast.__version__}",
    }


if __name__ == "__main__":
    main()
