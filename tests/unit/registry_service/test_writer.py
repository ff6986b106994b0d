from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from plumbline.registry.errors import DatabaseUnavailable
from registry_service.writer import Writer


class Ledger:
    """A database that is a list: a transaction that fails leaves nothing in it."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.commits: list[int] = []
        self.down = False

    @contextmanager
    def write(self) -> Iterator[Any]:
        added: list[str] = []
        yield added
        if self.down:
            raise DatabaseUnavailable("down")
        self.kept += added
        self.commits.append(len(added))

    def read(self) -> Any:
        raise AssertionError("nothing reads")


def _add(text: str) -> Any:
    def work(added: Any) -> str:
        if text.startswith("bad"):
            raise ValueError(text)
        added.append(text)
        return text.upper()

    return work


async def _blocked(writer: Writer) -> threading.Event:
    """Keeps the writer busy until the event is set: what comes now waits together."""
    begun, free = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        begun.set()
        free.wait(30)

    task = asyncio.ensure_future(writer.run(wait))
    assert await asyncio.to_thread(begun.wait, 30)
    free.task = task  # type: ignore[attr-defined] # or it could be collected
    return free


async def test_what_waits_together_is_committed_together() -> None:
    ledger = Ledger()
    writer = Writer(ledger)
    free = await _blocked(writer)
    waiting = [asyncio.ensure_future(writer.run(_add(f"c{i}"))) for i in range(5)]
    await asyncio.sleep(0)
    free.set()
    assert await asyncio.gather(*waiting) == ["C0", "C1", "C2", "C3", "C4"]
    assert ledger.kept == ["c0", "c1", "c2", "c3", "c4"]
    assert ledger.commits == [0, 5]
    assert writer.close(10) == 0


async def test_a_change_that_fails_takes_nobody_with_it() -> None:
    ledger = Ledger()
    writer = Writer(ledger)
    free = await _blocked(writer)
    waiting = [asyncio.ensure_future(writer.run(_add(text))) for text in ("a", "bad", "b")]
    await asyncio.sleep(0)
    free.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[0] == "A"
    assert results[2] == "B"
    assert isinstance(results[1], ValueError)
    assert ledger.kept == ["a", "b"]
    assert writer.close(10) == 0


async def test_a_database_that_is_down_fails_them_all_at_once() -> None:
    ledger = Ledger()
    writer = Writer(ledger)
    free = await _blocked(writer)
    waiting = [asyncio.ensure_future(writer.run(_add(f"c{i}"))) for i in range(3)]
    await asyncio.sleep(0)
    ledger.down = True
    free.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailable] * 3
    assert ledger.kept == []
    ledger.down = False
    assert await writer.run(_add("later")) == "LATER"
    assert writer.close(10) == 0


async def test_a_change_whose_caller_gave_up_before_it_began_is_not_made() -> None:
    ledger = Ledger()
    writer = Writer(ledger)
    free = await _blocked(writer)
    given_up = asyncio.ensure_future(writer.run(_add("a")))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    free.set()
    assert await writer.run(_add("b")) == "B"
    assert ledger.kept == ["b"]
    assert writer.close(10) == 0
    with pytest.raises(RuntimeError, match="closed"):
        await writer.run(_add("c"))
