"""Sixteen writers in two processes on one database."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from registry_service import aliases
from registry_service.integrity.findings import Finding, Summary
from registry_service.integrity.verification import verify
from registry_service.stores.local import LocalBlobs
from tests.contract.registry_service.desk import Desk
from tests.contract.registry_service.writing import CHAMPION

WRITERS, ROUNDS = 8, 6


def test_numbers_winners_and_the_chain(desk: Desk, database_url: str, tmp_path: Path) -> None:
    """Numbers without gaps or repeats, one winner of each move, nobody turned away, one sound chain."""
    desk.model()
    ready = [desk.ready() for _ in range(ROUNDS + 1)]
    desk.set_alias("champion", ready[0].ref)
    command = [sys.executable, "-m", "tests.contract.registry_service.writing"]
    processes = [
        subprocess.Popen(
            [*command, database_url, str(WRITERS), str(ROUNDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0]
    numbers = [number for answer in answers for number in answer["numbers"]]
    first = len(ready) + 1
    assert sorted(numbers) == list(range(first, first + 2 * WRITERS * ROUNDS))
    won = sorted(number for answer in answers for number in answer["won"])
    assert won == list(range(1, ROUNDS + 1))
    history = desk.ask(aliases.history_page, CHAMPION, before=None, limit=99)[::-1]
    assert [event.to_version.number for event in history if event.to_version] == [1, *(n + 1 for n in won)]
    assert [event.revision for event in history] == list(range(1, len(history) + 1))
    parts = list(verify(desk.database, LocalBlobs(tmp_path), skip_blobs=True))
    assert [part for part in parts if isinstance(part, Finding)] == []
    assert isinstance(parts[-1], Summary)
    # Every change left one event: genesis, model, three of each ready version, drafts and moves.
    assert parts[-1].events == 2 + 3 * len(ready) + len(numbers) + len(history)
