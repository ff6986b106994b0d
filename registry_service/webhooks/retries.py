"""When a failed event is sent again, and when it is given up."""

from __future__ import annotations

from datetime import datetime, timedelta

from registry_service.events import AuditEvent
from registry_service.webhooks.domain import Delivery, Progress
from registry_service.webhooks.sender import Outcome

FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(hours=1)
#: For so long a receiver may fail before events are given up, each when it is this old itself.
PATIENCE = timedelta(hours=24)
_MOST_DOUBLINGS = 20


def advance(
    progress: Progress, event: AuditEvent, outcome: Outcome, now: datetime, chance: float
) -> tuple[Delivery, Progress]:
    """What to record of an attempt, and where the webhook is after it. chance: between 0 and 1, so that
    receivers which failed together are not all called together again.

    Events are given up one by one: of a receiver that is gone for good no more than those of the last 24
    hours wait, and each is tried at least once.
    """
    attempt = progress.attempts + 1
    if outcome.accepted:
        done = Delivery(event.sequence, attempt, now, outcome.status, "", delivered=True, given_up=False)
        return done, Progress(event.sequence)
    since = progress.failing_since or now
    given_up = now - since >= PATIENCE and now - event.time >= PATIENCE
    failed = Delivery(
        event.sequence, attempt, now, outcome.status, outcome.error, delivered=False, given_up=given_up
    )
    if given_up:
        return failed, Progress(event.sequence, 0, since, outcome.error, now)
    return failed, Progress(
        progress.delivered, attempt, since, outcome.error, now + delay_after(attempt, chance)
    )


def delay_after(attempt: int, chance: float) -> timedelta:
    """Doubles from attempt to attempt; between half of it and all of it is waited."""
    whole = min(LONGEST_DELAY, FIRST_DELAY * (1 << min(attempt, _MOST_DOUBLINGS)))
    return whole / 2 * (1 + chance)
