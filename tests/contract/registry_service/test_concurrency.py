from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from plumbline.registry.errors import EtagMismatch
from registry_service import aliases, lineage, models, names, versions
from registry_service.domain import AliasRef, Direction, etag
from registry_service.filtering.search import Search
from registry_service.repository.database import SqlDatabase, open_engine
from tests.contract.registry_service.desk import Desk, definition, model_file, snapshot

T = TypeVar("T")

CHAMPION = AliasRef("flights", "champion")


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Runs `work` on as many threads, started together."""
    together = threading.Barrier(count)

    def run(number: int) -> T:
        together.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_version_numbers_have_no_gaps_and_no_repeats(desk: Desk) -> None:
    desk.model()
    numbers = at_once(12, lambda _: [desk.draft().ref.number for _ in range(5)])
    assert sorted(number for taken in numbers for number in taken) == list(range(1, 61))
    assert all(taken == sorted(taken) for taken in numbers)
    assert desk.ask(models.get, "flights").latest_version == 60


def test_two_processes_number_together(desk: Desk, database_url: str) -> None:
    """Two databases on one URL share no lock of the process."""
    desk.model()
    engine = open_engine(database_url, busy_seconds=30)
    other = Desk(SqlDatabase(engine, busy_seconds=30), desk.clock)
    numbers = at_once(8, lambda n: [(desk, other)[n % 2].draft().ref.number for _ in range(4)])
    engine.dispose()
    assert sorted(number for taken in numbers for number in taken) == list(range(1, 33))


def test_of_many_moves_from_one_state_one_wins(desk: Desk) -> None:
    desk.model()
    ready = [desk.ready() for _ in range(8)]
    first = desk.set_alias("champion", ready[0].ref)
    tag = etag(str(CHAMPION), first.revision)

    def move(number: int) -> bool:
        try:
            desk.set_alias("champion", ready[number].ref, etag=tag)
        except EtagMismatch:
            return False
        return True

    won = at_once(8, move)
    assert won.count(True) == 1
    holder = desk.ask(aliases.resolve, CHAMPION, None)[0]
    assert holder.version == ready[won.index(True)].ref
    assert len(desk.ask(aliases.history_page, CHAMPION, before=None, limit=99)) == 2


def test_of_many_first_moves_one_wins(desk: Desk) -> None:
    desk.model()
    ready = desk.ready()

    def move(_: int) -> bool:
        try:
            desk.set_alias("champion", ready.ref, must_not_exist=True)
        except EtagMismatch:
            return False
        return True

    assert at_once(8, move).count(True) == 1


def test_unconditional_moves_all_happen_in_one_order(desk: Desk) -> None:
    desk.model()
    ready = [desk.ready() for _ in range(8)]
    at_once(8, lambda n: desk.set_alias("champion", ready[n].ref))
    events = desk.ask(aliases.history_page, CHAMPION, before=None, limit=99)[::-1]
    assert [event.from_version for event in events] == [None, *(event.to_version for event in events[:-1])]
    assert sorted(event.to_version.number for event in events if event.to_version) == list(range(1, 9))
    assert [event.revision for event in events] == list(range(1, 9))


def test_finalizing_races_with_uploads(desk: Desk) -> None:
    desk.model()
    draft = desk.draft()
    desk.add_file(draft.ref)

    def act(number: int) -> bool:
        try:
            if number % 4 == 0:
                desk.do(versions.finalize, draft.ref, "")
            else:
                desk.add_file(draft.ref, model_file(f"part-{number}.txt"))
        except versions.VersionImmutable:
            return False
        return True

    done = at_once(12, act)
    assert sum(done[::4]) == 1
    kept = {f"part-{number}.txt" for number in range(12) if number % 4 and done[number]}
    ready = desk.version(draft.ref)
    assert {file.path for file in ready.files} == kept | {"model.txt"}
    assert ready.manifest_digest == versions.manifest_digest(ready.files)


def test_one_snapshot_recorded_by_many_is_one(desk: Desk) -> None:
    views = tuple(definition(name) for name in "abcdef")

    def record(number: int) -> int:
        mine = snapshot(f"own-{number}", feature_service=definition("s"), feature_views=views[number % 3 :])
        desk.dataset(mine)
        return desk.dataset(snapshot("shared", feature_service=definition("s"), feature_views=views)).id

    assert len(set(at_once(8, record))) == 1
    assert len(desk.datasets().items) == 9


def test_pages_under_inserts_miss_and_repeat_nothing_that_was_there(desk: Desk) -> None:
    desk.model()
    for number in range(30):
        desk.draft()
        desk.model(f"m{number:02}")
    stop = threading.Event()

    def insert() -> None:
        number = 0
        while not stop.is_set():
            desk.draft()
            desk.model(f"m{number % 30:02}-{number}")
            number += 1

    with ThreadPoolExecutor(1) as pool:
        inserting = pool.submit(insert)
        try:
            numbers: list[int] = []
            page = desk.versions("flights", limit=4)
            while page.items:
                numbers += [version.ref.number for version in page.items]
                page = desk.versions("flights", after=page.end, limit=4)
            listed: list[str] = []
            found = desk.models(limit=4)
            while found.items:
                listed += [model.name for model in found.items]
                found = desk.models(after=found.end, limit=4)
        finally:
            stop.set()
        inserting.result(30)
    assert numbers == sorted(set(numbers), reverse=True)
    assert set(range(1, 31)) <= set(numbers)
    assert listed == sorted(set(listed))
    assert {f"m{number:02}" for number in range(30)} <= set(listed)


def test_a_reader_sees_one_state_while_writers_go_on(desk: Desk) -> None:
    desk.model()
    with desk.database.read() as transaction:
        before = transaction.models.get("flights")
        desk.draft()
        page = lineage.walk(
            transaction,
            "models/flights",
            names.node("node", "models/flights"),
            direction=Direction.DOWNSTREAM,
            depth=10,
            after=None,
            limit=10,
        )
        assert (before.latest_version, page.edges) == (0, ())
        assert transaction.versions.search(Search(), model_id=before.id, limit=10) == []
    assert desk.ask(models.get, "flights").latest_version == 1
