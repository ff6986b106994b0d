"""A feature_service that is killed in the middle of a materialization; its successor goes on from there."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.feast_adapters.apply import apply
from feature_service.writes.materialize import CHECKPOINT_ROWS
from plumbline.features.client import FeatureClient
from tests.integration.feature_service.repo import ago, write_repo
from tests.integration.feature_service.test_process import PROGRAM, environment
from tests.support import wait_until

LMDB = "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb"
ROWS = 1_000_000


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A view with a million keys, each with its own value."""
    folder = write_repo(tmp_path, LMDB)
    keys = np.random.default_rng(5).permutation(ROWS)
    table = pa.table({"driver_id": keys, "n": keys * 3, "rate": keys / 4, "tag": keys.astype(str)})
    for name in ("event_timestamp", "created"):
        table = table.append_column(name, pa.array([ago(0.5)] * ROWS))
    pq.write_table(table, folder / "data" / "trips.parquet")
    apply(folder)
    return folder


@contextmanager
def service(repo: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process, killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"REPO": str(repo), "PORT": str(port), "METRICS_PORT": "none", "HTTP_PORT": "none"}
    found = environment(**{f"PLUMBLINE_FEATURES_{name}": value for name, value in settings.items()})
    process = subprocess.Popen(PROGRAM, env=found, stderr=subprocess.DEVNULL)

    def up() -> bool:
        assert process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(up, 90, "the server listens")
        yield process, f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_the_next_run_goes_on_and_ends_as_if_nothing_had_happened(repo: Path) -> None:
    with service(repo) as (process, address), FeatureClient(address) as client:
        for step in client.materialize(["trips"], operation_id="nightly"):
            assert step.rows_resumed == 0
            if step.rows_written > 2 * CHECKPOINT_ROWS:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait(30) == -signal.SIGKILL

    with service(repo) as (_, address), FeatureClient(address) as client:
        steps = client.materialize(["trips"], operation_id="nightly")
        first = next(steps)
        assert 2 * CHECKPOINT_ROWS <= first.rows_resumed < ROWS
        assert first.rows_total == ROWS
        # Reads and joins do not wait for the run. Key 0 was the first to come online, by the first run.
        found = client.get_online_features(["trips:n"], {"driver_id": [0]})
        assert found.values["n"].to_pylist() == [0]
        rows = pa.table({"driver_id": [ROWS - 1], "event_timestamp": [ago(0)]})
        joined = client.get_historical_features(["trips:n"], rows).read_all()
        assert joined["n"].to_pylist() == [3 * (ROWS - 1)]
        *_, last = steps
        assert last.view_finished
        assert (last.rows_written, last.rows_resumed) == (ROWS, first.rows_resumed)
        for start in range(0, ROWS, 10_000):
            keys = np.arange(start, start + 10_000)
            found = client.get_online_features(
                ["trips:n", "trips:rate", "trips:tag"], {"driver_id": pa.array(keys)}
            )
            assert found.values["n"].to_pylist() == (keys * 3).tolist()
            assert found.values["rate"].to_pylist() == (keys / 4).tolist()
            assert found.values["tag"].to_pylist() == keys.astype(str).tolist()
