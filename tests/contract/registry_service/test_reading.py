"""Kept answers are as fresh as the database, whoever changes it."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import Engine

from plumbline.registry.errors import AliasNotFound, DatabaseUnavailable
from registry_service import aliases, models
from registry_service.calls import Calls
from registry_service.changes import Changes
from registry_service.commands import UpdateModel
from registry_service.domain import AliasRef, VersionRef
from registry_service.filtering.search import Search
from registry_service.news import News
from registry_service.ports import Changed, Transaction
from registry_service.reading import Answer, CachedReads
from registry_service.repository.database import SqlDatabase, open_engine
from registry_service.repository.freshness import open_freshness
from registry_service.threads import Threads
from registry_service.writer import Writer
from tests.contract.registry_service.conftest import TickingClock
from tests.contract.registry_service.desk import Desk


@dataclass(frozen=True)
class Reader:
    """What a process reads by. asked: how often the database had to be."""

    reads: CachedReads
    news: News
    asked: list[str]

    async def champion(self, model: str = "flights") -> int:
        def work(transaction: Transaction) -> Answer:
            self.asked.append(model)
            alias, version = aliases.resolve(transaction, AliasRef(model, "champion"), None)
            return Answer(str(alias.version.number).encode(), version.model_id)

        return int(await self.reads.read(("champion", model), work))

    async def description(self, name: str) -> str:
        def work(transaction: Transaction) -> Answer:
            self.asked.append(name)
            model = models.get(transaction, name)
            return Answer(model.description.encode(), model.id)

        return (await self.reads.read(("model", name), work)).decode()


@pytest.fixture
async def reader(engine: Engine, clock: TickingClock) -> Iterator[Reader]:  # type: ignore[misc]
    """With a process of its own as far as the database can tell: nothing wakes it."""
    freshness, looking, threads = open_freshness(engine), Threads("news", 1), Threads("reads", 4)
    database = SqlDatabase(engine, busy_seconds=20)
    writer = Writer(database)
    news = News(freshness, looking, 20)
    calls = Calls(database, Changes(database, clock), threads, writer, 20)
    yield Reader(CachedReads(calls, news), news, [])
    for worker in (looking, threads, writer):
        assert await asyncio.to_thread(worker.close, 10) == 0
    freshness.close()


def _champions(desk: Desk) -> list[int]:
    desk.model()
    return [desk.ready().ref.number for _ in range(3)]


async def test_an_answer_is_kept_until_its_model_changes(desk: Desk, reader: Reader) -> None:
    _champions(desk)
    desk.model("other")
    first = desk.ready().ref
    desk.set_alias("champion", replace(first, number=1))
    assert [await reader.champion() for _ in range(3)] == [1, 1, 1]
    assert len(reader.asked) == 1
    desk.ready("other")
    assert await reader.champion() == 1
    assert len(reader.asked) == 1
    desk.set_alias("champion", replace(first, number=2))
    assert await reader.champion() == 2
    desk.clear_alias(AliasRef("flights", "champion"))
    with pytest.raises(AliasNotFound):
        await reader.champion()
    with pytest.raises(AliasNotFound):
        await reader.champion()
    assert len(reader.asked) == 4


async def test_a_renamed_model_is_not_found_under_its_old_name(desk: Desk, reader: Reader) -> None:
    desk.model("a", description="first")
    assert await reader.description("a") == "first"
    desk.do(models.rename, "a", "b", "")
    desk.model("a", description="second")
    assert (await reader.description("a"), await reader.description("b")) == ("second", "first")
    desk.do(models.update, UpdateModel("b", "", "third", None))
    assert (await reader.description("a"), await reader.description("b")) == ("second", "third")


async def test_what_is_read_is_never_older_than_what_was_committed_before(
    desk: Desk, reader: Reader, database_url: str
) -> None:
    """Another process moves the alias upwards without rest; a reader that saw a commit sees its value."""
    desk.model()
    versions = [desk.ready().ref for _ in range(30)]
    desk.set_alias("champion", versions[0])
    other_engine = open_engine(database_url, busy_seconds=20)
    other = Desk(SqlDatabase(other_engine, busy_seconds=20), desk.clock)
    committed, ended = [versions[0].number], threading.Event()

    def move() -> None:
        try:
            for ref in versions[1:]:
                other.set_alias("champion", ref)
                committed.append(ref.number)
        finally:
            ended.set()

    async def read() -> int:
        count = 0
        while not ended.is_set():
            least = committed[-1]
            assert await reader.champion() >= least
            count += 1
        return count

    thread = threading.Thread(target=move)
    thread.start()
    counts = await asyncio.gather(*(read() for _ in range(8)))
    await asyncio.to_thread(thread.join, 30)
    assert min(counts) > 0
    assert await reader.champion() == versions[-1].number
    other_engine.dispose()


async def test_random_changes_and_reads_agree_with_the_database(desk: Desk, reader: Reader) -> None:
    dice = random.Random(7)
    names = ["a", "b", "c"]
    for name in names:
        desk.model(name)
        for _ in range(3):
            desk.ready(name)
    holders: dict[str, int] = {}
    for _ in range(150):
        name = dice.choice(names)
        if dice.random() < 0.3:
            number = dice.randint(1, 3)
            desk.set_alias("champion", VersionRef(name, number))
            holders[name] = number
        elif name in holders:
            assert await reader.champion(name) == holders[name]


async def test_answers_are_dropped_when_there_are_too_many(desk: Desk, reader: Reader) -> None:
    reader.reads._max_bytes = 10_000
    for index in range(20):
        desk.model(f"m{index}", description="x" * 500)
    for _ in range(2):
        for index in range(20):
            assert await reader.description(f"m{index}") == "x" * 500
    assert reader.reads._bytes <= 10_000
    assert len(reader.asked) == 40
    assert await reader.description("m19") == "x" * 500
    assert len(reader.asked) == 40


async def test_waiting_ends_with_a_change_of_another_process(desk: Desk, reader: Reader) -> None:
    desk.model()
    seen = await reader.news.latest()
    assert await reader.news.beyond(seen, 0) is False
    waiting = [asyncio.ensure_future(reader.news.beyond(seen, 30)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.to_thread(desk.model, "other")
    assert await asyncio.gather(*waiting) == [True] * 3
    reader.news.end()
    assert await reader.news.beyond(10**9, 30) is False


class Silent:
    """A database that cannot be reached."""

    waits = True

    def look(self, known: int) -> Changed | None:
        return None

    def close(self) -> None:
        return None


async def test_nothing_is_answered_from_memory_while_the_database_is_away() -> None:
    threads = Threads("news", 1)
    news = News(Silent(), threads, 5)
    with pytest.raises(DatabaseUnavailable):
        await news.latest()
    assert threads.close(10) == 0


async def test_an_answer_that_may_depend_on_anything_is_kept_until_anything_changes(
    desk: Desk, reader: Reader
) -> None:
    async def count() -> int:
        def work(transaction: Transaction) -> Answer:
            reader.asked.append("count")
            found = transaction.models.search(Search(), archived=False, limit=99)
            return Answer(str(len(found)).encode(), None)

        return int(await reader.reads.read("count", work))

    desk.model("a")
    assert [await count() for _ in range(3)] == [1, 1, 1]
    assert len(reader.asked) == 1
    desk.run()
    assert await count() == 1
    assert len(reader.asked) == 2
    desk.model("b")
    assert await count() == 2
