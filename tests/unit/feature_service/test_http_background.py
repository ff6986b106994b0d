"""Materializations over HTTP that nobody waits for: what goes wrong is in the log, whatever it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from feature_service.feast_clients.http import FeastHttp
from feature_service.planning import Definitions
from plumbline.features.errors import StoreUnavailable
from servicekit.telemetry import build_telemetry


class Failing:
    """A materialization that fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, *asked: Any) -> Iterator[Any]:
        raise self._error
        yield

    def interrupt(self) -> None:
        """It is done at once."""


class Heard(logging.Handler):
    """Tells when something was logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.event.set()


class Defined:
    """A catalog of no views."""

    definitions = Definitions("p", {}, {}, {}, {})


@pytest.mark.parametrize(
    "error", [StoreUnavailable("the store is away", metadata={"store": "here"}), ValueError("no such thing")]
)
async def test_any_failure_is_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    calls: Any = None
    catalog: Any = Defined()
    job: Any = Failing(error)
    telemetry = build_telemetry("test", registry=CollectorRegistry())
    http = FeastHttp(calls, catalog, lambda: job, telemetry, max_bytes=1 << 20, slow=10.0)
    transport = httpx.ASGITransport(app=http.app())
    heard = Heard()
    logging.getLogger("plumbline.rpc").addHandler(heard)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"end_ts": "2024-01-01T00:00:00Z"}
            reply = await client.post("/materialize-incremental?async=true", json=body)
            assert reply.status_code == 202
            async with asyncio.timeout(30):
                await heard.event.wait()
        await http.close()
    finally:
        logging.getLogger("plumbline.rpc").removeHandler(heard)
    assert "materialization in the background failed" in caplog.text
    assert str(error) in caplog.text
    telemetry.shutdown()
