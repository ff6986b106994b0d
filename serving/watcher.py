"""Keeps every slot at the version its name stands for in the registry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from plumbline.errors import PlumblineError
from plumbline.registry.errors import VersionNotReady
from serving.domain import Release
from serving.loader import NO_ANSWER, Loader
from serving.models import ModelTable, Slot

_log = logging.getLogger("plumbline.watcher")


@dataclass
class _Attempt:
    """The last attempt to load a version that failed: why, when to try again, and after what pause.

    silence: since when the registry cannot be reached, in words; "" while it answers.
    """

    release: Release | None = None
    why: str = ""
    again_at: float = 0.0
    pause: float = 0.0
    silence: str = ""


class Watcher:
    """Looks each name up every `poll_seconds`. A version that cannot be loaded is tried again after a
    pause that doubles up to `retry_seconds`; meanwhile the one before goes on being served.

    on_answer: called each time the registry answered, if only with an error."""

    def __init__(
        self,
        models: ModelTable,
        loader: Loader,
        *,
        poll_seconds: float,
        retry_seconds: float,
        on_answer: Callable[[], None],
    ) -> None:
        self._models, self._loader, self._on_answer = models, loader, on_answer
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
                why = f"unexpected error, see the server's log: {error!r}{_still(slot)}"
                if why != slot.last_error:
                    _log.error("unexpected error about %s", slot.ref.name, exc_info=error)
                self._models.refuse(slot, why)
            if slot.loaded is not None and not slot.ref.alias and not slot.last_error:
                return  # a version never changes
            await asyncio.sleep(self._poll)

    async def visit(self, slot: Slot, attempt: _Attempt) -> None:
        """Looks once, and loads what is new. Errors end up in the slot's last_error."""
        try:
            release = await self._resolve(slot, attempt)
        except NO_ANSWER:
            await self._keep_last(slot, attempt.silence, refused=slot.refused)
            return
        except VersionNotReady as error:
            await self._keep_last(slot, error.message)
            return
        except PlumblineError as error:
            self._models.refuse(slot, f"{error.message}{_still(slot)}")
            return
        if slot.loaded is not None and slot.loaded.release == release:
            self._models.accept(slot)
            return
        if attempt.release == release and time.monotonic() < attempt.again_at:
            await self._keep_last(slot, attempt.why, but=release)
            return
        try:
            self._models.swap(slot, await self._loader.load(slot.ref, release))
        except (PlumblineError, OSError) as error:
            known = attempt.release == release
            # How a server cannot be reached is told in other words each time: the first ones stand.
            if not (known and isinstance(error, NO_ANSWER) and attempt.why):
                attempt.why = f"{release.version} is not served: {error}"
            attempt.pause = min(attempt.pause * 2 if known else self._poll, self._retry)
            attempt.release, attempt.again_at = release, time.monotonic() + attempt.pause
            await self._keep_last(slot, attempt.why, but=release)

    async def _resolve(self, slot: Slot, attempt: _Attempt) -> Release:
        """What the registry says; notes whether it says anything."""
        try:
            release = await self._loader.resolve(slot.ref)
        except NO_ANSWER as error:
            if not attempt.silence:
                since = datetime.now(UTC).isoformat(timespec="seconds")
                attempt.silence = f"the registry cannot be reached since {since}: {error.message}"
            raise
        except PlumblineError:
            self._heard(slot, attempt)
            raise
        self._heard(slot, attempt)
        return release

    def _heard(self, slot: Slot, attempt: _Attempt) -> None:
        if attempt.silence:
            _log.info("%s: the registry answers again", slot.ref.name, extra={"before": attempt.silence})
        attempt.silence = ""
        self._on_answer()

    async def _keep_last(
        self, slot: Slot, why: str, *, but: Release | None = None, refused: bool = True
    ) -> None:
        """What is served stays; a server that just started serves what it served last, for a restart
        takes nothing out of service. but: the release that was found not to be fit for it."""
        if slot.loaded is None:
            try:
                loaded = await self._loader.load_last(slot.ref, but=but)
            except (PlumblineError, OSError) as damage:
                why = f"{why}; what was served last cannot be used: {damage}"
            else:
                if loaded is not None:
                    self._models.swap(slot, loaded)
        self._models.refuse(slot, f"{why}{_still(slot)}", refused=refused)


def _still(slot: Slot) -> str:
    return "" if slot.loaded is None else f"; {slot.loaded.release.version} goes on being served"
