"""Writes rows of the view `trips` to a store of Feast's own, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from feature_service.feast_adapters.online import FeastOnlineStore
from feature_service.feast_adapters.repo import FeastRepo, load_config
from feature_service.ports import NewRows

#: Event number 0; the others follow a second apart, which is as fine as every store keeps them.
FIRST = round(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)
_SECOND = 1_000_000
#: Drivers in one write: so few that the writes of several processes fall between one another.
_BATCH = 10


class Writer:
    """Such a process. It says "open" once the store is, then does one thing after the other."""

    def __init__(self, repo: Path) -> None:
        command = [sys.executable, "-m", "tests.support_writer", str(repo)]
        root, pipe = Path(__file__).parents[1], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=root, text=True)

    def write(self, drivers: range, events: list[int], *, pause: bool = False) -> None:
        """Has it write the events of each driver, in this order, driver by driver.

        Then it says the number of rows that were not older than what was stored. pause: before the first
        write, when the times are compared, it says "compared", and waits for `go_on`.
        """
        self._tell([drivers.start, drivers.stop, events, pause])

    def go_on(self) -> None:
        """Ends the pause."""
        self._tell("go on")

    def says(self) -> str:
        """Waits for the next word from it."""
        return _open(self.process.stdout).readline().strip()

    def waits_for_a_lock(self) -> bool:
        """Whether another process keeps it from what it is about to do."""
        # id: -> FLOCK ADVISORY WRITE pid …
        waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if " -> " in line]
        return any(words[2] == "FLOCK" and words[5] == str(self.process.pid) for words in waiting)

    def end(self) -> None:
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.communicate()

    def _tell(self, what: Any) -> None:
        print(json.dumps(what), file=_open(self.process.stdin), flush=True)


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def rows(drivers: range, event: int) -> NewRows:
    """A row of each driver; the number of the event is the value of all its features."""
    count = len(drivers)
    values = (pa.array([event] * count), pa.array([float(event)] * count), pa.array([str(event)] * count))
    times = np.full(count, FIRST + event * _SECOND, np.int64)
    return NewRows((pa.array(drivers, pa.int64()),), values, times, None)


def _paused(store: FeastOnlineStore) -> None:
    """The next write stops between the comparison and what it writes."""
    writer: Any = store._writer
    write: Callable[..., None] = writer.online_write_batch

    def stopped(*arguments: Any) -> None:
        writer.online_write_batch = write
        print("compared", flush=True)
        sys.stdin.readline()
        write(*arguments)

    writer.online_write_batch = stopped


def main() -> None:
    """Obeys the lines of stdin."""
    repo = FeastRepo(load_config(Path(sys.argv[1])))
    store, view = FeastOnlineStore(repo.config, timeout=30), repo.load().views["trips"]
    print("open", flush=True)
    while line := sys.stdin.readline():
        start, stop, events, pause = json.loads(line)
        if pause:
            _paused(store)
        parts = [range(first, min(first + _BATCH, stop)) for first in range(start, stop, _BATCH)]
        print(sum(store.write(view, rows(part, event)) for part in parts for event in events), flush=True)


if __name__ == "__main__":
    main()
