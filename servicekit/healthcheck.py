"""Asks a gRPC server how it is: the probe of containers and scripts.

    python -m servicekit.healthcheck 127.0.0.1:7420

Exit codes: 0 well; 1 not, with the reason on stderr; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def check(address: str, service: str = "", timeout: float = 3.0, *, live: bool = False) -> str | None:
    """None when the server at host:port is SERVING, else what is wrong, for people.

    service: a gRPC service's full name; empty asks about the server as a whole. live: it is enough that
    the server answers, as when serving has no model yet and says NOT_SERVING.
    """
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            state = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout).status
        except grpc.RpcError as error:
            # A call that fails is a grpc.Call too; the stubs do not say so.
            call: Any = error
            return f"{address} does not answer: {call.code().name}: {call.details()}"
    if live or state == health_pb2.HealthCheckResponse.SERVING:
        return None
    return f"{address} answers {health_pb2.HealthCheckResponse.ServingStatus.Name(state)}"


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(prog="python -m servicekit.healthcheck", description=__doc__)
    parser.add_argument("address", help="host:port of the server")
    parser.add_argument("--service", default="", help="a gRPC service's full name; default: the server")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds to wait for an answer (3)")
    parser.add_argument("--live", action="store_true", help="any answer will do, also NOT_SERVING")
    options = parser.parse_args(arguments)
    wrong = check(options.address, options.service, options.timeout, live=options.live)
    if wrong:
        print(wrong, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
