"""The chain of events in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from registry_service.events import AuditEvent, Head, Kind, Subject
from registry_service.filtering.search import Hit, Search
from registry_service.repository.common import one_of
from registry_service.repository.pages import Finder
from registry_service.repository.targets import EVENTS
from registry_service.tables import AuditEventRow, Base, ModelRow

_END = Base.metadata.tables["audit_head"]
_HEAD = select(_END.c.sequence, _END.c.hash).where(_END.c.id == 1)
_LOCKED_HEAD = _HEAD.with_for_update()
_ADD = insert(Base.metadata.tables["audit_event"])
_MOVE = (
    update(_END).where(_END.c.id == 1).values(sequence=bindparam("new_sequence"), hash=bindparam("new_hash"))
)


class SqlAudit:
    """`ports.AuditStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._head: Head | None = None
        self._moved = False

    @property
    def moved_to(self) -> int | None:
        """The sequence this transaction brought the chain to; None when it added no event."""
        return self._head.sequence if self._head is not None and self._moved else None

    def head(self) -> Head:
        if self._head is None:
            self._head = Head(*self._session.connection().execute(_HEAD).one())
        return self._head

    def lock(self) -> None:
        """Waits for the turn of this transaction to write; SQLite has given it the turn already."""
        self._head = Head(*self._session.connection().execute(_LOCKED_HEAD).one())

    def append(self, event: AuditEvent) -> None:
        if event.sequence != self.head().sequence + 1:
            raise ValueError(f"event {event.sequence} does not follow {self.head().sequence}")
        self._session.connection().execute(
            _ADD,
            {
                "sequence": event.sequence,
                "time": event.time,
                "actor": event.actor,
                "action": event.action,
                "kind": event.subject.kind.value,
                "node_id": event.subject.id,
                "model_id": event.subject.model_id,
                "resource": event.subject.name,
                "details": event.details,
                "state_digest": event.state_digest,
                "request_id": event.request_id,
                "previous_hash": event.previous_hash,
                "hash": event.hash,
            },
        )
        self._head, self._moved = Head(event.sequence, event.hash), True

    def close(self) -> None:
        """Writes where the chain ends now; before the commit."""
        if self._head is not None and self._moved:
            end = {"new_sequence": self._head.sequence, "new_hash": self._head.hash}
            self._session.connection().execute(_MOVE, end)

    def events(
        self, *, after: int, limit: int, kinds: Sequence[str] = (), model: str = ""
    ) -> list[AuditEvent]:
        statement = (
            select(AuditEventRow, ModelRow.name)
            .outerjoin(ModelRow, ModelRow.id == AuditEventRow.model_id)
            .where(AuditEventRow.sequence > after)
            .order_by(AuditEventRow.sequence)
            .limit(limit)
        )
        if kinds:
            statement = statement.where(AuditEventRow.kind.in_(kinds))
        if model:
            statement = statement.where(ModelRow.name == model)
        return [to_event(row, name) for row, name in self._session.execute(statement)]

    def search(self, search: Search, limit: int) -> list[Hit[AuditEvent]]:
        places = Finder(self._session, EVENTS).places(search, limit)
        statement = (
            select(AuditEventRow, ModelRow.name)
            .outerjoin(ModelRow, ModelRow.id == AuditEventRow.model_id)
            .where(one_of(self._session, AuditEventRow.sequence, [place.id for place in places]))
        )
        found = {row.sequence: to_event(row, name) for row, name in self._session.execute(statement)}
        return [Hit(found[place.id], place) for place in places]

    def hash_at(self, sequence: int) -> str | None:
        return self._session.scalar(select(AuditEventRow.hash).where(AuditEventRow.sequence == sequence))


def to_event(row: AuditEventRow, model: str | None) -> AuditEvent:
    """model: its present name."""
    return AuditEvent(
        sequence=row.sequence,
        time=row.time,
        actor=row.actor,
        action=row.action,
        subject=Subject(Kind(row.kind), row.node_id, row.resource, row.model_id),
        details=row.details,
        state_digest=row.state_digest,
        request_id=row.request_id,
        previous_hash=row.previous_hash,
        hash=row.hash,
        model=f"models/{model}" if model else "",
    )
