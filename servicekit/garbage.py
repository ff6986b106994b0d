"""Python's garbage collector, kept from stopping a server."""

from __future__ import annotations

import gc

#: Allocations between two collections of the youngest generation. A call allocates some hundred objects that
#: reference counts free at once; only its tasks' cycles are left to be found.
_YOUNG = 10_000


def settle() -> None:
    """Takes what the start left behind (modules, definitions, connections) out of the collector's sight.

    Called once the server is ready. Libraries such as Feast leave a million objects; to go through them all,
    as a full collection does now and then, stops every call for 100 ms and more. They are reachable for as
    long as the process lives anyway.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
