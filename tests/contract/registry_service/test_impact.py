"""What an impact question takes for a node, and what it takes for live."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import pytest

from plumbline.registry.errors import NodeNotFound
from registry_service import deployments, impact, names
from registry_service.commands_governance import EndDeployment, RecordDeployment
from registry_service.domain import CodeRevision, ModelVersion
from registry_service.impact import VersionImpact
from tests.contract.registry_service.desk import Desk, definition, snapshot

COMMITS = ("4f2a91c0ffee11223344", "4f2a91cdeadbeef00112", "99999990000000000000")


class Shop(NamedTuple):
    """Two versions by two states of a view, and a third by neither."""

    old: ModelVersion
    new: ModelVersion
    other: ModelVersion


@pytest.fixture
def shop(desk: Desk) -> Shop:
    desk.model()
    desk.model("apart")
    made = []
    for number, (model, commit) in enumerate(zip(("flights", "flights", "apart"), COMMITS, strict=True)):
        view = definition("weather" if number < 2 else "traffic", str(number))
        service = definition("delays" if number < 2 else "jams", str(number))
        data = desk.dataset(snapshot(f"d{number}", feature_service=service, feature_views=(view,)))
        run = desk.run(code=CodeRevision("git.example/shop", commit, dirty=False), datasets=[data.digest])
        made.append(desk.ready(model, run=run.name, datasets=[data.digest]))
    return Shop(*made)


def _ask(desk: Desk, node: str, *, live_only: bool = False) -> list[VersionImpact]:
    start = names.node_or_states("node", node)
    return desk.ask(impact.find, node, start, live_only=live_only, now=desk.clock(), after=None, limit=100)


def _versions(found: list[VersionImpact]) -> list[str]:
    return [str(item.version) for item in found]


def _serve(desk: Desk, version: ModelVersion, lease: timedelta | None = None) -> str:
    command = RecordDeployment(version.ref, "production", "host-1", "champion", {"zone": "a"}, lease)
    return desk.do(deployments.record, command).name


def test_every_state_of_a_definition_or_one(desk: Desk, shop: Shop) -> None:
    both = [str(shop.new.ref), str(shop.old.ref)]
    assert _versions(_ask(desk, "featureViews/shop/weather")) == both
    assert _versions(_ask(desk, "featureServices/shop/delays")) == both
    assert _versions(_ask(desk, f"featureViews/{definition('weather', '0')}")) == both[1:]
    assert _versions(_ask(desk, f"featureServices/{definition('delays', '1')}")) == both[:1]


def test_the_beginning_of_a_commit_is_enough(desk: Desk, shop: Shop) -> None:
    assert _versions(_ask(desk, "codeRevisions/4f2a91c")) == [str(shop.new.ref), str(shop.old.ref)]
    assert _versions(_ask(desk, "codeRevisions/4f2a91c0")) == [str(shop.old.ref)]
    assert _versions(_ask(desk, f"codeRevisions/{COMMITS[2]}")) == [str(shop.other.ref)]
    for nothing in ("codeRevisions/4f2a91", "codeRevisions/4f2a91_", "codeRevisions/0000000"):
        with pytest.raises(NodeNotFound):
            _ask(desk, nothing)


def test_a_path_tells_how(desk: Desk, shop: Shop) -> None:
    (found,) = _ask(desk, f"codeRevisions/{COMMITS[0]}")
    assert found.path == (f"codeRevisions/{COMMITS[0]}", f"runs/{shop.old.run}", str(shop.old.ref))
    (found,) = _ask(desk, f"featureViews/{definition('weather', '0')}")
    assert found.path == (
        f"featureViews/{definition('weather', '0')}",
        f"featureServices/{definition('delays', '0')}",
        f"datasets/{shop.old.datasets[0]}",
        str(shop.old.ref),
    )


def test_a_version_reaches_itself_and_an_alias_its_version(desk: Desk, shop: Shop) -> None:
    desk.set_alias("champion", shop.old.ref)
    (found,) = _ask(desk, str(shop.old.ref))
    assert (found.path, found.aliases) == ((str(shop.old.ref),), ("champion",))
    assert _ask(desk, "models/flights/aliases/champion") == [found]
    desk.clear_alias(names.alias("name", "models/flights/aliases/champion"))
    with pytest.raises(NodeNotFound):
        _ask(desk, "models/flights/aliases/champion")


def test_nothing_comes_from_a_deployment(desk: Desk, shop: Shop) -> None:
    assert _ask(desk, f"deployments/{_serve(desk, shop.old)}") == []


@pytest.mark.parametrize(
    "node",
    [
        "featureViews/shop/nope",
        "featureServices/shop/weather",
        f"runs/{'0' * 32}",
        f"datasets/{'0' * 64}",
        "deployments/nope",
    ],
)
def test_what_nobody_recorded(desk: Desk, shop: Shop, node: str) -> None:
    assert shop.old
    with pytest.raises(NodeNotFound) as caught:
        _ask(desk, node)
    assert caught.value.metadata == {"node": node}


def test_live_is_what_has_an_alias_or_runs_now(desk: Desk, shop: Shop) -> None:
    node = "featureViews/shop/weather"
    assert _ask(desk, node, live_only=True) == []
    ended = _serve(desk, shop.old)
    desk.do(deployments.end, EndDeployment(ended, "replaced"))
    # The clock of the tests moves on by a millisecond a look: this lease is over when it is asked about.
    silent = _serve(desk, shop.old, timedelta(milliseconds=1))
    desk.clock()
    assert _ask(desk, node, live_only=True) == []
    (_, old) = _ask(desk, node)
    assert [place.name for place in old.deployments] == [silent, ended]
    running = _serve(desk, shop.old, timedelta(hours=1))
    (live,) = _ask(desk, node, live_only=True)
    assert _versions([live]) == [str(shop.old.ref)]
    assert [(place.name, place.attributes) for place in live.deployments] == [(running, {"zone": "a"})]
    desk.set_alias("challenger", shop.new.ref)
    newer, older = _ask(desk, node, live_only=True)
    assert (newer.aliases, newer.deployments) == (("challenger",), ())
    assert older == live


def test_of_deployments_that_ended_the_newest_hundred_are_told(desk: Desk, shop: Shop) -> None:
    running = _serve(desk, shop.old)
    ended = [_serve(desk, shop.old) for _ in range(102)]
    for name in ended:
        desk.do(deployments.end, EndDeployment(name, "replaced"))
    (found,) = _ask(desk, str(shop.old.ref))
    assert [place.name for place in found.deployments] == [*ended[:1:-1], running]
