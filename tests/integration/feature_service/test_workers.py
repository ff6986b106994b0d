"""Two worker processes on one port: both answer, the parent drains them, and ends when one of them ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.processes import children
from plumbline.features.client import FeatureClient
from tests.integration.feature_service.repo import write_repo
from tests.integration.feature_service.test_process import PROGRAM, environment, run_apply
from tests.support import wait_until


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_repo(tmp_path_factory.mktemp("workers"))
    assert run_apply(folder).returncode == 0
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


class Running:
    """The program with two workers; its log is read once it has ended."""

    def __init__(self, repo: Path, log: Path, port: int, metrics: int) -> None:
        self.address, self.log, self.metrics = f"127.0.0.1:{port}", log, metrics
        self.repo = repo
        settings = {
            "PLUMBLINE_FEATURES_REPO": str(repo),
            "PLUMBLINE_FEATURES_PORT": str(port),
            "PLUMBLINE_FEATURES_METRICS_PORT": str(metrics),
            "PLUMBLINE_FEATURES_HTTP_PORT": "0",
            "PLUMBLINE_FEATURES_LOG_FORMAT": "text",
        }
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*PROGRAM, "--workers", "2"], env=environment(**settings), stderr=output
            )

    def wait_for_both(self) -> None:
        def up() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return len(re.findall(r"listens on ", self.log.read_text())) == 2

        wait_until(up, 120, "both workers listen")

    def answered(self, worker: int) -> float:
        """Calls that a worker has answered, by its own metrics page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics + 100 * worker}/metrics") as page:
            text = page.read().decode()
        found = re.findall(r'grpc_server_handled_total\{.*GetFeatureService".*\} (\S+)', text)
        return sum(map(float, found))


@contextmanager
def running(repo: Path, log: Path) -> Iterator[Running]:
    found = Running(repo, log, free_port(), free_port())
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.wait()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_both_workers_answer_and_sigterm_drains_them(repo: Path, tmp_path: Path) -> None:
    with running(repo, tmp_path / "log") as it:
        it.wait_for_both()
        workers = children(it.process.pid)
        assert len(workers) == 2

        def both() -> bool:
            # Each connection is one worker's; which one, the kernel says.
            with FeatureClient(it.address) as client:
                assert client.get_feature_service("tiny").name == "tiny"
            return it.answered(0) > 0 and it.answered(1) > 0

        wait_until(both, 30, "each worker has answered")
        other = subprocess.run(
            [*PROGRAM, "--workers", "2"],
            env=environment(
                PLUMBLINE_FEATURES_REPO=str(repo), PLUMBLINE_FEATURES_PORT=it.address.rpartition(":")[2]
            ),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert other.returncode == 2
        assert "Set PLUMBLINE_FEATURES_PORT to a free port" in other.stderr
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(60) == 0
        log = it.log.read_text()
        assert log.count("feature_service stopped") == 2
        assert "Traceback" not in log
        assert not any(alive(pid) for pid in workers)


def test_a_worker_that_is_killed_ends_the_whole(repo: Path, tmp_path: Path) -> None:
    with running(repo, tmp_path / "log") as it:
        wait_until(lambda: len(children(it.process.pid)) == 2, 60, "the workers are started")
        workers = children(it.process.pid)
        os.kill(workers[1], signal.SIGKILL)
        assert it.process.wait(60) == 1
        log = it.log.read_text()
        assert re.search(rf"worker \d \(pid {workers[1]}\) ended by itself, killed by SIGKILL", log)
        assert not any(alive(pid) for pid in workers)


def test_workers_end_with_their_parent(repo: Path, tmp_path: Path) -> None:
    with running(repo, tmp_path / "log") as it:
        it.wait_for_both()
        workers = children(it.process.pid)
        it.process.kill()
        it.process.wait()
        wait_until(lambda: not any(alive(pid) for pid in workers), 60, "the workers have ended")


def test_a_port_that_somebody_listens_on_is_an_error(repo: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "feature_service", "--workers", "2"],
            env=environment(PLUMBLINE_FEATURES_REPO=str(repo), PLUMBLINE_FEATURES_PORT=port),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Set PLUMBLINE_FEATURES_PORT to a free port" in done.stderr
