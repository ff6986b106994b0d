"""The models in service: one slot per configured name, whose version changes under running requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from plumbline.serving.errors import ModelNotLoaded, ModelNotServed
from serving.domain import ModelRef, Release
from serving.predictor import Predictor

_log = logging.getLogger("plumbline.models")


@dataclass(frozen=True)
class LoadedModel:
    """One version, ready to answer. A request holds on to the one it started with."""

    release: Release
    predictor: Predictor
    load_time: datetime


@dataclass
class Slot:
    """What stands behind one configured name. last_error: why no newer version is served, or none at
    all; "" when all is well. refused: whether what the name stands for cannot be fetched or is not fit to
    be served; what the registry said last, while it says nothing."""

    ref: ModelRef
    loaded: LoadedModel | None = None
    last_error: str = ""
    refused: bool = False


@dataclass
class ModelTable:
    """All slots, in the configured order; the first is the default. Used on the event loop alone.

    on_change: called after a version came into service. on_note: called after `refused` may have changed.
    """

    refs: Sequence[ModelRef]
    on_change: Callable[[Slot, LoadedModel | None], None]
    on_note: Callable[[Slot], None]
    slots: list[Slot] = field(init=False)

    def __post_init__(self) -> None:
        self.slots = [Slot(ref) for ref in self.refs]

    @property
    def ready(self) -> bool:
        """Whether every configured model answers."""
        return all(slot.loaded is not None for slot in self.slots)

    def swap(self, slot: Slot, loaded: LoadedModel) -> None:
        """Puts a version into service: requests that start from now on are answered by it."""
        previous, slot.loaded = slot.loaded, loaded
        slot.last_error, slot.refused = "", False
        _log.info(
            "%s is served by %s",
            slot.ref.name,
            loaded.release.version,
            extra={"sha256": loaded.release.sha256},
        )
        self.on_change(slot, previous)
        self.on_note(slot)

    def refuse(self, slot: Slot, why: str, *, refused: bool = True) -> None:
        """Notes why a newer version is not served; what is served stays. Logged when it is another
        reason than before."""
        if why != slot.last_error:
            _log.warning("%s: %s", slot.ref.name, why)
        slot.last_error, slot.refused = why, refused
        self.on_note(slot)

    def accept(self, slot: Slot) -> None:
        """Notes that what is served is what the name stands for."""
        if slot.last_error:
            version = "" if slot.loaded is None else slot.loaded.release.version
            _log.info(
                "%s: %s is what it stands for again",
                slot.ref.name,
                version,
                extra={"before": slot.last_error},
            )
        slot.last_error, slot.refused = "", False
        self.on_note(slot)

    def find(self, name: str) -> Slot:
        """The slot of a configured name, or one whose present version is the one named; "" is the
        default. Raises ModelNotServed."""
        if not name:
            return self.slots[0]
        try:
            ref = ModelRef.parse(name)
        except ValueError as error:
            raise ModelNotServed(str(error), metadata={"model": name}) from error
        for slot in self.slots:
            if slot.ref == ref or (slot.loaded is not None and slot.loaded.release.version == ref.name):
                return slot
        served = ", ".join(slot.ref.name for slot in self.slots)
        raise ModelNotServed(
            f"{ref.name} is not served here; served are {served}", metadata={"model": ref.name}
        )

    def loaded(self, name: str) -> LoadedModel:
        """The version that answers for a name now. Raises ModelNotServed, ModelNotLoaded."""
        slot = self.find(name)
        if slot.loaded is None:
            why = f": {slot.last_error}" if slot.last_error else "; try again in a moment"
            raise ModelNotLoaded(f"{slot.ref.name} is not loaded yet{why}", metadata={"model": slot.ref.name})
        return slot.loaded
