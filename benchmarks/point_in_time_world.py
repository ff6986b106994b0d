"""The data, the queries and the repositories of the point-in-time benchmark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feast_config import ASOF, SQLITE, Options, write_config
from benchmarks.peers import python_of
from benchmarks.point_in_time_join import TTL_DAYS
from benchmarks.processes import free_port, process, wait_for_port

_JOIN = Path(__file__).with_name("point_in_time_join.py")
_SPAN, _BASE = 90 * 86_400 * 10**6, 1_700_000_000 * 10**6
_TIME = pa.timestamp("us", tz="UTC")
_ROWS_AT_ONCE = 1_000_000

_DEFINITIONS = f"""\
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


def view(name):
    return FeatureView(
        name=name,
        entities=[driver],
        ttl=timedelta(days={TTL_DAYS}),
        schema=[Field(name=f"{{name}}{{i}}", dtype=Float64) for i in range(5)],
        source=FileSource(
            name=name,
            path=f"data/{{name}}.parquet",
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
        ),
    )


a = view("a")
b = view("b")
both = FeatureService(name="both", features=[a, b])
"""


def ours(*, known_at: bool, memory: str = "2GB") -> Options:
    """Our offline store, for feature_store.yaml."""
    return {**ASOF, "known_at": known_at, "memory_limit": memory}


def write_data(folder: Path, feature_rows: int, keys: int, entity_rows: int) -> None:
    """Two tables of five doubles, rows late by six hours in the mean, and entity rows; no two times agree
    but by chance."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for view in "ab":
        path, writer = folder / f"{view}.parquet", None
        for start in range(0, feature_rows, _ROWS_AT_ONCE):
            count = min(_ROWS_AT_ONCE, feature_rows - start)
            event = _BASE + rng.integers(0, _SPAN, count)
            created = event + rng.exponential(6 * 3600e6, count).astype(np.int64)
            columns = {"driver_id": pa.array(rng.integers(0, keys, count))}
            columns |= {
                "event_timestamp": pa.array(event).cast(_TIME),
                "created": pa.array(created).cast(_TIME),
            }
            columns |= {f"{view}{i}": pa.array(rng.normal(size=count)) for i in range(5)}
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
    moments = _BASE + rng.integers(0, _SPAN, entity_rows)
    columns = {"driver_id": pa.array(rng.integers(0, keys, entity_rows))}
    columns |= {"event_timestamp": pa.array(moments).cast(_TIME)}
    columns |= {"label": pa.array(rng.integers(0, 2, entity_rows))}
    pq.write_table(pa.table(columns), folder / "rows.parquet")


def write_repo(folder: Path, data: Path, offline: Options, applied: Path | None = None) -> Path:
    """A Feast repository over data that lies elsewhere. applied: one with the same definitions; without it
    they are applied."""
    (folder / "data").mkdir(parents=True)
    for name in ("a", "b", "rows"):
        (folder / "data" / f"{name}.parquet").symlink_to(data / f"{name}.parquet")
    write_config(folder, SQLITE, offline)
    (folder / "definitions.py").write_text(_DEFINITIONS)
    if applied:
        shutil.copy(applied / "data" / "registry.db", folder / "data")
    else:
        _call([sys.executable, str(_JOIN), "apply", str(folder)])
    return folder


def write_queries(folder: Path, data: Path) -> None:
    """What a person would write for DuckDB.

    bare: an ASOF JOIN for each view; rows in any order, any one of those that agree in time. off: in the
    order of the entity rows, the row created last of those that agree. on: that, of the rows known by then.
    """
    bare = {view: f"'{data}/{view}.parquet'" for view in "ab"}
    (folder / "bare.sql").write_text(_query("entity", bare, "event_timestamp", ""))
    numbered, order = "(SELECT *, row_number() OVER () AS number FROM entity)", " ORDER BY number"
    off = {
        view: f"(SELECT * FROM {file} QUALIFY lead(event_timestamp) OVER (PARTITION BY driver_id "
        "ORDER BY event_timestamp, created) IS DISTINCT FROM event_timestamp)"
        for view, file in bare.items()
    }
    (folder / "off.sql").write_text(_query(numbered, off, "event_timestamp", order))
    on = {
        view: f"(SELECT * FROM (SELECT *, greatest(event_timestamp, created) AS known FROM {file}) "
        "WINDOW w AS (PARTITION BY driver_id ORDER BY known, event_timestamp, created) "
        "QUALIFY event_timestamp = max(event_timestamp) OVER w AND lead(known) OVER w IS DISTINCT FROM known)"
        for view, file in bare.items()
    }
    (folder / "on.sql").write_text(_query(numbered, on, "known", order))


def _query(entity: str, views: dict[str, str], time: str, order: str) -> str:
    features = ", ".join(
        f"CASE WHEN {view}.event_timestamp >= e.event_timestamp - INTERVAL {TTL_DAYS} DAY "
        f"THEN {view}{i} END AS {view}{i}"
        for view in views
        for i in range(5)
    )
    joins = " ".join(
        f"ASOF LEFT JOIN {source} AS {view} "
        f"ON e.driver_id = {view}.driver_id AND e.event_timestamp >= {view}.{time}"
        for view, source in views.items()
    )
    return f"SELECT e.driver_id, e.event_timestamp, e.label, {features} FROM {entity} AS e {joins}{order}"


def join(kind: str, *arguments: str, peer: str = "") -> dict[str, Any]:
    """Runs point_in_time_join in a fresh process, of a peer's environment or ours; what it printed."""
    python = str(python_of(peer)) if peer else sys.executable
    return _run([python, str(_JOIN), kind, *arguments])


@contextmanager
def our_server(repo: Path, memory: str = "2GB") -> Iterator[tuple[str, int]]:
    """A fresh feature_service over an applied repository; yields its address and process."""
    port = free_port()
    settings = {"REPO": str(repo), "PORT": str(port), "METRICS_PORT": "none", "HTTP_PORT": "none"}
    settings["JOIN_MEMORY"] = memory
    environment = {f"PLUMBLINE_FEATURES_{name}": text for name, text in settings.items()}
    command = [sys.executable, "-m", "feature_service"]
    with process(command, repo / "server.log", environment) as pid:
        wait_for_port(port)
        yield f"127.0.0.1:{port}", pid


def join_through(address: str, pid: int, rows: Path, policy: str) -> dict[str, Any]:
    """A join by a client of its own process; peak_mib and cpu (which is of both) with the server's."""
    before = _server_cpu(pid)
    found = _run([sys.executable, "-m", "benchmarks.point_in_time_client", address, str(rows), policy])
    found["cpu"] += _server_cpu(pid) - before
    found["client_peak_mib"] = found["peak_mib"]
    status = Path(f"/proc/{pid}/status").read_text()
    found["peak_mib"] = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return found


def _server_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _run(command: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_call(command).splitlines()[-1])
    return found


def _call(command: list[str]) -> str:
    quiet = {"FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
