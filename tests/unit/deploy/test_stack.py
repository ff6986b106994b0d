"""The local stack finds ports, expands its environment file, and stops what it started and nothing else."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import stack
from deploy.local.programs import PROGRAMS, check_ports, environment
from deploy.local.records import Record, read_records, write_records
from deploy.local.state import StackError
from tests.support import wait_until


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLUMBLINE_STATE", str(tmp_path / "state"))
    (tmp_path / "stack.env").write_text(
        "# a comment\n\nPLUMBLINE_FEATURES_REPO='repo'\nDATA=${PLUMBLINE_STATE}/data\nDEEPER=${DATA}/x\n"
    )
    monkeypatch.setenv("STACK_ENV", str(tmp_path / "stack.env"))
    return tmp_path / "state"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_the_environment_file_is_expanded(state: Path) -> None:
    env = environment()
    assert env["PLUMBLINE_FEATURES_REPO"] == "repo"
    assert env["DEEPER"] == f"{state}/data/x"
    assert env["PLUMBLINE_REGISTRY_ARTIFACTS_DIR"] == f"{state}/registry/artifacts"


def test_a_variable_set_outside_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "elsewhere")
    assert environment()["DATA"] == "elsewhere"


def test_programs_find_one_another_by_the_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_REGISTRY_PORT", "9999")
    env = environment()
    assert env["PLUMBLINE_REGISTRY_ADDRESS"] == "127.0.0.1:9999"
    assert env["PLUMBLINE_SERVING_REGISTRY_ADDRESS"] == "127.0.0.1:9999"


@pytest.mark.parametrize(
    ("line", "what"), [("no equals sign", "expected NAME=value"), ("A=${NOBODY}", "cannot expand")]
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, what: str) -> None:
    (tmp_path / "stack.env").write_text(f"B=1\n{line}\n")
    with pytest.raises(StackError, match=f"stack.env, line 2: {what}"):
        environment()


def test_a_taken_port_names_the_port_and_what_to_set() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = {"PLUMBLINE_REGISTRY_PORT": str(port)}
        with pytest.raises(StackError, match=rf"needs port {port} \(grpc\).*PLUMBLINE_REGISTRY_PORT="):
            PROGRAMS[0].check_ports(env)


def test_a_record_survives_the_file_and_its_process(sleeper: subprocess.Popen[bytes]) -> None:
    record = Record.of("thing", sleeper.pid)
    write_records({"thing": record})
    assert read_records() == {"thing": record}
    assert record.alive()
    record.signal_stop()
    wait_until(lambda: not record.alive(), what="the process ends")


def test_a_pid_that_was_given_to_another_process_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    stale = replace(Record.of("thing", sleeper.pid), start_ticks=1)
    write_records({"thing": stale})
    stack.down()
    assert sleeper.poll() is None
    assert read_records() == {}


def test_down_stops_what_is_recorded(
    sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    write_records({"registry_service": Record.of("registry_service", sleeper.pid)})
    assert stack.main(["down"]) == 0
    assert sleeper.wait(10) == -15
    assert "registry_service   stopped" in capsys.readouterr().out


def test_clean_removes_its_own_folders_alone(state: Path) -> None:
    (state / "registry").mkdir(parents=True)
    (state / "mine").mkdir()
    stack.clean()
    assert [path.name for path in state.iterdir()] == ["mine"]


def test_a_command_runs_with_the_environment_of_the_stack(
    state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import os, sys; print(os.environ['PLUMBLINE_REGISTRY_ADDRESS']); sys.exit(3)"
    assert stack.main(["run", sys.executable, "-c", code]) == 3
    assert capfd.readouterr().out == "127.0.0.1:7420\n"
    assert stack.main(["run", "no-such-program"]) == 1
    assert "cannot run no-such-program" in capfd.readouterr().err


def test_a_running_program_is_found_where_it_listens(sleeper: subprocess.Popen[bytes]) -> None:
    record = Record.of("registry_service", sleeper.pid, {"PLUMBLINE_REGISTRY_PORT": 17420})
    write_records({record.name: record})
    assert environment()["PLUMBLINE_REGISTRY_ADDRESS"] == "127.0.0.1:17420"
    record.kill()
    wait_until(lambda: not record.alive(), what="the process ends")
    assert environment()["PLUMBLINE_REGISTRY_ADDRESS"] == "127.0.0.1:7420"


def test_a_process_that_ended_at_once_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    assert not replace(Record.of("thing", sleeper.pid), start_ticks=0).alive()


def test_a_damaged_record_is_named(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "run").mkdir(parents=True)
    (state / "run" / "stack.json").write_text("")
    assert stack.main(["status"]) == 1
    assert "stack.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", ""])
def test_a_port_must_be_one(port: str) -> None:
    with pytest.raises(StackError, match="must be a port number, 1 to 65535"):
        PROGRAMS[0].port("grpc", {"PLUMBLINE_REGISTRY_PORT": port})


def test_two_programs_cannot_share_a_port() -> None:
    env = {"PLUMBLINE_REGISTRY_PORT": "17999", "PLUMBLINE_FEATURES_PORT": "17999"}
    with pytest.raises(StackError, match="are both 17999"):
        check_ports(PROGRAMS, env | {"PLUMBLINE_REGISTRY_METRICS_PORT": "17998"})
