"""The data, the repositories and the processes of the materialization benchmark."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feast_config import ASOF, DUCKDB, LOCAL_ENGINE, PACKED_ENGINE, Options, write_config
from benchmarks.load import write_requests
from benchmarks.materialize_run import FEATURES, STRIDE
from benchmarks.peers import python_of
from benchmarks.processes import Server, free_port, process, wait_for_port
from plumbline import columns
from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb

_RUN = Path(__file__).with_name("materialize_run.py")
_METHOD = "/plumbline.features.v1.FeatureRetrievalService/GetOnlineFeatures"
_DEFINITIONS = f"""\
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

thing = Entity(name="thing", join_keys=["id"], value_type=ValueType.INT64)
wide = FeatureView(
    name="wide",
    entities=[thing],
    ttl=timedelta(days=365),
    schema=[Field(name=f"f{{i}}", dtype=Float64) for i in range({FEATURES})],
    source=FileSource(
        name="rows",
        path="data/rows.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    ),
)
all_of_it = FeatureService(name="all_of_it", features=[wide])
"""
#: Offline store and engine.
Rest = tuple[Options, Options]
#: Ours, and the faster ones of Feast's own.
OURS, FEAST = (ASOF, PACKED_ENGINE), (DUCKDB, LOCAL_ENGINE)


def write_data(path: Path, rows: int) -> Path:
    """One row of ten doubles for each of `rows` keys, in no order, of the last hour."""
    rng = np.random.default_rng(3)
    ids = rng.permutation(rows) * STRIDE
    newest = int(datetime.now(UTC).timestamp()) * 10**6 - 60 * 10**6
    event = newest - rng.integers(0, 3600 * 10**6, rows)
    time_type = pa.timestamp("us", tz="UTC")
    table = {
        "id": pa.array(ids),
        "event_timestamp": pa.array(event).cast(time_type),
        "created": pa.array(event + 10**6).cast(time_type),
    }
    for i in range(FEATURES):
        table[f"f{i}"] = pa.array(ids + i / 16)
    pq.write_table(pa.table(table), path)
    return path


def write_repo(folder: Path, data: Path, online: Options, rest: Rest) -> Path:
    """A Feast repository over the data, applied."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "rows.parquet").symlink_to(data)
    write_config(folder, online, *rest)
    (folder / "definitions.py").write_text(_DEFINITIONS)
    # Feast's own environment knows nothing of our stores.
    _call([_python(rest), str(_RUN), "apply", str(folder)])
    return folder


def copy_repo(applied: Path, folder: Path, data: Path, online: Options, rest: Rest) -> Path:
    """Another repository as an applied one in which nothing is online yet, over other data of its schema."""
    shutil.copytree(applied, folder, symlinks=True)
    (folder / "data" / "rows.parquet").unlink()
    (folder / "data" / "rows.parquet").symlink_to(data)
    write_config(folder, online, *rest)
    return folder


def run(repo: Path, peer: str = "") -> dict[str, Any]:
    """Materializes in a fresh process, of a peer's environment or ours; what `materialize_run` printed.
    Raises SystemExit unless what it read afterwards is what the source holds."""
    python = str(python_of(peer)) if peer else sys.executable
    found: dict[str, Any] = json.loads(_call([python, str(_RUN), "run", str(repo)]).splitlines()[-1])
    wanted = [[STRIDE * key + i / 16 for key in range(1_000)] for i in range(FEATURES)]
    if found.pop("read") != wanted:
        raise SystemExit(f"{repo}: what is read online is not what the source holds")
    return found


def run_through(repo: Path) -> dict[str, Any]:
    """Materializes through a fresh feature_service; cpu and peak_mib are the server's."""
    with our_server(repo) as server, FeatureClient(server.address) as client:
        client.get_feature_service("all_of_it")  # connected
        cpu, start = server.cpu(), time.perf_counter()
        *_, last = client.materialize(["wide"])
        seconds = time.perf_counter() - start
        if not last.view_finished:
            raise SystemExit("the materialization did not finish")
        status = Path(f"/proc/{server.pids[0]}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        return {"seconds": seconds, "cpu": server.cpu() - cpu, "peak_mib": peak}


@contextmanager
def our_server(repo: Path) -> Iterator[Server]:
    """feature_service over an applied repository."""
    port = free_port()
    settings = {"REPO": str(repo), "PORT": str(port), "METRICS_PORT": "none", "HTTP_PORT": "none"}
    environment = {f"PLUMBLINE_FEATURES_{name}": text for name, text in settings.items()}
    command = [sys.executable, "-m", "feature_service"]
    with process(command, repo / "server.log", environment) as pid:
        wait_for_port(port)
        yield Server(f"127.0.0.1:{port}", _METHOD, (pid,))


def read_requests(path: Path, rows: int, size: int) -> Path:
    """Requests for GetOnlineFeatures of `size` keys each."""
    pick = random.Random(size)
    requests = [
        pb.GetOnlineFeaturesRequest(
            selection=pb.FeatureSelection(feature_service="all_of_it"),
            entities=columns.encode_mapping(
                {"id": pa.array([STRIDE * pick.randrange(rows) for _ in range(size)], pa.int64())}
            ),
        ).SerializeToString()
        for _ in range(200)
    ]
    write_requests(path, requests)
    return path


@contextmanager
def rewriting(repo: Path, seconds: float) -> Iterator[None]:
    """Another process materializes all rows, again and again, while the block runs."""
    command = [sys.executable, str(_RUN), "rewrite", str(repo), str(seconds)]
    with process(command, repo / "rewrite.log"):
        yield


def _python(rest: Rest) -> str:
    return sys.executable if rest == OURS else str(python_of("feast"))


def _call(command: list[str]) -> str:
    quiet = {"FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, env=os.environ | quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
