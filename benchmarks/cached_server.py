"""The ceiling: bare grpc.aio and uvloop, answering every call with the bytes of a file.

    python -m benchmarks.cached_server FILE

It parses no request, logs nothing, counts nothing and has no health service: what is left is the runtime's
own cost of a call with such a reply. Prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop


async def serve(reply: bytes) -> None:
    """Until the process is ended."""

    async def answer(request: bytes, context: Any) -> bytes:
        return reply

    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_registered_method_handlers("Cached", {"Get": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]).read_bytes()))
