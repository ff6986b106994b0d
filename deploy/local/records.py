"""What the stack started: kept in a file, so that another invocation can stop it, and only it."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.local.state import StackError, state_folder


@dataclass(frozen=True)
class Record:
    """A started process. start_ticks: its start time as /proc tells it, so that a pid that was given to
    another process in the meantime is recognised."""

    name: str
    pid: int
    start_ticks: int
    #: The variables that say where it listens: name → port.
    ports: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, pid: int, ports: dict[str, int] | None = None) -> Record:
        """The record of a process that was just started; one that ended at once is dead from the start."""
        return cls(name, pid, _start_ticks(pid) or 0, ports or {})

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        ticks = _start_ticks(self.pid)
        return ticks is not None and ticks == self.start_ticks

    def signal_stop(self) -> None:
        """Asks it to drain and stop."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and whatever it started: it leads a process group of its own."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def read_records() -> dict[str, Record]:
    """By name; empty when there are none."""
    try:
        entries = json.loads(_file().read_text())
        return {entry["name"]: Record(**entry) for entry in entries}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise StackError(
            f"{_file()} is damaged ({error}). End what `ps` shows of the stack, then remove the file"
        ) from None


def write_records(records: dict[str, Record]) -> None:
    """Replaces the file in one step."""
    file_path = _file()
    file_path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=file_path.parent)
    with os.fdopen(handle, "w") as file:
        json.dump([asdict(record) for record in records.values()], file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, file_path)


def _file() -> Path:
    return state_folder() / "run" / "stack.json"


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None for no process, or a zombie."""
    try:
        # The second field, the name, is in parentheses and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])
