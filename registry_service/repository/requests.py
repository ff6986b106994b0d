"""Request ids in SQL."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.orm import Session

from plumbline.registry.errors import RequestIdReused
from registry_service.ports import Request
from registry_service.tables import Base, RequestRow

_TABLE = Base.metadata.tables["request"]
_FIND = select(_TABLE.c.fingerprint, _TABLE.c.response).where(
    *(_TABLE.c[name] == bindparam(name) for name in ("principal", "method", "request_id"))
)
_KEEP = insert(_TABLE)


class SqlRequests:
    """`ports.RequestStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, request: Request) -> bytes | None:
        found = self._session.connection().execute(_FIND, _key(request)).first()
        if found is None:
            return None
        fingerprint, response = found
        if fingerprint != request.fingerprint or response is None:
            raise RequestIdReused(
                f"the request id {request.request_id!r} was used for another {request.method} request; "
                "give every new request its own id",
                metadata={"request_id": request.request_id, "method": request.method},
            )
        return bytes(response)

    def keep(self, request: Request, reply: bytes, time: datetime) -> None:
        row = {**_key(request), "fingerprint": request.fingerprint, "response": reply, "create_time": time}
        self._session.connection().execute(_KEEP, row)

    def forget_before(self, time: datetime) -> int:
        result = self._session.execute(delete(RequestRow).where(RequestRow.create_time < time))
        return int(result.rowcount)  # type: ignore[attr-defined]


def _key(request: Request) -> dict[str, str]:
    return {"principal": request.principal, "method": request.method, "request_id": request.request_id}
