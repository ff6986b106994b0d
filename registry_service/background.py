"""What the server does beside its calls, and goes on doing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger("plumbline.registry")

#: How long after an error that nobody expected to begin again.
PAUSE_SECONDS = 5.0


async def kept_up(name: str, work: Callable[[], Awaitable[None]], pause: float = PAUSE_SECONDS) -> None:
    """Runs `work` to its end, or until this is cancelled; begins again after an error.

    A task nobody waits for would end with its first error, and its work would stand still without a word.
    name: for the log, as in "{name} failed".
    """
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - the outermost frame of a task: nobody is above it
            _log.exception("%s failed; beginning again in %g s", name, pause)
        else:
            return
        await asyncio.sleep(pause)
