"""Request ids in SQL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from plumbline.registry.errors import RequestIdReused
from registry_service.ports import Request
from registry_service.repository.common import insert_or_ignore
from registry_service.tables import RequestRow


class SqlRequests:
    """`ports.RequestStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def claim(self, request: Request, time: datetime) -> bytes | None:
        row = {
            "principal": request.principal,
            "method": request.method,
            "request_id": request.request_id,
            "fingerprint": request.fingerprint,
            "response": None,
            "create_time": time,
        }
        # The insert comes first: a second transaction with this id waits here for the first one's end.
        if insert_or_ignore(self._session, RequestRow, [row]):
            return None
        fingerprint, response = self._session.execute(
            select(RequestRow.fingerprint, RequestRow.response).where(*_is(request))
        ).one()
        if fingerprint != request.fingerprint or response is None:
            raise RequestIdReused(
                f"the request id {request.request_id!r} was used for another {request.method} request; "
                "give every new request its own id",
                metadata={"request_id": request.request_id, "method": request.method},
            )
        return response

    def answer(self, request: Request, reply: bytes) -> None:
        self._session.execute(update(RequestRow).where(*_is(request)).values(response=reply))

    def forget_before(self, time: datetime) -> int:
        result = self._session.execute(delete(RequestRow).where(RequestRow.create_time < time))
        return int(result.rowcount)  # type: ignore[attr-defined]


def _is(request: Request) -> tuple[ColumnElement[bool], ...]:
    return (
        RequestRow.principal == request.principal,
        RequestRow.method == request.method,
        RequestRow.request_id == request.request_id,
    )
