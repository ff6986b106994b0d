"""What differs between two versions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from plumbline.registry.errors import AliasNotFound, VersionNotFound
from registry_service import comparison, names, versions
from registry_service.commands import CreateVersion, RecordEvaluation
from registry_service.comparison import SECTIONS, Change, Comparison
from registry_service.domain import (
    CodeRevision,
    Environment,
    FeatureDefinition,
    Field,
    InputSource,
    ModelInput,
    ModelVersion,
    Signature,
)
from tests.contract.registry_service.desk import Desk, definition, model_file, sha, snapshot

_START = datetime(2024, 1, 1, tzinfo=UTC)

_LOAD = ModelInput("load", "DOUBLE", InputSource.FEATURE, "visits:load")
_SHOP = ModelInput("shop", "STRING", InputSource.REQUEST, "", ("Oslo", "Bergen"))


def _signature(*inputs: ModelInput, service: str = "1") -> Signature:
    return Signature(inputs, (Field("late", "DOUBLE"),), "delays", f"sha256:{sha('delays' + service)}")


def _make(desk: Desk, name: str = "first", **changes: Any) -> ModelVersion:
    """A version with all there is to record; changes replace facts."""
    facts: dict[str, Any] = {
        "view": "1",
        "spec": {"features": [{"name": "load", "type": "DOUBLE"}], "ttl": "86400s"},
        "rows": 10,
        "recipe": {"split": {"valid_start": "2024-01-07"}},
        "parameters": {"training.learning_rate": "0.1", "training.seed": "7"},
        "packages": ("lightgbm==4.6.0", "numpy==2.1.0"),
        "python": "3.11.7",
        "commit": "aaaaaaaaaa",
        "config": "model: flights\n",
        "seed": 7,
        "signature": _signature(_LOAD, _SHOP),
        "tags": {"team": "risk"},
        "files": {"model.txt": "tree"},
    } | changes
    view, service = definition("visits", facts["view"]), definition("delays", facts["view"])
    data = desk.dataset(
        snapshot(
            name,
            row_count=facts["rows"],
            schema=(Field("load", "DOUBLE"),),
            as_of_start=_START,
            as_of_end=_START + timedelta(days=facts["rows"]),
            feature_service=service,
            feature_views=(view,),
            recipe=json.dumps(facts["recipe"]),
            feature_definitions=(FeatureDefinition(view, json.dumps(facts["spec"])),)
            if facts["spec"]
            else (),
        )
    )
    packages = facts["packages"]
    run = desk.run(
        code=CodeRevision("git.example/shop", facts["commit"], dirty=False),
        datasets=[data.digest],
        parameters=facts["parameters"],
        seed=facts["seed"],
        environment=Environment(facts["python"], "Linux-6", packages) if packages else None,
        environment_digest=f"sha256:{sha(str(packages))}",
        config=facts["config"],
    )
    command = CreateVersion("flights", "", facts["tags"], facts["signature"], run.name, (data.digest,))
    draft = desk.do(versions.create, command)
    for path, content in facts["files"].items():
        desk.add_file(draft.ref, model_file(path, content))
    return desk.do(versions.finalize, draft.ref, "")


@pytest.fixture(autouse=True)
def flights(desk: Desk) -> None:
    desk.model()


def _compare(desk: Desk, left: ModelVersion, right: ModelVersion) -> Comparison:
    return desk.ask(comparison.compare, left.ref, right.ref)


def _told(found: Comparison) -> dict[str, tuple[Change, str, str]]:
    return {f"{item.section}: {item.key}": (item.change, item.left, item.right) for item in found.differences}


def test_two_versions_made_the_same_way(desk: Desk) -> None:
    first, second = _make(desk), _make(desk)
    found = _compare(desk, first, second)
    assert found.differences == ()
    # Nobody judged them yet.
    assert found.equal_sections == tuple(section for section in SECTIONS if section != "metrics")
    assert (found.left, found.right) == (first.ref, second.ref)


def test_one_fact_at_a_time(desk: Desk) -> None:
    first = _make(desk)
    for change, expected in (
        ({"seed": 8}, {"seed: seed": (Change.CHANGED, "7", "8")}),
        ({"commit": "bbbbbbbbbb"}, {"code: commit": (Change.CHANGED, "aaaaaaaaaa", "bbbbbbbbbb")}),
        ({"python": "3.12.1"}, {"environment: python": (Change.CHANGED, "3.11.7", "3.12.1")}),
        (
            {"packages": ("numpy==2.2.0", "pandas==2.2.0")},
            {
                "environment: packages.lightgbm": (Change.REMOVED, "4.6.0", ""),
                "environment: packages.numpy": (Change.CHANGED, "2.1.0", "2.2.0"),
                "environment: packages.pandas": (Change.ADDED, "", "2.2.0"),
            },
        ),
        (
            {"parameters": {"training.learning_rate": "0.05", "training.seed": "7"}},
            {"parameters: training.learning_rate": (Change.CHANGED, "0.1", "0.05")},
        ),
        ({"tags": {}}, {"tags: team": (Change.REMOVED, "risk", "")}),
        (
            {"files": {"model.txt": "oak"}},
            {"files: model.txt": (Change.CHANGED, f"sha256:{sha('tree')}", f"sha256:{sha('oak')}")},
        ),
        (
            {"config": "model: flights\nseed: 7\n"},
            {
                "config: lines": (Change.CHANGED, "1", "2"),
                "config: sha256": (
                    Change.CHANGED,
                    sha("model: flights\n"),
                    sha("model: flights\nseed: 7\n"),
                ),
            },
        ),
    ):
        second = _make(desk, **change)  # type: ignore[arg-type]
        found = _compare(desk, first, second)
        assert _told(found) == expected
        sections = {item.section for item in found.differences}
        assert found.equal_sections == tuple(s for s in SECTIONS if s not in {*sections, "metrics"})
        # From right to left it is the other way round.
        turned = {Change.ADDED: Change.REMOVED, Change.REMOVED: Change.ADDED, Change.CHANGED: Change.CHANGED}
        assert _told(_compare(desk, second, first)) == {
            key: (turned[kind], right, left) for key, (kind, left, right) in expected.items()
        }


def test_other_rows(desk: Desk) -> None:
    recipe = {"split": {"valid_start": "2024-02-01"}}
    told = _told(_compare(desk, _make(desk), _make(desk, "second", rows=20, recipe=recipe)))
    assert told == {
        "data: dataset 1.digest": (Change.CHANGED, sha("first"), sha("second")),
        "data: dataset 1.rows": (Change.CHANGED, "10", "20"),
        "data: dataset 1.as_of_end": (
            Change.CHANGED,
            "2024-01-11T00:00:00+00:00",
            "2024-01-21T00:00:00+00:00",
        ),
        "data: dataset 1.recipe.split.valid_start": (Change.CHANGED, "2024-01-07", "2024-02-01"),
    }


def test_other_definitions_are_told_down_to_the_field(desk: Desk) -> None:
    spec = {
        "features": [{"name": "load", "type": "INT64"}, {"name": "rain", "type": "BOOL"}],
        "ttl": "86400s",
    }
    first, second = _make(desk), _make(desk, "second", view="2", spec=spec)
    told = {key: value for key, value in _told(_compare(desk, first, second)).items() if "features:" in key}
    view, service = "features: view shop/visits", "features: service shop/delays"
    one, two = definition("visits", "1").digest, definition("visits", "2").digest
    assert told == {
        f"{view}.digest": (Change.CHANGED, one, two),
        f"{view}.spec.features.load.type": (Change.CHANGED, "DOUBLE", "INT64"),
        f"{view}.spec.features.rain.name": (Change.ADDED, "", "rain"),
        f"{view}.spec.features.rain.type": (Change.ADDED, "", "BOOL"),
        f"{service}.digest": (
            Change.CHANGED,
            definition("delays", "1").digest,
            definition("delays", "2").digest,
        ),
    }
    # Where one side kept no definitions, the digests are all that can be compared.
    bare = _make(desk, "third", view="3", spec=None)
    keys = {key for key in _told(_compare(desk, first, bare)) if "features:" in key}
    assert keys == {f"{view}.digest", f"{service}.digest"}


def test_other_inputs(desk: Desk) -> None:
    rain = ModelInput("rain", "BOOL", InputSource.FEATURE, "weather:rain")
    shop = replace(_SHOP, categories=("Oslo",))
    left, right = _make(desk), _make(desk, signature=_signature(rain, shop, _LOAD))
    told = _told(_compare(desk, left, right))
    few, many = told.pop("signature: inputs.shop.categories")[1:]
    assert few.startswith("2 categories, sha256 ")
    assert many.startswith("1 categories, sha256 ")
    assert told == {
        "signature: inputs": (Change.CHANGED, "load, shop", "shop, load"),
        "signature: inputs.rain.source": (Change.ADDED, "", "weather:rain"),
        "signature: inputs.rain.type": (Change.ADDED, "", "BOOL"),
    }


def test_metrics_are_the_last_of_each_split_and_those_on_the_same_rows(desk: Desk) -> None:
    left, right = _make(desk), _make(desk, "second")
    other = sha("second")

    def judge(version: ModelVersion, dataset: str, auc: float) -> None:
        desk.do(versions.record_evaluation, RecordEvaluation(version.ref, dataset, "test", {"auc": auc}))

    judge(left, sha("first"), 0.5)
    judge(left, sha("first"), 0.7)
    judge(right, other, 0.9)
    assert {k: v for k, v in _told(_compare(desk, left, right)).items() if k.startswith("metrics")} == {
        "metrics: test.auc": (Change.CHANGED, "0.7", "0.9")
    }
    # Judged on the other's rows too: there they can be compared.
    judge(left, other, 0.6)
    judge(left, sha("first"), 0.7)
    same = f"metrics: test.auc on {other[:12]}"
    assert {k: v for k, v in _told(_compare(desk, left, right)).items() if k.startswith("metrics")} == {
        "metrics: test.auc": (Change.CHANGED, "0.7", "0.9"),
        same: (Change.CHANGED, "0.6", "0.9"),
    }
    judge(right, other, 0.6)
    assert same not in _told(_compare(desk, left, right))


def test_what_nobody_recorded_is_neither_equal_nor_different(desk: Desk) -> None:
    desk.model("bare")
    first, second = desk.ready("bare"), desk.ready("bare")
    found = _compare(desk, first, second)
    assert (found.differences, found.equal_sections) == ((), ("files",))
    known = _compare(desk, first, _make(desk))
    assert {item.section for item in known.differences} == {*SECTIONS} - {"metrics", "files"}
    assert all(item.change is Change.ADDED for item in known.differences)


def test_packages_known_by_digest_only(desk: Desk) -> None:
    left, right = _make(desk), _make(desk, packages=())
    told = _told(_compare(desk, left, right))
    assert list(told) == ["environment: digest"]


def test_by_alias_and_by_name_nobody_has(desk: Desk) -> None:
    first, second = _make(desk), _make(desk, seed=9)
    desk.set_alias("champion", first.ref)
    champion = names.alias("left", "models/flights/aliases/champion")
    found = desk.ask(comparison.compare, champion, second.ref)
    assert (found.left, found.right) == (first.ref, second.ref)
    with pytest.raises(VersionNotFound):
        desk.ask(comparison.compare, champion, replace(first.ref, number=99))
    with pytest.raises(AliasNotFound):
        desk.ask(comparison.compare, replace(champion, alias="nope"), second.ref)
