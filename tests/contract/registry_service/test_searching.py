"""Filters, orders and pages of random registries against the same in plain Python."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, insert, update

from registry_service import versions
from registry_service.domain import STAGES, Model, ModelVersion, Signature, VersionRef
from registry_service.filtering import fields
from registry_service.filtering.ast import Expression, Order
from registry_service.filtering.search import Hit, Place, Search
from registry_service.repository.conditions import behind
from registry_service.tables import Base
from tests.contract.registry_service.desk import Desk, sha
from tests.unit.registry_service.filters import KEYS, LAST, NUMBERS, START, WORDS, Facts, holds, trees

T = TypeVar("T")
SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
TEXTS = (*WORDS, LAST, f"a{LAST}", "Ab", "x" * 200 + "a", "x" * 200 + "b", "x" * 200)


class World:
    """Models, runs, datasets and versions made by dice.

    versions, models, runs: what is known of each, by its name.
    """

    def __init__(self, connection: Connection, seed: int) -> None:
        self._connection, self.dice = connection, random.Random(seed)
        self.versions: dict[str, Facts] = {}
        self.models: dict[str, Facts] = {}
        self.runs: dict[str, Facts] = {}
        runs = [self._run(index) for index in range(5)]
        datasets = [self._dataset(index) for index in range(3)]
        for name in ("ab", "a", "A", "é"):
            self._model(name, runs, datasets)

    def _add(self, table: str, **values: Any) -> int:
        columns = Base.metadata.tables[table]
        key = next(iter(columns.primary_key.columns))
        return int(self._connection.execute(insert(columns).values(**values).returning(key)).scalar_one())

    def _some(self, texts: Sequence[str] = TEXTS) -> dict[str, str]:
        keys = self.dice.sample(KEYS, self.dice.randint(0, 3))
        return {key: self.dice.choice(texts) for key in keys}

    def _time(self) -> Any:
        return START + timedelta(milliseconds=self.dice.randint(0, 8))

    def _run(self, index: int) -> tuple[int, str]:
        name = self.dice.choice("ab") + str(index)
        facts: dict[str, Any] = {
            "name": name,
            "display_name": self.dice.choice(WORDS),
            "state": self.dice.choice(["RUNNING", "FINISHED", "FAILED"]),
            "actor": self.dice.choice(["ann", "bob"]),
            "tags": self._some(),
            "parameters": self._some(),
            "metrics": {key: self.dice.choice(NUMBERS) for key in self._some()},
            "parent": None,
            "start_time": self._time(),
            "end_time": self.dice.choice([None, self._time()]),
            "code.commit": None,
        }
        kept = {key: value for key, value in facts.items() if key not in ("parent", "code.commit")}
        empty = {"seed": 0, "has_code": False, "code_repository": "", "code_dirty": False, "error": ""}
        run_id = self._add("training_run", **kept, **empty, environment_digest="", revision=1, config="")
        self.runs[name] = facts
        return run_id, name

    def _dataset(self, index: int) -> tuple[int, str]:
        digest = sha(str(index))
        facts = {
            "display_name": "",
            "row_count": 1,
            "schema": [],
            "entity_digest": "",
            "uri": "",
            "recipe": "",
        }
        row_id = self._add("dataset_snapshot", digest=digest, create_time=START, actor="ann", **facts)
        return row_id, digest

    def _model(self, name: str, runs: Sequence[tuple[int, str]], datasets: Sequence[tuple[int, str]]) -> None:
        numbers = range(1, self.dice.randint(2, 8))
        archive_time = self.dice.choice([None, START])
        facts: dict[str, Any] = {
            "name": name,
            "description": self.dice.choice(WORDS),
            "create_time": self._time(),
            "update_time": self._time(),
            "latest_version": len(numbers),
        }
        model_id = self._add("registered_model", **facts, revision=1, archive_time=archive_time)
        tags = self._some()
        for key, value in tags.items():
            self._add("model_tag", model_id=model_id, key=key, value=value)
        self.models[name] = facts | {"tags": tags, "aliases": []}
        for number in numbers:
            made = self._version(model_id, number, runs, datasets)
            made |= {"model": name, "model_archived": archive_time is not None}
            self.models[name]["aliases"].extend(made["aliases"])
            self.versions[str(VersionRef(name, number))] = made

    def _version(
        self, model_id: int, number: int, runs: Sequence[tuple[int, str]], datasets: Sequence[tuple[int, str]]
    ) -> dict[str, Any]:
        run_id, run = self.dice.choice([(None, None), *runs])
        state = self.dice.choice(["DRAFT", "READY", "ARCHIVED"])
        facts: dict[str, Any] = {
            "state": state,
            "actor": self.dice.choice(["ann", "bob"]),
            "source": self.dice.choice(WORDS),
            "external_run": self.dice.choice(WORDS),
            "manifest_digest": f"sha256:{number}" if state == "READY" else "",
            "create_time": self._time(),
            "finalize_time": None if state == "DRAFT" else self.dice.choice([None, self._time()]),
        }
        service = self.dice.choice([None, *WORDS])
        version_id = self._add(
            "model_version",
            **facts | {"state": "DRAFT", "manifest_digest": "", "finalize_time": None},
            model_id=model_id,
            number=number,
            run_id=run_id,
            run_link="",
            revision=1,
            signature=None if service is None else asdict(Signature(feature_service=service)),
        )
        notes = {
            "description": self.dice.choice(WORDS),
            "stage": self.dice.choice(STAGES),
            "update_time": self._time(),
        }
        self._add("version_annotation", version_id=version_id, model_id=model_id, revision=0, **notes)
        tags, metrics = self._some(), {key: self.dice.choice(NUMBERS) for key in self._some()}
        for key, value in tags.items():
            self._add("version_tag", version_id=version_id, key=key, value=value)
        for key, number_ in metrics.items():
            self._add("version_metric", version_id=version_id, name=key, value=number_)
        linked = self.dice.sample(datasets, self.dice.randint(0, 2))
        for position, (dataset_id, _) in enumerate(linked):
            self._add("version_dataset", version_id=version_id, dataset_id=dataset_id, position=position)
        aliases = [f"{name}{number}" for name in self.dice.sample(["a", "b"], self.dice.randint(0, 2))]
        for name in aliases:
            row = {"revision": 1, "actor": "ann", "reason": "", "update_time": START}
            self._add("alias", model_id=model_id, name=name, version_id=version_id, **row)
        if state != "DRAFT":
            table = Base.metadata.tables["model_version"]
            self._connection.execute(
                update(table)
                .where(table.c.id == version_id)
                .values({key: facts[key] for key in ("state", "manifest_digest", "finalize_time")})
            )
        digests = [digest for _, digest in linked]
        known = {"version": number, "run": run, "datasets": digests, "aliases": aliases, "id": version_id}
        return facts | notes | known | {"tags": tags, "metrics": metrics, "feature_service": service}


def everything(
    find: Callable[[Search], list[Hit[T]]], where: Expression | None, orders: tuple[Order, ...]
) -> list[T]:
    """All pages of a list."""
    found: list[T] = []
    after: Place | None = None
    while hits := find(Search(where, orders, after)):
        found += [hit.item for hit in hits]
        after = hits[-1].place
    return found


def in_order(things: Mapping[str, Facts], where: Expression | None, orders: tuple[Order, ...]) -> list[str]:
    """The names of those that match."""
    found = [name for name, facts in things.items() if where is None or holds(where, facts)]

    def value(name: str, order: Order) -> Any:
        got = things[name][order.field]
        return got.get(order.key) if isinstance(got, Mapping) else got

    found.sort(key=lambda name: things[name]["id"], reverse=orders[0].descending)
    for order in reversed(orders):
        some = [name for name in found if value(name, order) is not None]
        some.sort(key=lambda name: value(name, order), reverse=order.descending)
        found = some + [name for name in found if value(name, order) is None]
    return found


PLAIN = ["version", "create_time", "finalize_time", "update_time", "model"]
ORDERS = st.one_of(
    st.tuples(st.builds(Order, st.sampled_from(PLAIN), st.booleans())),
    st.tuples(st.builds(Order, st.just("metrics"), st.booleans(), st.sampled_from(KEYS))),
    st.tuples(
        st.builds(Order, st.sampled_from(["finalize_time", "update_time"]), st.booleans()),
        st.builds(Order, st.just("model"), st.booleans()),
    ),
)


@pytest.mark.parametrize("seed", range(3))
def test_random_searches_of_versions_agree_with_python(desk: Desk, engine: Engine, seed: int) -> None:
    with engine.begin() as connection:
        world = World(connection, seed)
    words = (*TEXTS, "ab", "A", sha("0"), "a1", "b2")

    @SETTINGS
    @given(
        st.none() | trees(fields.VERSIONS, words, mlflow=True),
        ORDERS,
        st.integers(1, 7),
        st.sampled_from(["", "a"]),
    )
    def check(where: Expression | None, orders: tuple[Order, ...], size: int, model: str) -> None:
        with desk.database.read() as transaction:

            def find(search: Search) -> list[Hit[ModelVersion]]:
                return versions.search(
                    transaction,
                    search,
                    model_id=transaction.models.get(model).id if model else None,
                    limit=size,
                )

            found = everything(find, where, orders)
        things = {name: facts for name, facts in world.versions.items() if model in ("", facts["model"])}
        assert [str(version.ref) for version in found] == in_order(things, where, orders)

    check()


@pytest.mark.parametrize("seed", range(2))
def test_random_searches_of_models_and_runs_agree_with_python(desk: Desk, engine: Engine, seed: int) -> None:
    with engine.begin() as connection:
        world = World(connection, seed + 10)

    @SETTINGS
    @given(trees(fields.MODELS, TEXTS, mlflow=True), trees(fields.RUNS, TEXTS, mlflow=True))
    def check(of_models: Expression, of_runs: Expression) -> None:
        with desk.database.read() as transaction:

            def find(search: Search) -> list[Hit[Model]]:
                return transaction.models.search(search, archived=True, limit=3)

            models = everything(find, of_models, (Order("name"),))
            runs = everything(lambda search: transaction.runs.search(search, 2), of_runs, ())
        assert [model.name for model in models] == sorted(
            name for name, facts in world.models.items() if holds(of_models, facts)
        )
        assert [run.name for run in runs] == [
            name for name, facts in reversed(world.runs.items()) if holds(of_runs, facts)
        ]

    check()


@given(st.text(min_size=1, max_size=3), st.text(max_size=3))
def test_the_text_behind_a_prefix(prefix: str, rest: str) -> None:
    end = behind(prefix)
    if end is None:
        assert set(prefix) == {LAST}
    else:
        assert prefix <= prefix + rest < end
        assert not end.startswith(prefix)
