"""The chain of events: every hash, the order, the end; and what events tell beside the state of a record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from registry_service.audit import BEGINNING, fields_hash
from registry_service.events import Head, Kind
from registry_service.integrity.findings import Finding, FindingKind, Progress, Summary
from registry_service.integrity.store import IntegrityStore, Move, StoredEvent

BATCH = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Chain:
    """Walks the chain once, in order."""

    def __init__(self, store: IntegrityStore, anchor: Head | None, summary: Summary) -> None:
        self._store, self._anchor, self._summary = store, anchor, summary
        self._last, self._anchored = Head(0, BEGINNING), False
        self._definitions = 0
        #: Afterwards, how far records go that are older than the chain: the greatest id by kind.
        self.before: dict[str, int] = {}

    def check(self) -> Iterator[Finding | Progress]:
        recorded = self._store.head()
        total = 0 if recorded is None else recorded.sequence
        while batch := self._store.events(after=self._last.sequence, limit=BATCH):
            sound = []
            for event in batch:
                faults = list(self._faults(event))
                yield from faults
                if not faults:
                    sound.append(event)
                    self._note(event)
                self._last = Head(event.sequence, event.hash)
            self._summary.events += len(batch)
            yield from self._check_models(sound)
            yield from self._check_moves(sound)
            yield from self._check_definitions(sound)
            yield Progress("chain", self._summary.events, max(total, self._summary.events))
        self._summary.head = self._last if self._last.sequence else None
        yield from self._check_end(recorded)
        kept = self._store.definition_count()
        if kept > self._definitions:
            yield Finding(
                FindingKind.RECORD_UNEXPLAINED,
                "featureViews",
                f"the texts of {kept} feature definitions are kept; events tell of {self._definitions}",
            )

    def _faults(self, event: StoredEvent) -> Iterator[Finding]:
        name, expected = _name(event.sequence), self._last.sequence + 1
        if event.sequence > expected:
            missing = (
                f"event {expected} is"
                if event.sequence == expected + 1
                else (f"events {expected} to {event.sequence - 1} are")
            )
            yield Finding(FindingKind.CHAIN_INCOMPLETE, _name(expected), f"{missing} missing")
        elif event.previous_hash != self._last.hash:
            yield _broken(
                name,
                f"it names {event.previous_hash[:64]} as the hash of the event before, which has "
                f"{self._last.hash[:64]}: one of the two was altered or replaced",
            )
        actual = "" if event.micros is None else _hash(event)
        if actual != event.hash:
            yield _broken(
                name, f"its content has the hash {actual or 'of no moment'}, recorded is {event.hash}"
            )
        elif _details(event).get("id") != event.node_id:
            yield _broken(name, f"it is filed under record {event.node_id}, which its details do not tell")
        if self._anchor is not None and self._anchor == Head(event.sequence, event.hash):
            self._anchored = True

    def _note(self, event: StoredEvent) -> None:
        before = _details(event).get("before")
        if event.sequence == 1 and isinstance(before, dict):
            self.before = {str(kind): most for kind, most in before.items() if isinstance(most, int)}

    def _check_end(self, recorded: Head | None) -> Iterator[Finding]:
        last = self._last
        if recorded is None:
            yield Finding(
                FindingKind.CHAIN_INCOMPLETE, _name(last.sequence), "the recorded end of the chain is gone"
            )
        elif recorded.sequence > last.sequence:
            yield Finding(
                FindingKind.CHAIN_INCOMPLETE,
                _name(last.sequence + 1),
                f"the chain ends with event {last.sequence}; recorded is an end with {recorded.sequence}",
            )
        elif recorded != last:
            yield Finding(
                FindingKind.CHAIN_INCOMPLETE,
                _name(last.sequence),
                f"the chain ends with event {last.sequence} and hash {last.hash}; recorded is an end with "
                f"{recorded.sequence} and {recorded.hash}",
            )
        if self._anchor is not None and not self._anchored:
            yield Finding(
                FindingKind.ANCHOR_MISSING,
                _name(self._anchor.sequence),
                f"no event {self._anchor.sequence} with the hash {self._anchor.hash} is part of this chain: "
                "it was written anew since the anchor was noted, or is another registry's",
            )

    def _check_models(self, events: Sequence[StoredEvent]) -> Iterator[Finding]:
        """An event is found by the model it is about, which is no part of its hash."""
        for event in events:
            if event.kind == Kind.REGISTRY and event.model_id is not None:
                yield _broken(_name(event.sequence), "it is filed under a model; it is of the registry")
        for kind in _OWNED:
            of_kind = [event for event in events if event.kind == kind]
            owners = self._store.owners(kind, sorted({event.node_id for event in of_kind})) if of_kind else {}
            for event in of_kind:
                if event.node_id in owners and owners[event.node_id] != event.model_id:
                    yield _broken(
                        _name(event.sequence), f"it is filed under another model than {event.resource}"
                    )

    def _check_moves(self, events: Sequence[StoredEvent]) -> Iterator[Finding]:
        """The history of aliases, which as-of questions are answered from."""
        told = {
            (event.node_id, revision): event
            for event in events
            if event.kind == Kind.ALIAS and isinstance(revision := _details(event).get("revision"), int)
        }
        if not told:
            return
        found = self._store.moves([*told, *((alias, revision - 1) for alias, revision in told)])
        for (alias, revision), event in told.items():
            move = found.get((alias, revision))
            if move is None:
                yield Finding(
                    FindingKind.RECORD_MISSING,
                    event.resource,
                    f"move {revision} of its history, told by event {event.sequence}, is gone",
                )
                continue
            wrong = _differences(event, move, found.get((alias, revision - 1)))
            if wrong:
                yield Finding(
                    FindingKind.RECORD_ALTERED,
                    event.resource,
                    f"move {revision} of its history has another {', '.join(wrong)} than event "
                    f"{event.sequence}",
                )

    def _check_definitions(self, events: Sequence[StoredEvent]) -> Iterator[Finding]:
        told: dict[str, tuple[str, StoredEvent]] = {}
        for event in events:
            texts = _details(event).get("definitions")
            if event.kind == Kind.DATASET and isinstance(texts, dict):
                told |= {str(digest): (text, event) for digest, text in texts.items()}
        if not told:
            return
        self._definitions += len(told)
        kept = self._store.definitions(sorted(told))
        for digest, (text, event) in told.items():
            if digest not in kept:
                yield Finding(
                    FindingKind.RECORD_MISSING, event.resource, f"the text of its definition {digest} is gone"
                )
            elif kept[digest] != text:
                yield Finding(
                    FindingKind.RECORD_ALTERED,
                    event.resource,
                    f"the text of its definition {digest} has the sha256 {kept[digest]}; event "
                    f"{event.sequence} tells of {text}",
                )


# Kinds whose events are about the model that their records say.
_OWNED = (
    Kind.MODEL,
    Kind.VERSION,
    Kind.ALIAS,
    Kind.RUN,
    Kind.DATASET,
    Kind.EVALUATION,
    Kind.POLICY,
    Kind.APPROVAL,
    Kind.DEPLOYMENT,
)


def _differences(event: StoredEvent, move: Move, previous: Move | None) -> list[str]:
    details = _details(event)
    # The history never goes back in time, though clocks may.
    time = _EPOCH + timedelta(microseconds=event.micros or 0)
    if previous is not None:
        time = max(time, previous.time)
    facts = (
        ("model", move.model_id == event.model_id),
        ("origin", _is_version(move.origin, details.get("from"), event.model_id)),
        ("target", _is_version(move.target, details.get("to"), event.model_id)),
        ("actor", move.actor == event.actor),
        ("reason", move.reason == details.get("reason")),
        ("time", move.time == time),
        ("move it puts back", move.restored_revision == details.get("restored_revision")),
    )
    return [name for name, same in facts if not same]


def _is_version(version: tuple[int, int] | None, name: object, model_id: int | None) -> bool:
    """name: of the version, under the name its model had at that time; "" for none."""
    if version is None or not name:
        return version is None and not name
    return version[0] == model_id and str(version[1]) == str(name).rpartition("/")[2]


def _hash(event: StoredEvent) -> str:
    return fields_hash(
        event.sequence,
        event.micros or 0,
        event.actor,
        event.action,
        event.kind,
        event.resource,
        event.details,
        event.state_digest,
        event.request_id,
        event.previous_hash,
    )


def _details(event: StoredEvent) -> Mapping[str, Any]:
    try:
        found = json.loads(event.details)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(sequence: int) -> str:
    return f"auditEvents/{sequence}"


def _broken(name: str, message: str) -> Finding:
    return Finding(FindingKind.CHAIN_BROKEN, name, message)
