from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from plumbline.registry.errors import InvalidField, ModelExists, RequestIdReused
from registry_service import models
from registry_service.changes import KEEP_REQUESTS
from registry_service.commands import CreateModel
from registry_service.domain import Act
from registry_service.ports import Request, Transaction
from tests.contract.registry_service.conftest import TickingClock
from tests.contract.registry_service.desk import Desk, sha


def _create(name: str) -> Callable[[Transaction, Act], bytes]:
    def work(transaction: Transaction, act: Act) -> bytes:
        return repr(models.create(transaction, act, CreateModel(name, "", {}))).encode()

    return work


def _request(
    request_id: str = "r1", *, asked: str = "a", method: str = "CreateModel", who: str = "ann"
) -> Request:
    return Request(who, method, request_id, sha(asked))


def _names(desk: Desk) -> list[str]:
    return [model.name for model in desk.models(archived=True).items]


def test_a_repeated_request_gets_the_first_answer_and_changes_nothing(desk: Desk) -> None:
    first = desk.changes.apply(_request(), _create("a"))
    assert desk.changes.apply(_request(), _create("a")) == first
    assert _names(desk) == ["a"]


def test_an_id_is_good_for_one_request(desk: Desk) -> None:
    desk.changes.apply(_request(), _create("a"))
    with pytest.raises(RequestIdReused) as caught:
        desk.changes.apply(_request(asked="b"), _create("b"))
    assert caught.value.metadata == {"request_id": "r1", "method": "CreateModel"}
    assert _names(desk) == ["a"]


def test_ids_belong_to_a_caller_and_a_method(desk: Desk) -> None:
    desk.changes.apply(_request(), _create("a"))
    desk.changes.apply(_request(who="bob"), _create("b"))
    desk.changes.apply(_request(method="Other"), _create("c"))
    assert _names(desk) == ["a", "b", "c"]


def test_no_id_no_memory(desk: Desk) -> None:
    desk.changes.apply(_request(""), _create("a"))
    with pytest.raises(ModelExists):
        desk.changes.apply(_request(""), _create("a"))


def test_an_id_whose_request_failed_may_be_tried_again(desk: Desk) -> None:
    desk.model("a")
    with pytest.raises(ModelExists):
        desk.changes.apply(_request(), _create("a"))
    desk.changes.apply(_request(asked="other"), _create("b"))
    assert _names(desk) == ["a", "b"]


def test_a_long_id_is_refused(desk: Desk) -> None:
    desk.changes.apply(_request("x" * 64), _create("a"))
    with pytest.raises(InvalidField) as caught:
        desk.changes.apply(_request("x" * 65), _create("b"))
    assert caught.value.metadata == {"field": "request_id"}


def test_answers_are_kept_for_more_than_a_day_and_not_forever(desk: Desk, clock: TickingClock) -> None:
    first = desk.changes.apply(_request(), _create("a"))
    clock.now += timedelta(days=1, minutes=1)
    assert desk.forget_old_requests() == 0
    assert desk.changes.apply(_request(), _create("a")) == first
    clock.now += KEEP_REQUESTS
    assert desk.forget_old_requests() == 1
    with pytest.raises(ModelExists):
        desk.changes.apply(_request(), _create("a"))


def test_one_request_sent_by_many_at_once_happens_once(desk: Desk) -> None:
    together = threading.Barrier(8)

    def send(_: int) -> bytes:
        together.wait(20)
        return desk.changes.apply(_request(), _create("a"))

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(send, range(8)))
    assert len(answers) == 1
    assert _names(desk) == ["a"]
