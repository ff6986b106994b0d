"""Ports, folders and environment of the serving process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from serving.process import METRICS_VARIABLE, CannotStart, environment, listen, metrics_folder
from serving.settings import ServingSettings


def test_a_taken_port_is_named_with_the_variable_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"127\.0\.0\.1:{port}: .* Set SOME_PORT to a free port"):
            listen("127.0.0.1", port, "SOME_PORT")


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(CannotStart, match=r"no-such-host\.invalid"):
        listen("no-such-host.invalid", 0, "SOME_PORT")


def test_a_free_port_is_listened_on() -> None:
    with listen("127.0.0.1", 0, "SOME_PORT") as listener:
        socket.create_connection(listener.getsockname(), timeout=5).close()


def test_the_environment_keeps_bentoml_at_home(tmp_path: Path) -> None:
    settings = ServingSettings(models="m@champion", cache_dir=tmp_path / "models")
    env = environment(settings, {"PATH": "/bin"})
    assert env["PATH"] == "/bin"
    assert env["BENTOML_DO_NOT_TRACK"] == "true"
    assert Path(env["BENTOML_HOME"]) == tmp_path / "models" / "bentoml"
    assert environment(settings, {"BENTOML_HOME": str(tmp_path / "b")})["BENTOML_HOME"] == str(tmp_path / "b")


def test_metrics_of_dead_processes_are_removed_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    dead, living, own = folder / str(2**22 + 7), folder / str(os.getppid()), folder / str(os.getpid())
    for path in (dead, living, own):
        path.mkdir(parents=True)
        (path / "counter.db").touch()
    env = environment(ServingSettings(models="m@champion", cache_dir=tmp_path), {})
    assert metrics_folder(env) == own
    assert env[METRICS_VARIABLE] == str(own)
    assert list(own.iterdir()) == []
    assert not dead.exists()
    assert (living / "counter.db").exists()
