"""The arguments of a call: of the query string or of a JSON body, with MLflow's messages about wrong ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField, VersionNotFound
from registry_service import names
from registry_service.domain import STAGES, AliasRef, VersionRef

_SEE = "See the API docs for more information about request parameters."
_GREATEST = 10**18
_TAG_KEY = re.compile(r"[/\w.\- :]*")
_ALIAS = re.compile(r"[\w\-]*")
_RESERVED = re.compile(r"[vV]\d+")
MAX_TAG_KEY = 250
MAX_TAG_VALUE = 100_000
MAX_ALIAS = 255


def refuse(field: str, message: str) -> NoReturn:
    """Raises InvalidField."""
    raise InvalidField(message, metadata={"field": field}, violations=[FieldViolation(field, message)])


def missing(field: str) -> NoReturn:
    """Raises InvalidField."""
    refuse(field, f"Missing value for required parameter '{field}'. {_SEE}")


class Arguments:
    """Every method raises InvalidField. A null is as good as nothing, as in protobuf's JSON."""

    def __init__(self, values: Mapping[str, Any], *, query: bool = False) -> None:
        """query: of a query string: each value is the list of its texts."""
        self._values, self._query = values, query

    def given(self, field: str) -> bool:
        return self._values.get(field) is not None

    def text(self, field: str) -> str:
        """ "" when it is not given."""
        value = self._one(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            _mistyped(field, value)
        return value

    def required(self, field: str) -> str:
        """Not empty."""
        return self.text(field) or missing(field)

    def number(self, field: str, default: int, most: int) -> int:
        """1 ≤ number ≤ most."""
        value = self._one(field)
        if value is None:
            return default
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if not isinstance(number, int) or isinstance(number, bool):
            _mistyped(field, value)
        if number < 1:
            refuse(field, f"Invalid value for {field}. It must be a positive integer, but got {number}")
        if number > most:
            refuse(
                field,
                f"Invalid value for request parameter {field}. It must be at most {most}, but got value "
                f"{number}",
            )
        return number

    def flag(self, field: str) -> bool:
        value = self._one(field)
        if self._query and isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if value is not None and not isinstance(value, bool):
            _mistyped(field, value)
        return bool(value)

    def texts(self, field: str) -> list[str]:
        value = self._values.get(field)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            _mistyped(field, value)
        return value

    def tags(self) -> dict[str, str]:
        """Of [{"key": …, "value": …}]; of a key given twice the last counts."""
        value = self._values.get("tags")
        if value is None:
            return {}
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            _mistyped("tags", value)
        found: dict[str, str] = {}
        for item in value:
            tag = Arguments(item)
            key, text = tag.text("key"), tag.text("value")
            check_tag(key, text)
            found[key] = text
        return found

    def _one(self, field: str) -> Any:
        value = self._values.get(field)
        return value[0] if self._query and value else value


def check_tag(key: str, value: str = "") -> None:
    """Raises InvalidField unless MLflow would take it."""
    if not key:
        missing("key")
    if not _TAG_KEY.fullmatch(key):
        refuse(
            "key",
            f"Invalid value {json.dumps(key)} for parameter 'key' supplied: Names may only contain "
            "alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).",
        )
    if len(key) > MAX_TAG_KEY:
        _too_long("key", MAX_TAG_KEY)
    if len(value) > MAX_TAG_VALUE:
        _too_long("value", MAX_TAG_VALUE)


def model_name(arguments: Arguments, field: str = "name") -> str:
    """A name that a model can have. Raises InvalidField, InvalidName."""
    name = arguments.required(field)
    if not name.strip():
        missing(field)
    if "/" in name or ":" in name:
        refuse(field, f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    return names.model_id(field, name)


def version_ref(arguments: Arguments) -> VersionRef:
    """The version of "name" and "version". Raises InvalidField, InvalidName; VersionNotFound for a number
    that none can have."""
    name, given = model_name(arguments), arguments.required("version")
    try:
        number = int(given)
    except ValueError:
        refuse("version", f"Parameter 'version' must be an integer, got '{given}'.")
    if not 1 <= number < _GREATEST:
        raise VersionNotFound(
            f"model {name!r} has no version {number}", metadata={"model": name, "version": str(number)}
        )
    return VersionRef(name, number)


def alias_ref(arguments: Arguments) -> AliasRef:
    """The alias of "name" and "alias". Raises InvalidField, InvalidName."""
    name, alias = model_name(arguments), arguments.required("alias")
    if not _ALIAS.fullmatch(alias):
        refuse(
            "alias",
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and "
            "dashes (-).",
        )
    if len(alias) > MAX_ALIAS:
        _too_long("Registered model alias name", MAX_ALIAS)
    return names.alias("alias", f"models/{name}/aliases/{alias}")


def settable_alias(arguments: Arguments) -> AliasRef:
    """As `alias_ref`, but not a reserved one."""
    ref = alias_ref(arguments)
    if ref.alias.lower() == "latest":
        refuse("alias", "'latest' alias name (case insensitive) is reserved.")
    if _RESERVED.fullmatch(ref.alias):
        refuse("alias", f"Version alias name '{ref.alias}' is reserved.")
    return ref


def stage(name: str) -> str:
    """A stage in MLflow's spelling, given in any case. Raises InvalidField."""
    found = next((stage for stage in STAGES if stage.lower() == name.lower()), None)
    if found is None:
        refuse("stage", f"Invalid Model Version stage: {name}. Value must be one of {', '.join(STAGES)}.")
    return found


def _mistyped(field: str, value: object) -> NoReturn:
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
    kind = type(value).__name__
    refuse(
        field,
        f"Invalid value {shown} for parameter '{field}' supplied:  Hint: Value was of type '{kind}'. {_SEE}",
    )


def _too_long(what: str, limit: int) -> NoReturn:
    refuse(what, f"'{what}' exceeds the maximum length of {limit} characters")
