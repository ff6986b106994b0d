"""The cases of the registry benchmark: what is asked, what must come back, and what we set ourselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import QUICK
from benchmarks.registry_world import PER_BATCH, Requests
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res

ROUNDS, SECONDS, WARM_UP = (1, 1.0, 0.3) if QUICK else (5, 3.0, 0.5)
#: In the model that is searched.
VERSIONS = 1_000 if QUICK else 10_000
_CREATES = 20_000


@dataclass(frozen=True)
class Case:
    """What all contenders of one case are asked.

    requests: makes the files of a measurement, for gRPC and HTTP; kept: once for all measurements. method: of
    ours over gRPC; None where only HTTP has such a call. check_grpc, check_http: of a reply's bytes, raise
    AssertionError: no contender may cheat. goal: throughput, ours / MLflow's.
    """

    name: str
    clients: int
    goal: float | None
    method: str | None
    requests: Callable[[Requests], tuple[Path, Path]]
    check_grpc: Callable[[bytes], None]
    check_http: Callable[[bytes], None]
    kept: bool = True
    most_calls: int | None = None


def _alias(reply: bytes) -> None:
    version = pb.ResolveAliasResponse.FromString(reply).version.name
    assert version == "models/served/versions/1", f"champion is {version!r}"


def _alias_http(reply: bytes) -> None:
    version = json.loads(reply)["model_version"]
    assert (version["name"], version["version"]) == ("served", "1"), f"champion is {version}"


def _created(reply: bytes) -> None:
    name = res.ModelVersion.FromString(reply).name
    assert name.startswith("models/growing/versions/"), f"created {name!r}"


def _created_http(reply: bytes) -> None:
    version = json.loads(reply)["model_version"]
    assert version["name"] == "growing", f"created {version}"


def _versions(count: int) -> Callable[[bytes], None]:
    def check(reply: bytes) -> None:
        found = len(pb.ListVersionsResponse.FromString(reply).versions)
        assert found == count, f"{found} versions instead of {count}"

    return check


def _versions_http(count: int) -> Callable[[bytes], None]:
    def check(reply: bytes) -> None:
        found: list[Any] = json.loads(reply)["model_versions"]
        assert len(found) == count, f"{len(found)} versions instead of {count}"

    return check


CASES = [
    Case(
        "get by alias",
        clients=8,
        goal=10,
        method="ResolveAlias",
        requests=Requests.alias,
        check_grpc=_alias,
        check_http=_alias_http,
    ),
    Case(
        "create version",
        clients=8,
        goal=5,
        method="CreateVersion",
        requests=lambda requests: requests.create(_CREATES),
        check_grpc=_created,
        check_http=_created_http,
        kept=False,
        most_calls=_CREATES,
    ),
    Case(
        f"search {VERSIONS:,} versions by tag",
        clients=8,
        goal=10,
        method="ListVersions",
        requests=Requests.by_tag,
        check_grpc=_versions(PER_BATCH),
        check_http=_versions_http(PER_BATCH),
    ),
    Case(
        f"first 100 of {VERSIONS:,} versions",
        clients=8,
        goal=10,
        method="ListVersions",
        requests=Requests.page,
        check_grpc=_versions(100),
        check_http=_versions_http(100),
    ),
    Case(
        f"all {VERSIONS:,} versions in one page",
        clients=1,
        goal=10,
        method=None,
        requests=Requests.default_page,
        check_grpc=_versions(VERSIONS),
        check_http=_versions_http(VERSIONS),
    ),
]
