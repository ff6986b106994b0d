"""The program itself: apply, serve, changed definitions while serving, a taken port, SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbline.features.client import FeatureClient
from plumbline.features.errors import ViewNotFound
from tests.integration.feature_service.repo import DEFINITIONS, write_repo
from tests.support import wait_until

PROGRAM = [sys.executable, "-m", "feature_service"]


def environment(**others: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[3])} | others


def run_apply(repo: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "apply", "--repo", str(repo)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_repo(tmp_path_factory.mktemp("process"))
    done = run_apply(folder)
    assert done.returncode == 0, done.stderr
    assert "added feature view trips" in done.stdout.splitlines()
    assert "added feature service tiny" in done.stdout.splitlines()
    assert done.stderr == ""
    return folder


@pytest.fixture(scope="module")
def serving(repo: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "PLUMBLINE_FEATURES_REPO": str(repo),
        "PLUMBLINE_FEATURES_PORT": str(port),
        "PLUMBLINE_FEATURES_METRICS_PORT": "0",
        "PLUMBLINE_FEATURES_HTTP_PORT": "0",
        "PLUMBLINE_FEATURES_REFRESH_SECONDS": "0.2",
    }
    process = subprocess.Popen(PROGRAM, env=environment(**settings), stderr=subprocess.PIPE)
    try:

        def up() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(up, 90, "the server listens")
        yield process, f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def test_applied_changes_are_served_within_seconds(
    repo: Path, serving: tuple[subprocess.Popen[bytes], str]
) -> None:
    with FeatureClient(serving[1]) as client:
        before = client.get_feature_service("tiny").digest
        with pytest.raises(ViewNotFound):
            client.get_feature_view("later")
        changed = DEFINITIONS.replace("days=2", "days=3") + LATER
        (repo / "definitions.py").write_text(changed)
        told = run_apply(repo)
        assert told.stderr == ""
        assert told.stdout.splitlines() == [
            "added feature view later",
            "changed feature view trips",
            "changed feature service tiny",
        ]
        wait_until(lambda: client.get_feature_service("tiny").digest != before, 30, "the new definitions")
        assert client.get_feature_view("later").name == "later"


LATER = """
later = FeatureView(
    name="later", entities=[city], schema=[Field(name="temp", dtype=Float64)], source=weather.batch_source
)
"""


def test_sigterm_ends_the_server_with_zero(serving: tuple[subprocess.Popen[bytes], str]) -> None:
    process, address = serving
    with FeatureClient(address) as client:
        assert client.get_feature_service("tiny").name == "tiny"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert process.stderr is not None
    log = process.stderr.read().decode()
    assert "drains" in log
    assert "Traceback" not in log
    assert "Warning" not in log
