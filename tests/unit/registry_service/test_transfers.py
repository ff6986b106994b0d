"""What lies between the network and the disk is bounded; what a call leaves behind depends on how it ends."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from plumbline.registry.errors import (
    DatabaseUnavailable,
    FileTooLarge,
    StorageFull,
    StorageUnavailable,
    UploadSizeMismatch,
    VersionImmutable,
)
from registry_service.artifacts import KEEP_UPLOADS, StoredBlob, Upload
from registry_service.domain import ModelFile
from registry_service.ports_blobs import Staged
from registry_service.threads import Threads
from registry_service.transfers import Transfers
from registry_service.uploads import BytesGone
from tests.support import wait_until

CHUNK = bytes(1024 * 1024)
FILE = ModelFile("model.bin", "0" * 64, 100 * len(CHUNK), "")
UPLOAD = Upload(1, FILE)


class FakeStaged:
    """Keeps what is written; `open_gate` lets writes through."""

    path = Path("scratch")

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.written, self.ended = 0, ""
        self.error: Exception | None = None

    def reread(self) -> bool:
        return False

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.written += sum(map(len, chunks))

    def wants_sync(self) -> bool:
        return False

    def sync(self) -> None:
        raise AssertionError("not asked for")

    def finish(self) -> None:
        """Content with anything."""

    def close(self) -> None:
        self.ended = "kept"

    def discard(self) -> None:
        self.ended = "discarded"


class FakeStaging:
    def __init__(self) -> None:
        self.staged = FakeStaged()

    def prepare(self) -> None:
        """Nothing to do."""

    def received(self, upload: Upload) -> int:
        return self.staged.written

    def begin(self, upload: Upload) -> Staged:
        return self.staged

    def resume(self, upload: Upload, offset: int) -> Staged:
        return self.staged

    def expire(self, keep: timedelta = KEEP_UPLOADS, *, dry_run: bool = False) -> int:
        return 0


class FakeBlobs:
    """Also what is read from it: endless chunks, counted."""

    def __init__(self) -> None:
        self.published, self.reads, self.closed = 0, 0, False
        self.error: Exception | None = None

    def prepare(self) -> None:
        """Nothing to do."""

    def publish(self, file: ModelFile, source: Path) -> None:
        self.published += 1
        if self.error is not None:
            raise self.error

    def holds(self, file: ModelFile) -> bool:
        return True

    def open(self, file: ModelFile) -> FakeBlobs:
        return self

    def measure(self, sha256: str) -> tuple[str, int] | None:
        return None

    def remove(self, sha256: str) -> None:
        """Nothing is kept."""

    def stored(self) -> Iterator[StoredBlob]:
        return iter(())

    def read(self) -> bytes:
        self.reads += 1
        return CHUNK

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self) -> None:
        self.blobs, self.staging, self.threads = FakeBlobs(), FakeStaging(), Threads("files", 2)
        self.staged = self.staging.staged
        self.transfers = Transfers(self.blobs, self.staging, self.threads, FILE.size_bytes)
        self.taken = 0

    async def chunks(self, count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            self.taken += 1
            yield CHUNK

    async def receive(self, count: int = 3, *errors: Exception) -> ModelFile:
        """errors: what registering meets, one after the other, before it succeeds."""
        waiting = list(errors)

        async def register() -> ModelFile:
            if waiting:
                raise waiting.pop(0)
            return FILE

        return await self.transfers.receive(UPLOAD, 0, self.chunks(count), register)

    async def ends(self, how: str) -> None:
        await asyncio.to_thread(wait_until, lambda: self.staged.ended == how, 10)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.staged.gate.set()
    world.threads.close(5)


async def _until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition, 10)


async def test_a_slow_disk_holds_the_caller_back(world: World) -> None:
    world.staged.gate.clear()
    call = asyncio.ensure_future(world.receive(100))
    # Long after everything that could be taken was taken.
    for _ in range(1000):
        await asyncio.sleep(0)
    assert 1 <= world.taken <= 5
    world.staged.gate.set()
    assert await call == FILE
    assert world.staged.written == 100 * len(CHUNK)
    await world.ends("discarded")


async def test_a_slow_caller_has_only_a_few_chunks_read_for_it(world: World) -> None:
    sending = world.transfers.send(FILE)
    assert await anext(sending) == CHUNK
    await _until(lambda: world.blobs.reads >= 4)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert world.blobs.reads == 4
    await sending.aclose()  # type: ignore[attr-defined]
    await asyncio.to_thread(wait_until, lambda: world.blobs.closed, 10)


async def test_what_came_before_a_break_is_written_then_kept(world: World) -> None:
    world.staged.gate.clear()
    never = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        async for chunk in world.chunks(2):
            yield chunk
        await never.wait()

    async def register() -> ModelFile:
        raise AssertionError("nothing to register")

    call = asyncio.ensure_future(world.transfers.receive(UPLOAD, 0, broken(), register))
    await _until(lambda: world.taken == 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert world.staged.ended == ""
    world.staged.gate.set()
    await world.ends("kept")
    assert world.staged.written == 2 * len(CHUNK)


async def test_bytes_that_were_swept_are_published_again(world: World) -> None:
    assert await world.receive(3, BytesGone("gone"), BytesGone("gone")) == FILE
    assert world.blobs.published == 3
    await world.ends("discarded")


async def test_bytes_that_are_swept_again_and_again_are_kept_for_another_call(world: World) -> None:
    with pytest.raises(BytesGone):
        await world.receive(3, *[BytesGone("gone")] * 5)
    assert world.blobs.published == 3
    await world.ends("kept")


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (DatabaseUnavailable("busy"), "kept"),
        (StorageUnavailable("away"), "kept"),
        (VersionImmutable("ready"), "discarded"),
    ],
)
async def test_what_another_call_can_use_is_kept(world: World, error: Exception, end: str) -> None:
    with pytest.raises(type(error)):
        await world.receive(3, error)
    await world.ends(end)


async def test_a_source_that_another_call_took_is_a_reason_to_try_again(world: World) -> None:
    world.blobs.error = FileNotFoundError()
    with pytest.raises(StorageUnavailable):
        await world.receive(1)


async def test_a_full_disk_keeps_nothing(world: World) -> None:
    world.staged.error = OSError(errno.ENOSPC, "full")
    with pytest.raises(StorageFull) as caught:
        await world.receive(3)
    assert caught.value.metadata == {"path": "model.bin"}
    await world.ends("discarded")


@pytest.mark.parametrize(("actual", "end"), [(5, "kept"), (7, "discarded")])
async def test_too_few_bytes_stay_too_many_do_not(world: World, actual: int, end: str) -> None:
    world.staged.error = UploadSizeMismatch("six", metadata={"expected": "6", "actual": str(actual)})
    with pytest.raises(UploadSizeMismatch):
        await world.receive(1)
    await world.ends(end)


async def test_a_file_beyond_the_limit_is_refused_before_its_first_byte(world: World) -> None:
    too_large = Upload(1, ModelFile("x", "0" * 64, FILE.size_bytes + 1, ""))

    async def register() -> ModelFile:
        raise AssertionError("nothing to register")

    with pytest.raises(FileTooLarge):
        await world.transfers.receive(too_large, 0, world.chunks(1), register)
    assert world.taken == 0
