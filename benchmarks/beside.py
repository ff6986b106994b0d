"""Work on a server while something else is measured on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plumbline.errors import PlumblineError
from plumbline.features.client import FeatureClient


@contextmanager
def beside(address: str, what: str, work: Callable[[FeatureClient, threading.Event], None]) -> Iterator[None]:
    """Runs `work` in a thread while the block runs; it is to end soon after the event is set.

    Raises SystemExit where it failed or ended before: then nothing was measured beside it.
    """
    stop, failed = threading.Event(), list[PlumblineError]()

    def run() -> None:
        with FeatureClient(address) as client:
            try:
                work(client, stop)
            except PlumblineError as error:
                failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        early = not thread.is_alive()
        stop.set()
        thread.join()
    if failed or early:
        raise SystemExit(f"the {what} beside the measurement failed: {failed[0] if failed else 'it ended'}")
