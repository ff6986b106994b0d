"""`make bench-online-soak`: the memory of feature_service on LMDB under ten minutes of load.

SOAK_SECONDS sets another length. Requests of 1, 10 and 100 entities, in turns of some seconds. The first
minute does not count: whatever grows once has grown by then.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.feast_config import LMDB
from benchmarks.harness import QUICK, Samples, report, say
from benchmarks.load import Job, load_generator
from benchmarks.online import about
from benchmarks.online_world import our_requests, our_server

SECONDS = float(os.environ.get("SOAK_SECONDS", "20" if QUICK else "600"))
SETTLING = SECONDS / 10
TURN = min(5.0, SECONDS / 20)


def main() -> None:
    """The table."""
    samples, seen = Samples(), []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plumbline-soak-")))
        load = stack.enter_context(load_generator())
        server = stack.enter_context(our_server(folder, LMDB))
        jobs = [
            Job(server.address, server.method, str(our_requests(folder, size)), 8, TURN, 0)
            for size in (1, 10, 100)
        ]
        start, calls, longest = time.monotonic(), 0, 0.0
        while (elapsed := time.monotonic() - start) < SECONDS:
            if elapsed > SETTLING:
                seen.append((elapsed, server.rss_mib()))
            for job in jobs:
                found = load.run(job)
                calls, longest = calls + found.calls, max(longest, found.longest)
            say(f"{elapsed:.0f} s: {calls:,} calls, {server.rss_mib():.1f} MiB")
        seen.append((time.monotonic() - start, server.rss_mib()))
    first, last = seen[0][1], seen[-1][1]
    slope, _ = statistics.linear_regression(*zip(*seen, strict=True))
    for metric, number in (
        ("RSS growth, %", (last / first - 1) * 100),
        ("RSS slope, MiB an hour", slope * 3600),
        ("RSS after the first tenth, MiB", first),
        ("RSS at the end, MiB", last),
        ("longest call, ms", longest),
        ("calls", calls),
    ):
        samples.add("soak", metric, number)
    rows = [
        samples.row("soak", "RSS growth, %", better="lower", goal=3),
        *(
            samples.row("soak", metric, better="lower")
            for metric in (
                "RSS slope, MiB an hour",
                "RSS after the first tenth, MiB",
                "RSS at the end, MiB",
                "longest call, ms",
            )
        ),
        samples.row("soak", "calls", better="higher"),
    ]
    report("online_soak", rows, about=about(f"{SECONDS:g} s, of which the first tenth does not count"))


if __name__ == "__main__":
    main()
