"""The local stack: feature_service, registry_service and serving as processes of this machine.

    python -m deploy.local.stack up|status|logs|down|apply|clean
    python -m deploy.local.stack run COMMAND …    with the environment of the stack

State lives under .plumbline/ (PLUMBLINE_STATE): run/stack.json says what was started (pid and start time);
logs/NAME.log is each program's log. The environment file named by STACK_ENV says what is served; a
variable that is already set wins over it. Ports: PLUMBLINE_{FEATURES,REGISTRY,SERVING}_PORT and so on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from deploy.local.programs import PROGRAMS, Program, check_ports, environment, models_exist
from deploy.local.records import Record, read_records, write_records
from deploy.local.state import StackError, state_folder

_GRACE_SECONDS = 15.0
_STATE_PARTS = ("bentoml", "data", "demo", "feast", "logs", "pip", "registry", "run", "serving", "training")


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 done; 1 it could not be done, with the reason on stderr; 130 interrupted."""
    parser = argparse.ArgumentParser(prog="stack", description=__doc__.split("\n", maxsplit=1)[0])
    commands = {"up": up, "status": status, "logs": logs, "down": down, "apply": apply, "clean": clean}
    parser.add_argument("command", choices=[*commands, "run"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for run: the command and its arguments")
    options = parser.parse_args(arguments)
    if bool(options.arguments) != (options.command == "run"):
        parser.error("run takes a command, the others take nothing")
    try:
        if options.command == "run":
            return run(options.arguments)
        return commands[options.command]() or 0
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstack: interrupted", file=sys.stderr)
        return 130


def up() -> None:
    """Starts what is not running and waits until it answers; stops it all again when that fails."""
    env = environment()
    records = _living()
    fresh: list[Record] = []
    begins: dict[str, tuple[float, int]] = {}
    missing = [program for program in PROGRAMS if program.name not in records]
    for name, record in records.items():
        print(f"  {name:<18} already runs (pid {record.pid})")
    check_ports(missing, env)
    try:
        # The one that needs the definitions comes last: the others start while they are applied.
        for program in sorted(missing, key=lambda item: item.needs_definitions):
            if program.needs_definitions:
                apply()
            begins[program.name] = (time.monotonic(), _size(program.log))
            record = _start(program, env)
            fresh.append(record)
            records[program.name] = record
            write_records(records)
        if not any(program.needs_definitions for program in missing):
            apply()
        for record in fresh:
            _wait(record, env, begins[record.name])
    except BaseException:
        _stop(fresh)
        write_records({name: r for name, r in records.items() if r not in fresh})
        raise


def apply() -> None:
    """Registers the Feast definitions of the feature repo."""
    env = environment()
    command = [sys.executable, "-m", "feature_service", "apply", "--repo", env["PLUMBLINE_FEATURES_REPO"]]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"the feature definitions could not be applied:\n{done.stderr.strip()[-3000:]}")
    for line in done.stdout.splitlines():
        print(f"  {line}")


def status() -> int:
    """One line a program; exit code 1 unless all answer."""
    env, records, well = environment(), _living(), True
    for program in PROGRAMS:
        record = records.get(program.name)
        if record is None:
            print(f"  {program.name:<18} stopped")
            well = False
            continue
        health = program.health(env)
        well = well and health == "ready"
        where = "  ".join(f"{kind} {address}" for kind, address in program.addresses(env).items())
        print(f"  {program.name:<18} {health:<12} pid {record.pid:<8} {where}")
    return 0 if well else 1


def run(command: list[str]) -> int:
    """Runs a command that finds the stack's servers and files; returns its exit code."""
    try:
        return subprocess.run(command, env=environment(), check=False).returncode
    except FileNotFoundError as error:
        raise StackError(f"cannot run {command[0]}: {error.strerror}") from None


def logs() -> None:
    """Shows the end of each log and follows them until Ctrl-C."""
    files = [str(program.log) for program in PROGRAMS if program.log.exists()]
    if not files:
        raise StackError(f"no logs in {state_folder() / 'logs'}; start the stack first: make stack")
    follower = subprocess.Popen(["tail", "-n", "20", "-F", *files])  # noqa: S607
    try:
        follower.wait()
    except KeyboardInterrupt:
        follower.terminate()
        follower.wait()


def down() -> None:
    """Stops what was started here, and only that: a pid that another process has by now is left alone."""
    records = _living()
    if not records:
        print("  nothing runs")
    _stop(list(records.values()))
    write_records({})


def clean() -> None:
    """Stops the stack and removes its state."""
    down()
    state = state_folder()
    # By name, not the folder as a whole: PLUMBLINE_STATE may point at one that holds other things too.
    for name in _STATE_PARTS:
        if (state / name).exists():
            shutil.rmtree(state / name)
            print(f"  removed {state / name}")
    with suppress(OSError):
        state.rmdir()


def _living() -> dict[str, Record]:
    return {name: record for name, record in read_records().items() if record.alive()}


def _start(program: Program, env: dict[str, str]) -> Record:
    program.log.parent.mkdir(parents=True, exist_ok=True)
    with program.log.open("ab") as log:
        # A session of its own: Ctrl-C in the terminal is for whoever started the stack, who then stops it.
        process = subprocess.Popen(
            [sys.executable, "-m", program.module],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Record.of(program.name, process.pid, program.chosen_ports(env))


def _wait(record: Record, env: dict[str, str], begin: tuple[float, int]) -> None:
    """begin: when it was started, and how long its log was then."""
    program = next(item for item in PROGRAMS if item.name == record.name)
    started, log_size = begin
    while (health := program.health(env)) != "ready":
        if health == "no model yet" and not models_exist(env):
            break
        if not record.alive():
            raise StackError(f"{program.name} ended while starting. {_said(program.log, log_size)}")
        if time.monotonic() - started > program.start_seconds:
            raise StackError(
                f"{program.name} does not answer after {program.start_seconds:.0f} s ({health}). "
                f"{_said(program.log, log_size)}"
            )
        time.sleep(0.1)
    where = "  ".join(f"{kind} {address}" for kind, address in program.addresses(env).items())
    print(f"  {program.name:<18} {health:<12} {time.monotonic() - started:4.1f} s  {where}", flush=True)


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _said(log: Path, since: int) -> str:
    """The last lines that a program logged since it was started, their messages alone."""
    with log.open("rb") as file:
        file.seek(since)
        lines = file.read().decode(errors="replace").splitlines()[-8:]
    return f"It said ({log}):\n" + "\n".join(f"  {_message(line)}" for line in lines)


def _message(line: str) -> str:
    try:
        entry = json.loads(line)
        return f"{entry['level']} {entry['message']}"
    except (ValueError, TypeError, KeyError):
        return line


def _stop(records: list[Record]) -> None:
    # In reverse: serving lets go of its upstreams before they go.
    for record in reversed(records):
        record.signal_stop()
    deadline = time.monotonic() + _GRACE_SECONDS
    for record in reversed(records):
        while record.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        killed = record.alive()
        if killed:
            record.kill()
        print(f"  {record.name:<18} {'killed after a grace period' if killed else 'stopped'}")


if __name__ == "__main__":
    # Run from anywhere, the state is the checkout's.
    os.chdir(Path(__file__).resolve().parents[2])
    sys.exit(main())
