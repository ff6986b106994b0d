"""One DuckDB of a join's own: bounded memory, a folder to spill to, errors in the suite's words."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from feature_service.stores import remote
from plumbline.errors import Cancelled
from plumbline.features.errors import JoinOutOfMemory, SourceUnreadable, StorageFull

ResultT = TypeVar("ResultT")

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class JoinLimits:
    """What a join may use. memory: as DuckDB writes it, "2GB"; beyond it, data spills to temp_folder.
    threads 0: one for each core. temp_folder None: the system's."""

    memory: str = "2GB"
    threads: int = 0
    temp_folder: str | None = None


class Session:
    """A DuckDB connection and its folder, until `close`. Not thread-safe but for interrupt().

    Every method that runs a query raises Cancelled once interrupted.
    """

    def __init__(self, limits: JoinLimits) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="plumbline-join-", dir=limits.temp_folder)
        self.folder = Path(self._folder.name)
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": limits.memory,
                "threads": limits.threads or os.cpu_count() or 1,
                "temp_directory": str(self.folder / "spill"),
                "preserve_insertion_order": True,
            },
        )
        # Naive times count as UTC, also where files with and without a zone are read as one column.
        self.connection.execute("SET TimeZone = 'UTC'")
        # How far a query is gets counted, to be asked for, but not printed.
        self.connection.execute("SET enable_progress_bar_print = false")
        self.connection.execute("SET enable_progress_bar = true")
        remote.register(self.connection)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plumbline-duckdb")
        self._interrupted = False

    def close(self) -> None:
        """Frees everything. A query that still runs is stopped first."""
        self.interrupt()
        self._thread.shutdown(wait=True)
        self.connection.close()
        self._folder.cleanup()

    def interrupt(self) -> None:
        """Stops what runs now and what would run next with Cancelled; from any thread."""
        self._interrupted = True
        with suppress(duckdb.ConnectionException):  # closed meanwhile: nothing is left to stop
            self.connection.interrupt()

    def check(self) -> None:
        """Raises Cancelled once interrupted."""
        if self._interrupted:
            raise Cancelled("the join was cancelled")

    def run(self, statement: str) -> None:
        """Runs a statement."""
        self.check()
        self.connection.execute(statement)

    def load(self, statement: str, rows: pa.Table) -> None:
        """Runs a statement that selects from `loaded`."""
        connection: Any = self.connection
        connection.register("loaded", rows)
        self.run(statement)
        connection.unregister("loaded")

    def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a small result."""
        self.check()
        rows: list[tuple[Any, ...]] = self.connection.execute(query).fetchall()
        return rows

    def memory_limit(self) -> int:
        """Bytes that DuckDB may use."""
        [(limit,)] = self.fetch("SELECT parse_formatted_bytes(current_setting('memory_limit'))")
        return int(limit)

    def watch(self, call: Callable[[], ResultT]) -> Generator[float, None, ResultT]:
        """Runs a call that queries, on a thread of its own; yields meanwhile how far the query is (0 to 1).

        An iterator that is closed early stops the query and waits for it.
        """
        self.check()
        running = self._thread.submit(call)
        try:
            while not wait_for((running,), _POLL_SECONDS).done:
                # DuckDB does not say for every operator how far it is: -1.
                yield min(max(self.connection.query_progress(), 0.0), 100.0) / 100
        except GeneratorExit:
            self.interrupt()
            wait_for((running,))
            raise
        return running.result()


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Says in the suite's words what DuckDB found wrong.

    Raises Cancelled, JoinOutOfMemory, StorageFull, SourceUnreadable. name: of the view.
    """
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # An error of DuckDB's in the middle of a result arrives as one of Arrow's, with its text.
        said = str(error)
        if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in said:
            raise Cancelled("the join was cancelled") from error
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in said:
            raise JoinOutOfMemory(
                f"{name}: out of memory while joining ({_first_line(error)}); "
                "send fewer rows at once or raise the memory limit of joins",
                metadata={"view": name},
            ) from error
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageFull(
                f"{name}: no space is left for the result of the join", metadata={"view": name}
            ) from error
        raise SourceUnreadable(
            f"view {name}: its source cannot be read as defined: {_first_line(error)}",
            metadata={"view": name},
        ) from error


def _first_line(error: Exception) -> str:
    # What a file system of Python's raised comes with its traceback in front.
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith((" ", "Trace"))]
    return lines[0] if lines else type(error).__name__
