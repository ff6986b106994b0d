"""The definitions in force: lookups, lists page by page, and resolved selections."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from feature_service.domain import Entity, FeatureService, FeatureView, ReadPlan
from feature_service.online.hot import HotPlan
from feature_service.planning import Definitions, Selection, plan
from plumbline.errors import FieldViolation, PlumblineError
from plumbline.features.errors import DefinitionChanged, EntityNotFound, InvalidField, InvalidPageToken

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000
#: Selections kept resolved; callers repeat few, and one that makes them up must not fill the memory.
_PLANS_KEPT = 1_000

ItemT = TypeVar("ItemT")

Prepare = Callable[[ReadPlan], HotPlan | None]
_State = tuple[Definitions, dict[Selection, ReadPlan], dict[Selection, HotPlan]]

_log = logging.getLogger("plumbline.features")


class Catalog:
    """One state of the definitions, and the selections resolved against it.

    `replace` swaps the state as a whole: a request works on the state it started with. Requests never
    touch Feast's registry.
    """

    def __init__(self, definitions: Definitions, prepare: Prepare = lambda plan: None) -> None:
        """prepare: what makes a plan hot; it is asked for the plans of all feature services whenever a
        state comes into force, so that no request waits for it."""
        self._prepare = prepare
        self._state = self._new_state(definitions)

    @property
    def definitions(self) -> Definitions:
        """The state in force."""
        return self._state[0]

    def replace(self, definitions: Definitions) -> None:
        """Puts another state in force. Takes a while; called on a thread."""
        self._state = self._new_state(definitions)

    def hot(self, selection: Selection, expected_digest: str = "") -> tuple[ReadPlan, HotPlan | None]:
        """As `plan`, with the hot plan where there is one."""
        found = self._state[2].get(selection)
        if found is not None and (not expected_digest or expected_digest == found.plan.digest):
            return found.plan, found
        # Again from one state: it may have been replaced in between.
        definitions, plans, hot = self._state
        plan = self._resolved(definitions, plans, hot, selection, expected_digest)
        return plan, hot.get(selection)

    def _new_state(self, definitions: Definitions) -> _State:
        plans: dict[Selection, ReadPlan] = {}
        hot: dict[Selection, HotPlan] = {}
        for name in definitions.services:
            try:
                self._resolved(definitions, plans, hot, Selection(name), "")
            except PlumblineError as error:  # told to whoever asks for it
                _log.warning("feature service %s cannot be read: %s", name, error.message)
        return definitions, plans, hot

    def plan(self, selection: Selection, expected_digest: str = "") -> ReadPlan:
        """A selection, resolved.

        expected_digest: when given, DefinitionChanged is raised unless it is the plan's. Raises what
        `planning.plan` raises.
        """
        return self._resolved(*self._state, selection, expected_digest)

    def _resolved(
        self,
        definitions: Definitions,
        plans: dict[Selection, ReadPlan],
        hot: dict[Selection, HotPlan],
        selection: Selection,
        expected_digest: str,
    ) -> ReadPlan:
        found = plans.get(selection)
        if found is None:
            if len(plans) >= _PLANS_KEPT + len(definitions.services):
                for key in [key for key in plans if not key.feature_service]:
                    plans.pop(key, None)
                    hot.pop(key, None)
            found = plan(definitions, selection)
            prepared = self._prepare(found)
            if prepared is not None:
                hot[selection] = prepared
            plans[selection] = found
        if expected_digest and expected_digest != found.digest:
            raise DefinitionChanged(
                f"the definitions are {found.digest}, but the caller expects {expected_digest}; "
                "train again, or restore the definitions",
                metadata={"expected": expected_digest, "actual": found.digest},
            )
        return found

    def view(self, name: str) -> FeatureView:
        """By name, view@vN or view@latest. Raises ViewNotFound."""
        return self.definitions.readable(name)[1]

    def service(self, name: str) -> FeatureService:
        """Raises FeatureServiceNotFound."""
        return self.definitions.service(name)

    def entity(self, name: str) -> Entity:
        """Raises EntityNotFound."""
        found = self.definitions.entities.get(name)
        if found is None:
            raise EntityNotFound(
                f"there is no entity {name!r} in project {self.definitions.project!r}",
                metadata={"entity": name},
            )
        return found

    def entities(self, size: int, token: str) -> tuple[Sequence[Entity], str]:
        """A page by name and the token of the next, "" after the last.

        Raises InvalidPageToken, InvalidField.
        """
        return _page("entities", self.definitions.entities, size, token)

    def views(self, size: int, token: str) -> tuple[Sequence[FeatureView], str]:
        """As `entities`."""
        return _page("views", self.definitions.views, size, token)

    def services(self, size: int, token: str) -> tuple[Sequence[FeatureService], str]:
        """As `entities`."""
        return _page("services", self.definitions.services, size, token)


def _page(kind: str, items: Mapping[str, ItemT], size: int, token: str) -> tuple[list[ItemT], str]:
    if size < 0 or size > LARGEST_PAGE:
        what = f"is {size}; it must be between 0 and {LARGEST_PAGE}"
        raise InvalidField(
            f"page_size {what}",
            metadata={"field": "page_size"},
            violations=[FieldViolation("page_size", what)],
        )
    after = _after(kind, token) if token else None
    names = sorted(name for name in items if after is None or name > after)
    shown = names[: size or DEFAULT_PAGE]
    more = len(names) > len(shown)
    next_token = base64.urlsafe_b64encode(f"{kind}\n{shown[-1]}".encode()).decode() if more else ""
    return [items[name] for name in shown], next_token


def _after(kind: str, token: str) -> str:
    """The name a page starts after."""
    try:
        found, newline, name = base64.urlsafe_b64decode(token.encode()).decode().partition("\n")
    except (binascii.Error, ValueError):
        found, newline, name = "", "", ""
    if not newline or found != kind:
        raise InvalidPageToken(
            f"the page token {token!r} is not one this list gave; start again without a token"
        )
    return name
