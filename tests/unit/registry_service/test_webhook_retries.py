"""When failed events are sent again, and when they are given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from registry_service.events import AuditEvent, Kind, Subject
from registry_service.webhooks.domain import Delivery, Progress
from registry_service.webhooks.retries import LONGEST_DELAY, PATIENCE, advance, delay_after
from registry_service.webhooks.sender import Outcome

START = datetime(2026, 3, 1, tzinfo=UTC)
YES, NO = Outcome(200, ""), Outcome(500, "answered 500")


def event(sequence: int, time: datetime = START) -> AuditEvent:
    subject = Subject(Kind.MODEL, 1, "models/m", 1)
    return AuditEvent(sequence, time, "ann", "UpdateModel", subject, "{}", "", "", "", "")


def test_an_accepted_event() -> None:
    before = Progress(6, 3, START, "answered 500", START)
    delivery, after = advance(before, event(7), Outcome(204, ""), START, 0.5)
    assert delivery == Delivery(7, 4, START, 204, "", delivered=True, given_up=False)
    assert after == Progress(7)


def test_a_failed_event_waits() -> None:
    delivery, after = advance(Progress(6), event(7), NO, START, 1.0)
    assert delivery == Delivery(7, 1, START, 500, "answered 500", delivered=False, given_up=False)
    assert after == Progress(6, 1, START, "answered 500", START + timedelta(seconds=2))


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_delays_double_up_to_an_hour(attempt: int, chance: float) -> None:
    whole = min(LONGEST_DELAY, timedelta(seconds=2 ** min(attempt, 15)))
    assert whole / 2 <= delay_after(attempt, chance) <= whole


def test_given_up_after_a_day_of_failures() -> None:
    now, progress, attempts = START, Progress(6), 0
    while True:
        delivery, progress = advance(progress, event(7), NO, now, 0.5)
        attempts += 1
        if delivery.given_up:
            break
        assert progress.next_attempt is not None
        assert progress.attempts == attempts
        now = progress.next_attempt
    assert PATIENCE <= now - START <= PATIENCE + LONGEST_DELAY
    assert 30 <= attempts <= 60
    # On to the next one at once.
    assert progress == Progress(7, 0, START, "answered 500", now)


def test_of_a_receiver_that_is_gone_the_last_day_waits() -> None:
    """An event every ten minutes for ten days, none accepted."""
    every, days = timedelta(minutes=10), timedelta(days=10)
    events = [event(number + 1, START + every * number) for number in range(days // every)]
    now, progress, tried = START, Progress(0), set[int]()
    while progress.delivered < len(events):
        head = events[progress.delivered]
        if head.time > now:
            now = head.time
        if now >= START + days:
            break
        tried.add(head.sequence)
        _, progress = advance(progress, head, NO, now, 0.5)
        assert progress.next_attempt is not None
        now = max(now, progress.next_attempt)
    waiting = len(events) - progress.delivered
    assert timedelta(hours=23) // every <= waiting <= timedelta(hours=26) // every
    assert tried >= set(range(1, progress.delivered + 1))


def test_after_a_long_pause_a_single_failure_gives_nothing_up() -> None:
    now = START + timedelta(days=30)
    delivery, after = advance(Progress(6), event(7, START), NO, now, 0.5)
    assert not delivery.given_up
    assert after.delivered == 6
