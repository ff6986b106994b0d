"""The receiver of docs/webhooks.md, as it stands there, with messages as the registry signs them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from registry_service.threads import Threads
from registry_service.webhooks.receivers import ReceiverRules
from registry_service.webhooks.sender import Outcome, Sender, system_resolver
from registry_service.webhooks.signing import signed_headers
from tests.support import wait_until

DOCS = Path(__file__).resolve().parents[3] / "docs" / "webhooks.md"
BODY = b'{"type":"SetAlias","timestamp":"2026-03-01T12:00:00Z","data":{"resource":"models/m/aliases/a"}}'


@contextmanager
def documented_receiver(folder: Path, secret: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    script = folder / "receiver.py"
    script.write_text(code)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(script), str(port)],
        env={**os.environ, "WEBHOOK_SECRET": secret},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}/", process
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a plain secret, as it is"])
async def test_the_documented_receiver_verifies(tmp_path: Path, secret: str) -> None:
    threads = Threads("lookups", 1)
    sender = Sender(system_resolver(threads), ReceiverRules(True, (ip_network("127.0.0.0/8"),)), timeout=10)
    now = int(time.time())
    with documented_receiver(tmp_path, secret) as (url, process):
        good = signed_headers(secret, "event_1", now, BODY)
        assert await sender.post(url, good, BODY) == Outcome(204, "")
        # A repeat is accepted, and done once.
        assert await sender.post(url, good, BODY) == Outcome(204, "")
        assert (await sender.post(url, good, BODY + b" ")).status == 401
        assert (await sender.post(url, {}, BODY)).status == 401
        assert (
            await sender.post(url, signed_headers(secret, "event_2", now - 600, BODY), BODY)
        ).status == 401
        other = signed_headers("another secret of somebody", "event_3", now, BODY)
        assert (await sender.post(url, other, BODY)).status == 401
        assert (await sender.post(url, signed_headers(secret, "event_4", now, BODY), BODY)).status == 204
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "SetAlias models/m/aliases/a\n"
    threads.close(10)
