"""A process of its own that writes to a registry; its arguments are those of `main`."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from plumbline.registry.errors import EtagMismatch
from registry_service.domain import AliasRef, VersionRef
from registry_service.repository.database import SqlDatabase, open_engine
from tests.contract.registry_service.desk import Desk

CHAMPION = AliasRef("flights", "champion")


def main(url: str, writers: int, rounds: int) -> None:
    """Says "ready", waits for a line, then writes on so many threads; prints what became of it.

    In each round every writer makes a version, and tries to move the alias on from version `round` to
    version `round + 1`, which all others try too.
    """
    engine = open_engine(url, pool_size=writers, busy_seconds=60)
    desk = Desk(SqlDatabase(engine, busy_seconds=60), lambda: datetime.now(UTC))
    together = threading.Barrier(writers)

    def write(_: int) -> tuple[list[int], list[int]]:
        numbers, won = [], []
        together.wait(60)
        for number in range(1, rounds + 1):
            numbers.append(desk.draft().ref.number)
            try:
                desk.set_alias(
                    "champion",
                    VersionRef("flights", number + 1),
                    expected_version=VersionRef("flights", number),
                )
            except EtagMismatch:
                continue
            won.append(number)
        return numbers, won

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with ThreadPoolExecutor(writers) as pool:
        found = list(pool.map(write, range(writers)))
    engine.dispose()
    numbers = [number for taken, _ in found for number in taken]
    json.dump({"numbers": numbers, "won": [number for _, won in found for number in won]}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
