"""Short names in full, and ids of requests."""

from __future__ import annotations

import uuid

# A model of one of these names has to be named in full.
_COLLECTIONS = (
    "models",
    "runs",
    "datasets",
    "featureServices",
    "featureViews",
    "codeRevisions",
    "deployments",
)


def model_name(text: str) -> str:
    """models/{model} of "m" or "models/m"."""
    return text if text.startswith("models/") else f"models/{text}"


def version_name(text: str) -> str:
    """models/m/versions/3 of "m/3", models/m/aliases/a of "m@a"; full names stay."""
    if text.startswith("models/"):
        return text
    if "@" in text:
        return alias_name(text)
    model, _, number = text.partition("/")
    return f"models/{model}/versions/{number}" if number else f"models/{model}"


def alias_name(text: str) -> str:
    """models/m/aliases/a of "m@a"; full names stay."""
    if text.startswith("models/"):
        return text
    model, _, alias = text.partition("@")
    return f"models/{model}/aliases/{alias}"


def node_name(text: str) -> str:
    """The name of any node of the lineage graph: of "m", "m/3" and "m@a" the full one; full names stay."""
    collection, slash, _ = text.partition("/")
    return text if slash and collection in _COLLECTIONS else version_name(text)


def fresh_id(given: str | None) -> str:
    """The id given, or a fresh one."""
    return given or uuid.uuid4().hex
