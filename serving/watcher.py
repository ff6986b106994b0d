"""Keeps every slot at the version its name stands for in the registry."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from plumbline.errors import PlumblineError
from plumbline.registry.errors import VersionNotReady
from serving.domain import Release
from serving.loader import NO_ANSWER, Loader
from serving.models import ModelTable, Slot

_log = logging.getLogger("plumbline.watcher")


@dataclass
class _Attempt:
    """The last attempt to load a version that failed: when to try again, and after what pause."""

    release: Release | None = None
    again_at: float = 0.0
    pause: float = 0.0


class Watcher:
    """Looks each name up every `poll_seconds`. A version that cannot be loaded is tried again after a
    pause that doubles up to `retry_seconds`; meanwhile the one before goes on being served."""

    def __init__(
        self, models: ModelTable, loader: Loader, *, poll_seconds: float, retry_seconds: float
    ) -> None:
        self._models, self._loader = models, loader
        self._poll, self._retry = poll_seconds, retry_seconds

    async def run(self) -> None:
        """Until cancelled. One slot that loads slowly does not hold up the others."""
        async with asyncio.TaskGroup() as group:
            for slot in self._models.slots:
                group.create_task(self._follow(slot))

    async def _follow(self, slot: Slot) -> None:
        attempt = _Attempt()
        while True:
            try:
                await self.visit(slot, attempt)
            except Exception as error:  # noqa: BLE001 - the outermost point of this task: it has to go on
                _log.error("unexpected error about %s", slot.ref.name, exc_info=error)
                self._models.refuse(slot, f"unexpected error, see the server's log: {error!r}{_still(slot)}")
            if slot.loaded is not None and not slot.ref.alias and not slot.last_error:
                return  # a version never changes
            await asyncio.sleep(self._poll)

    async def visit(self, slot: Slot, attempt: _Attempt) -> None:
        """Looks once, and loads what is new. Errors end up in the slot's last_error."""
        try:
            release = await self._loader.resolve(slot.ref)
        except NO_ANSWER as error:
            await self._without_registry(slot, error)
            return
        except VersionNotReady as error:
            await self._keep_last(slot, error.message)
            return
        except PlumblineError as error:
            self._models.refuse(slot, f"{error.message}{_still(slot)}")
            return
        if slot.loaded is not None and slot.loaded.release == release:
            self._models.refuse(slot, "")
            return
        if attempt.release == release and time.monotonic() < attempt.again_at:
            return
        try:
            self._models.swap(slot, await self._loader.load(slot.ref, release))
        except (PlumblineError, OSError) as error:
            pause = min(attempt.pause * 2 if attempt.release == release else self._poll, self._retry)
            attempt.release, attempt.pause = release, pause
            attempt.again_at = time.monotonic() + pause
            await self._keep_last(slot, f"{release.version} is not served: {error}", but=release)

    async def _keep_last(self, slot: Slot, why: str, but: Release | None = None) -> None:
        """What is served stays; a server that just started serves what it served last, for a restart
        takes nothing out of service. but: the release that was found not to be fit for it."""
        if slot.loaded is None:
            await self._load_last(slot, why, but)
        else:
            self._models.refuse(slot, f"{why}{_still(slot)}")

    async def _without_registry(self, slot: Slot, error: PlumblineError) -> None:
        if slot.loaded is not None:
            _log.warning("%s: %s; %s goes on", slot.ref.name, error.message, slot.loaded.release.version)
            return
        await self._load_last(slot, error.message, None)

    async def _load_last(self, slot: Slot, why: str, but: Release | None) -> None:
        """Serves from the cache alone, unless that is `but`. why: what is in the way of all else."""
        self._models.refuse(slot, why)
        try:
            loaded = await self._loader.load_last(slot.ref, but=but)
        except (PlumblineError, OSError) as damage:
            self._models.refuse(slot, f"{why}; what was served last cannot be used: {damage}")
            return
        if loaded is not None:
            self._models.swap(slot, loaded)
            self._models.refuse(slot, f"{why}{_still(slot)}")


def _still(slot: Slot) -> str:
    return "" if slot.loaded is None else f"; {slot.loaded.release.version} goes on being served"
