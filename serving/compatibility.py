"""Whether what feature_service serves fits what a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable

from plumbline.serving.errors import SignatureMismatch
from serving.domain import ColumnType, FeatureSet, Field, ModelInput, Release

_SCORED = {ColumnType.DOUBLE, ColumnType.FLOAT, ColumnType.INT64, ColumnType.INT32, ColumnType.BOOL}
_CATEGORICAL = {ColumnType.STRING, ColumnType.INT64, ColumnType.INT32, ColumnType.BOOL}


def compatible(declared: ColumnType, served: ColumnType) -> bool:
    """Whether one type stands in for the other: the same, or both numbers (the model sees doubles)."""
    return declared is served or (declared.is_number and served.is_number)


def check_inputs(release: Release) -> None:
    """Raises SignatureMismatch when the signature asks for what this server cannot give a model."""
    signature = release.signature
    if not signature.inputs:
        raise _mismatch(release, "", "its signature has no inputs")
    if not signature.outputs:
        raise _mismatch(release, "", "its signature has no outputs")
    seen: set[str] = set()
    for item in signature.inputs:
        if item.name in seen:
            raise _mismatch(release, item.name, f"its signature names the input {item.name!r} twice")
        seen.add(item.name)
        _check_input(release, item)
    for output in signature.outputs:
        if output.type not in (ColumnType.DOUBLE, ColumnType.FLOAT):
            raise _mismatch(
                release,
                output.name,
                f"output {output.name!r} is {output.type.name}; scores are DOUBLE or FLOAT",
            )


def check_features(release: Release, served: FeatureSet) -> None:
    """Raises SignatureMismatch, naming the first column at fault, unless `served` gives the model every
    feature it needs under the keys and request data it was trained with."""
    signature = release.signature
    for item in signature.inputs:
        if item.from_caller:
            continue
        reference = f"{item.view}:{item.feature}"
        found = served.features.get((item.view, item.feature))
        if found is None:
            raise _mismatch(
                release,
                item.name,
                f"feature service {served.name!r} has no {reference} for input {item.name!r}",
            )
        if not compatible(item.type, found):
            raise _mismatch(
                release,
                item.name,
                f"{reference} is {found.name} in feature service {served.name!r}, but input {item.name!r} "
                f"was trained as {item.type.name}",
            )
    _check_fields(release, "join key", signature.join_keys, served.join_keys, known=())
    callers = [item.name for item in signature.inputs if item.from_caller]
    _check_fields(release, "request data", signature.request_data, served.request_data, known=callers)


def _check_input(release: Release, item: ModelInput) -> None:
    allowed = _CATEGORICAL if item.categories else _SCORED
    if item.type not in allowed:
        kind = "a categorical input" if item.categories else "an input without categories"
        raise _mismatch(
            release,
            item.name,
            f"input {item.name!r} is {item.type.name}; {kind} must be one of "
            f"{', '.join(sorted(kind.name for kind in allowed))}",
        )
    if not item.from_caller and not release.signature.feature_service:
        raise _mismatch(
            release,
            item.name,
            f"input {item.name!r} is a feature, but the signature names no feature service",
        )


def _check_fields(
    release: Release, what: str, trained: Iterable[Field], served: Iterable[Field], known: Iterable[str]
) -> None:
    declared = {field.name: field.type for field in trained}
    present = {field.name: field.type for field in served}
    for name, kind in present.items():
        if name not in declared and name not in known:
            raise _mismatch(
                release,
                name,
                f"the feature service needs the {what} {name!r}, which the signature does not name",
            )
        if name in declared and not compatible(declared[name], kind):
            raise _mismatch(
                release,
                name,
                f"the {what} {name!r} is {kind.name} now and was {declared[name].name} at training time",
            )
    for name in declared:
        if name not in present and name not in known:
            raise _mismatch(
                release, name, f"the feature service no longer takes the {what} {name!r} of the signature"
            )


def _mismatch(release: Release, column: str, why: str) -> SignatureMismatch:
    return SignatureMismatch(
        f"{release.version} does not fit: {why}. Serve a version trained on the present definitions, "
        "or apply the definitions it was trained on.",
        metadata={"model": release.version, "column": column},
    )
