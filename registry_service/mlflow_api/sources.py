"""Where MLflow's clients say a model is. A source is a note: kept and given back, never read or fetched.

A source that names another version of this registry is looked up, and the new version becomes a copy of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import unquote_plus, urlsplit

from plumbline.registry.errors import VersionNotFound
from registry_service.domain import STAGES, AliasRef, VersionRef
from registry_service.mlflow_api.arguments import refuse
from registry_service.ports import Transaction
from registry_service.summaries import VersionSummary

_MODELS = "models"
# Enough for whoever encodes by mistake; what is still encoded then is an attempt.
_MOST_DECODINGS = 10


@dataclass(frozen=True)
class RegisteredSource:
    """ "models:/name/3", "models:/name@alias", "models:/name/Production" or "models:/name/latest". stage: ""
    for the latest of all."""

    name: str
    version: int | None = None
    alias: str = ""
    stage: str = ""


def parse(source: str) -> RegisteredSource | None:
    """The version of this registry that a source names; None for any other source. Raises InvalidField for a
    source that leads out of where it says it is."""
    _check(source)
    parts = urlsplit(source, allow_fragments=False)
    if parts.scheme != _MODELS:
        return None
    path = parts.path.removeprefix("/").split("/")
    if parts.netloc or not parts.path.startswith("/") or len(path) > 2 or not path[0].strip():
        _invalid(source, "A registered model is named as models:/name/3 or models:/name@alias.")
    if len(path) == 2:
        return _of_suffix(source, path[0], path[1])
    name, at, alias = path[0].rpartition("@")
    # Without a version it is the id of one of MLflow's logged models, which are not kept here.
    return RegisteredSource(name, alias=alias) if at and name and alias else None


def find(transaction: Transaction, source: RegisteredSource) -> VersionSummary:
    """Raises ModelNotFound, VersionNotFound, AliasNotFound."""
    if source.version is not None:
        return transaction.summaries.get(VersionRef(source.name, source.version))
    if source.alias:
        return transaction.summaries.get(AliasRef(source.name, source.alias))
    model = transaction.models.get(source.name)
    found = [
        summary
        for summary in transaction.summaries.latest([model.id]).get(model.id, ())
        if source.stage in ("", summary.stage)
    ]
    if not found:
        raise VersionNotFound(
            f"model {source.name!r} has no version in stage {source.stage or 'any'}",
            metadata={"model": source.name, "version": source.stage or "latest"},
        )
    return found[-1]


def _of_suffix(source: str, name: str, suffix: str) -> RegisteredSource:
    if re.fullmatch(r"[1-9][0-9]{0,17}", suffix):
        return RegisteredSource(name, version=int(suffix))
    if suffix.lower() == "latest":
        return RegisteredSource(name)
    stage = next((stage for stage in STAGES if stage.lower() == suffix.lower()), None)
    if stage is None:
        _invalid(source, f"{suffix!r} is neither a version number nor a stage.")
    return RegisteredSource(name, stage=stage)


def _check(source: str) -> None:
    decoded = source
    for _ in range(_MOST_DECODINGS):
        once = unquote_plus(decoded)
        if once == decoded:
            break
        decoded = once
    else:
        _invalid(source, "It is encoded over and over.")
    if not decoded.isprintable():
        _invalid(source, "It holds characters that cannot be printed.")
    if ".." in re.split(r"[/\\]", decoded):
        _invalid(source, "Name the place itself, without '..'.")


def _invalid(source: str, advice: str) -> NoReturn:
    shown = source if len(source) <= 200 else f"{source[:200]}…"
    refuse("source", f"Invalid model version source: '{shown}'. {advice}")
