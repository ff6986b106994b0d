"""Facts about the call being served."""

from __future__ import annotations

from contextvars import ContextVar

#: Metadata key by which a caller says who acts; a claim, not a proof, until calls are authenticated.
ACTOR_METADATA = "plumbline-actor"

_actor: ContextVar[str] = ContextVar("plumbline_actor", default="anonymous")


def current_actor() -> str:
    """Who the caller of this call says to be; "anonymous" when it does not say."""
    return _actor.get()


def set_actor(name: str) -> None:
    """Called by the request interceptor alone."""
    _actor.set(name[:128] or "anonymous")
