"""Signs of life: while a job runs, the registry is told so; when the telling stops, the run is given up."""

from __future__ import annotations

import threading
from datetime import timedelta
from types import TracebackType
from typing import Self

from plumbline.errors import PlumblineError
from plumbline.registry.errors import RunEnded
from trainer.ports import Registry, Reporter


class Lease:
    """Renews a run's lease on a thread of its own, in a `with`, thrice as often as is needed.

    A registry that cannot be reached is warned of once and asked again; a run that was ended meanwhile is
    left alone: whatever the job tells of it next is refused, and ends the job.
    """

    def __init__(self, registry: Registry, reporter: Reporter, run: str, lease: timedelta) -> None:
        self._registry, self._reporter, self._run, self._lease = registry, reporter, run, lease
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="trainer-lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stops renewing; waits for a call under way."""
        self._over.set()
        self._thread.join()

    def _renew(self) -> None:
        warned = False
        while not self._over.wait(self._lease.total_seconds() / 3):
            try:
                self._registry.renew_run(self._run, self._lease)
                warned = False
            except RunEnded:
                return
            except PlumblineError as error:
                if not warned:
                    self._reporter.warning(f"{self._run} could not be renewed: {error}")
                warned = True
