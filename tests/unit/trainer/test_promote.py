"""Who gets the alias."""

from __future__ import annotations

from pathlib import Path

import pytest

from plumbline.registry.v1 import resources_pb2 as res
from tests.unit.trainer.fakes import FakeRegistry
from trainer.config import PromotionRule
from trainer.domain import Input, Metrics
from trainer.errors import PromotionContended
from trainer.promote import ATTEMPTS, Candidate, Promoter, decide

_ALIAS = "models/m/aliases/champion"
_DATASET = "datasets/" + "0" * 64


def _version(number: int) -> str:
    return f"models/m/versions/{number}"


class Scores:
    """The metrics of the versions, by the text of their files."""

    def __init__(self, **values: float | None) -> None:
        self.values = values
        self.asked: list[str] = []

    def __call__(self, inputs: tuple[Input, ...], model: Path) -> Metrics | None:
        self.asked.append(model.read_text())
        value = self.values[model.read_text()]
        return None if value is None else {"auc": value}


def _registry(versions: int) -> FakeRegistry:
    registry = FakeRegistry()
    registry.datasets[_DATASET] = res.Dataset(name=_DATASET)
    for number in range(1, versions + 1):
        name = _version(number)
        registry.versions[name] = res.ModelVersion(
            name=name, version=number, state=res.VERSION_STATE_READY, files=[res.ModelFile(path="model.txt")]
        )
        registry.files[name, "model.txt"] = f"v{number}".encode()
    return registry


def _promoter(registry: FakeRegistry, scores: Scores, **rule: object) -> Promoter:
    return Promoter(registry, PromotionRule.model_validate(rule), "auc", True, scores)


def _candidate(number: int, value: float) -> Candidate:
    return Candidate("m", _version(number), _DATASET, {"auc": value})


def test_the_first_version_becomes_champion() -> None:
    registry = _registry(1)
    promotion = _promoter(registry, Scores()).promote(_candidate(1, 0.7))
    assert promotion.promoted
    assert registry.aliases[_ALIAS].version == _version(1)
    assert (
        registry.aliases[_ALIAS].reason
        == promotion.reason
        == "auc 0.700000 on the test rows: the first to hold this alias"
    )


def test_a_better_version_takes_over_and_both_values_are_recorded() -> None:
    registry = _registry(2)
    registry.put_alias(_ALIAS, _version(1))
    promotion = _promoter(registry, Scores(v1=0.7)).promote(_candidate(2, 0.75))
    assert (promotion.promoted, promotion.candidate, promotion.champion) == (True, 0.75, 0.7)
    assert promotion.champion_version == _version(1)
    assert registry.aliases[_ALIAS].version == _version(2)
    assert "auc 0.750000 against 0.700000" in registry.aliases[_ALIAS].reason
    evaluation = registry.versions[_version(1)].evaluations[0]
    assert (evaluation.dataset, evaluation.split, dict(evaluation.metrics)) == (
        _DATASET,
        "test",
        {"auc": 0.7},
    )


@pytest.mark.parametrize("holder", [None, 1])
def test_a_policy_that_is_not_met_leaves_the_alias_where_it_is(holder: int | None) -> None:
    registry = _registry(2)
    if holder is not None:
        registry.put_alias(_ALIAS, _version(holder))
    registry.policies[_ALIAS] = "approvals: expected approved by 1; found approved by 0"
    promotion = _promoter(registry, Scores(v1=0.7)).promote(_candidate(2, 0.8))
    assert not promotion.promoted
    assert promotion.champion == (None if holder is None else 0.7)
    assert promotion.reason.startswith("auc 0.800000 ")
    assert promotion.reason.endswith("; but approvals: expected approved by 1; found approved by 0")
    assert (_ALIAS in registry.aliases) == (holder is not None)


@pytest.mark.parametrize("value", [0.7, 0.65])
def test_a_tie_or_a_worse_version_changes_nothing(value: float) -> None:
    registry = _registry(2)
    registry.put_alias(_ALIAS, _version(1))
    promotion = _promoter(registry, Scores(v1=0.7)).promote(_candidate(2, value))
    assert not promotion.promoted
    assert registry.aliases[_ALIAS].version == _version(1)


def test_a_race_for_the_first_place_is_decided_again() -> None:
    registry = _registry(2)

    def another_is_first() -> None:
        registry.before_set_alias = None
        registry.put_alias(_ALIAS, _version(1))

    registry.before_set_alias = another_is_first
    promotion = _promoter(registry, Scores(v1=0.9)).promote(_candidate(2, 0.8))
    assert not promotion.promoted
    assert promotion.champion == 0.9
    assert registry.aliases[_ALIAS].version == _version(1)


def test_a_lost_race_is_decided_again_against_the_new_holder() -> None:
    registry, scores = _registry(3), Scores(v1=0.6, v2=0.7)
    registry.put_alias(_ALIAS, _version(1))

    def another_is_faster() -> None:
        registry.before_set_alias = None
        registry.put_alias(_ALIAS, _version(2))

    registry.before_set_alias = another_is_faster
    promotion = _promoter(registry, scores).promote(_candidate(3, 0.8))
    assert promotion.promoted
    assert promotion.champion_version == _version(2)
    assert scores.asked == ["v1", "v2"]


def test_a_version_is_scored_once_however_often_the_alias_moves() -> None:
    registry, scores = _registry(2), Scores(v1=0.6)
    registry.put_alias(_ALIAS, _version(1))
    registry.before_set_alias = lambda: registry.put_alias(_ALIAS, _version(1)) and None
    with pytest.raises(PromotionContended, match=f"moved by others {ATTEMPTS} times"):
        _promoter(registry, scores).promote(_candidate(2, 0.8))
    assert scores.asked == ["v1"]
    assert len(registry.versions[_version(1)].evaluations) == 1


@pytest.mark.parametrize(("choice", "moved"), [("keep", False), ("move", True)])
def test_a_holder_that_cannot_be_compared(choice: str, moved: bool) -> None:
    registry = _registry(2)
    registry.put_alias(_ALIAS, _version(1))
    promotion = _promoter(registry, Scores(v1=None), not_comparable=choice).promote(_candidate(2, 0.8))
    assert promotion.promoted == moved
    assert promotion.champion is None
    assert "cannot be compared" in promotion.reason
    assert not registry.versions[_version(1)].evaluations


@pytest.mark.parametrize(
    ("rule", "greater", "new", "old", "moves", "says"),
    [
        ({}, True, 0.71, 0.70, True, "better by 0.010000"),
        ({}, True, 0.70, 0.71, False, "worse by 0.010000"),
        ({}, False, 0.70, 0.71, True, "better by 0.010000"),
        ({}, False, 0.71, 0.70, False, "worse by 0.010000"),
        ({}, True, 0.7, 0.7, False, "a tie, on_tie is 'keep'"),
        ({"on_tie": "move"}, True, 0.7, 0.7, True, "a tie, on_tie is 'move'"),
        ({"min_improvement": 0.02}, True, 0.71, 0.70, False, "not more than 0.02"),
        ({"min_improvement": 0.005}, True, 0.71, 0.70, True, "better by 0.010000"),
    ],
)
def test_decisions(
    rule: dict[str, object], greater: bool, new: float, old: float, moves: bool, says: str
) -> None:
    verdict = decide(PromotionRule.model_validate(rule), "auc", greater, new, old, _version(1))
    assert verdict.move == moves
    assert says in verdict.reason
