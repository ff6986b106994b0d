"""Two processes bring one view online at the same time: both succeed, and the newest rows are online."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from plumbline.times import timestamp
from tests.integration.feature_service.repo import DEFINITIONS, ago, write_repo
from tests.integration.feature_service.test_process import environment, run_apply
from tests.integration.feature_service.test_workers import Running, running

#: So many that a run takes a while, and keeps its place on the way.
KEYS = 100_000
LMDB = "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb"
# A database of its own: other tests keep views of these names on the server.
REDIS = "  type: feature_service.stores.redis.RedisOnlineStore\n  connection_string: {},db=2"
ENGINE = "\nbatch_engine:\n  type: feature_service.stores.engine.PackedComputeEngine"


#: Views of the same rows, one for each test.
VIEWS = ("once", "twice", "older", "feast")
MORE = f"""

for name in {VIEWS}:
    globals()[name] = FeatureView(
        name=name, entities=[driver], schema=trips.schema, source=trips_push, ttl=timedelta(days=2)
    )
"""


@pytest.fixture(scope="module", params=["lmdb", "redis"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Every driver has a trip, and every third one an earlier and a later one besides, in no order."""
    online, folder = LMDB, tmp_path_factory.mktemp("together")
    if request.param == "redis":
        address: str = request.getfixturevalue("redis_address")
        host, _, port = address.partition(":")
        with redis.Redis(host=host, port=int(port), db=2) as client:
            client.flushdb()
        online = REDIS.format(address)
    repo = write_repo(folder / "repo", online + ENGINE, definitions=DEFINITIONS + MORE)
    drivers = np.concatenate([np.arange(KEYS), np.arange(0, KEYS, 3), np.arange(0, KEYS, 3)])
    days = np.repeat([1.0, 1.5, 0.5], [KEYS, -(-KEYS // 3), -(-KEYS // 3)])
    order = np.random.default_rng(1).permutation(len(drivers))
    at = {day: ago(day) for day in set(days.tolist())}
    times = pa.array([at[day] for day in days[order].tolist()], pa.timestamp("us", tz="UTC"))
    columns = {"driver_id": drivers[order], "event_timestamp": times, "created": times}
    values = {"n": drivers[order], "rate": days[order], "tag": pa.repeat("a", len(drivers))}
    pq.write_table(pa.table(columns | values), repo / "data" / "trips.parquet")
    # In a process of its own: one process opens an LMDB once.
    applied = run_apply(repo)
    assert applied.returncode == 0, applied.stderr
    with running(repo, folder / "log") as found:
        found.wait_for_both()
        yield found


def one_of_each(service: Running, stack: ExitStack) -> list[FeatureRetrievalServiceStub]:
    """A way to each worker; which of them takes a connection, the kernel says."""
    found: dict[int, FeatureRetrievalServiceStub] = {}
    while len(found) < 2:
        # Else channels to one address share their connection.
        alone = [("grpc.use_local_subchannel_pool", 1)]
        stub = FeatureRetrievalServiceStub(stack.enter_context(grpc.insecure_channel(service.address, alone)))
        before = service.answered(0)
        stub.GetFeatureService(pb.GetFeatureServiceRequest(name="tiny"))
        found.setdefault(0 if service.answered(0) > before else 1, stub)
    return list(found.values())


def materialize(
    worker: FeatureRetrievalServiceStub, view: str, start: datetime | None, end: datetime, name: str = ""
) -> Iterator[pb.MaterializeResponse]:
    request = pb.MaterializeRequest(
        views=[view], start_time=timestamp(start), end_time=timestamp(end), operation_id=name
    )
    return iter(worker.Materialize(request))


def check_newest(service: Running, view: str) -> None:
    with FeatureClient(service.address) as client:
        for part in np.split(np.arange(KEYS), KEYS // 10_000):
            found = client.get_online_features([f"{view}:n", f"{view}:rate"], {"driver_id": part})
            assert (found.values["n"].to_numpy() == part).all()
            assert (found.values["rate"].to_numpy() == np.where(part % 3, 1.0, 0.5)).all()


@pytest.mark.parametrize("view", ["once", "twice"])
def test_two_workers_materialize_one_view(service: Running, view: str) -> None:
    """Each a run of its own; or both the same one, as when a call is sent again whose first try goes on."""
    ids = ["nightly", "nightly"] if view == "twice" else ["", ""]
    end = datetime.now(UTC)
    with ExitStack() as stack:
        workers = one_of_each(service, stack)
        runs = [materialize(worker, view, None, end, name) for worker, name in zip(workers, ids, strict=True)]
        first = [next(run) for run in runs]
        last = [list(run)[-1] for run in runs]
        for begun, finished in zip(first, last, strict=True):
            assert not begun.view_finished
            assert (finished.view_finished, finished.rows_total) == (True, KEYS)
        check_newest(service, view)
        # Where the view ended is known to both, and nothing of a run is left.
        for worker in workers:
            again = list(materialize(worker, view, None, end, "nightly"))[-1]
            assert (again.start_time, again.rows_resumed) == (timestamp(end), 0)


def test_runs_of_other_ends_leave_the_newest(service: Running) -> None:
    """The run with the later end is begun first, the other goes over the same keys meanwhile."""
    with ExitStack() as stack:
        one, other = one_of_each(service, stack)
        newer = materialize(one, "older", ago(100), ago(0))
        next(newer)
        assert list(materialize(other, "older", ago(100), ago(0.7)))[-1].view_finished
        assert list(newer)[-1].view_finished
        check_newest(service, "older")


def test_two_processes_of_feasts_and_the_service(service: Running) -> None:
    command = [Path(sys.executable).parent / "feast", "-c", service.repo, "materialize", "--views", "feast"]
    command += [moment.strftime("%Y-%m-%dT%H:%M:%S") for moment in (ago(100), ago(0))]
    variables = environment(FEAST_USAGE="False", TZ="UTC")
    processes = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    with FeatureClient(service.address) as client:
        assert list(client.materialize(["feast"], start=ago(100), end=ago(0.7)))[-1].view_finished
    for process in processes:
        said, _ = process.communicate(timeout=150)
        assert process.returncode == 0, said
    check_newest(service, "feast")
