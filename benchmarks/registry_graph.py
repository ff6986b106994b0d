"""A lineage graph of a hundred thousand nodes for our registry, and what is asked about it.

Feature views → services (a few views each) → datasets → runs (two datasets and one commit each) → versions →
aliases and deployments. From a view downstream that is some hundreds of nodes within six edges.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks.registry_fill import (
    START,
    add_aliases,
    add_models,
    add_rows,
    add_versions,
    filling,
    make_ready,
)
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from registry_service.tables import (
    CodeRow,
    DatasetRow,
    DeploymentRow,
    FeatureServiceMemberRow,
    FeatureServiceRow,
    FeatureViewRow,
    RunDatasetRow,
    RunRow,
    VersionDatasetRow,
)

_VIEWS_A_SERVICE, _DATASETS_A_RUN, _ALIASES_A_MODEL = 5, 2, 2


@dataclass(frozen=True)
class Sizes:
    """How many of each kind there are."""

    views: int
    services: int
    datasets: int
    commits: int
    runs: int
    models: int
    versions: int
    deployments: int

    @property
    def nodes(self) -> int:
        """All of them."""
        kinds: list[int] = list(vars(self).values())
        return sum(kinds) + self.models * _ALIASES_A_MODEL


FULL = Sizes(2_000, 2_000, 16_000, 8_000, 25_000, 1_000, 40_000, 4_000)
SMALL = Sizes(200, 200, 1_600, 800, 2_500, 100, 4_000, 400)


def fill_graph(url: str, sizes: Sizes) -> None:
    """The whole graph, always the same."""
    pick = random.Random(7)
    with filling(url) as connection:
        for table, count, what in (
            (FeatureViewRow, sizes.views, "view"),
            (FeatureServiceRow, sizes.services, "service"),
        ):
            add_rows(connection, table, [_definition(what, n) for n in range(1, count + 1)])
        members = [
            {"service_id": service, "view_id": view}
            for service in range(1, sizes.services + 1)
            for view in pick.sample(range(1, sizes.views + 1), _VIEWS_A_SERVICE)
        ]
        add_rows(connection, FeatureServiceMemberRow, members)
        add_rows(connection, DatasetRow, [_dataset(n, sizes) for n in range(1, sizes.datasets + 1)])
        add_rows(
            connection,
            CodeRow,
            [
                {"id": n, "commit_id": f"{n:040x}", "repository": "git.example/models"}
                for n in range(1, sizes.commits + 1)
            ],
        )
        add_rows(connection, RunRow, [_run(n, sizes) for n in range(1, sizes.runs + 1)])
        read = [pick.sample(range(1, sizes.datasets + 1), _DATASETS_A_RUN) for _ in range(sizes.runs)]
        add_rows(
            connection,
            RunDatasetRow,
            [
                {"run_id": run, "dataset_id": dataset, "position": position}
                for run, datasets in enumerate(read, 1)
                for position, dataset in enumerate(datasets)
            ],
        )
        each = sizes.versions // sizes.models
        names = [f"model-{n}" for n in range(1, sizes.models + 1)]
        add_models(connection, names, [each] * sizes.models)
        made_by = [1 + n % sizes.runs for n in range(sizes.versions)]
        add_versions(
            connection,
            [
                {"id": n + 1, "model_id": n // each + 1, "number": n % each + 1, "run_id": run}
                for n, run in enumerate(made_by)
            ],
        )
        trained = [
            {"version_id": version, "dataset_id": read[run - 1][0], "position": 0}
            for version, run in enumerate(made_by, 1)
        ]
        add_rows(connection, VersionDatasetRow, trained)
        make_ready(connection)
        add_aliases(
            connection,
            [
                {"model_id": model, "name": name, "version_id": model * each - back}
                for model in range(1, sizes.models + 1)
                for back, name in enumerate(("challenger", "champion"))
            ],
        )
        step = sizes.versions // sizes.deployments
        add_rows(
            connection, DeploymentRow, [_deployment(n, n * step) for n in range(1, sizes.deployments + 1)]
        )


def downstream(sizes: Sizes, page_size: int) -> list[bytes]:
    """What came from each of some feature views, six edges far."""
    return [
        _question(f"featureViews/shop/view-{n}@sha256:{n:064x}", pb.LINEAGE_DIRECTION_DOWNSTREAM, page_size)
        for n in range(1, min(sizes.views, 200) + 1)
    ]


def upstream(sizes: Sizes, page_size: int) -> list[bytes]:
    """What the champion of each of some models came from, six edges far."""
    return [
        _question(f"models/model-{n}/aliases/champion", pb.LINEAGE_DIRECTION_UPSTREAM, page_size)
        for n in range(1, min(sizes.models, 200) + 1)
    ]


def _question(node: str, direction: pb.LineageDirection.ValueType, page_size: int) -> bytes:
    request = pb.GetLineageRequest(node=node, direction=direction, depth=6, page_size=page_size)
    return request.SerializeToString()


def _definition(what: str, number: int) -> dict[str, Any]:
    return {"id": number, "project": "shop", "name": f"{what}-{number}", "digest": f"sha256:{number:064x}"}


def _dataset(number: int, sizes: Sizes) -> dict[str, Any]:
    return {
        "id": number,
        "digest": f"{number:064x}",
        "display_name": f"dataset-{number}",
        "row_count": 1_000,
        "schema": [],
        "as_of_start": START,
        "as_of_end": START,
        "feature_service_id": 1 + number % sizes.services,
        "entity_digest": "",
        "uri": "",
        "create_time": START + timedelta(seconds=number),
        "actor": "bench",
        "recipe": "",
    }


def _run(number: int, sizes: Sizes) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"{number:032x}",
        "display_name": f"run-{number}",
        "state": "FINISHED",
        "parameters": {"learning_rate": "0.1"},
        "metrics": {"auc": 0.75},
        "tags": {},
        "seed": 7,
        "code_id": 1 + number % sizes.commits,
        "has_code": True,
        "code_repository": "git.example/models",
        "code_dirty": False,
        "environment_digest": "",
        "start_time": START + timedelta(seconds=number),
        "end_time": START + timedelta(seconds=number + 60),
        "error": "",
        "actor": "bench",
        "revision": 2,
        "config": "",
    }


def _deployment(number: int, version: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"{number:032x}",
        "version_id": version,
        "environment": "production",
        "target": f"cluster-{number % 7}",
        "alias": "champion",
        "attributes": {},
        "start_time": START,
        "end_reason": "",
        "actor": "bench",
        "revision": 1,
    }
