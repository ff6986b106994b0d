"""Resource names ↔ their parts. Every parser raises InvalidName with the request field at fault."""

from __future__ import annotations

import re

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidName
from registry_service.domain import AliasRef, DefinitionRef, NodeKind, VersionRef

# As MLflow takes them; whether every character can be printed is looked at apart.
_MODEL = r"(?=[^/:]{1,256}(?:/|$))(?!\s|-(?:/|$)|\.{1,2}(?:/|$))[^/:]*[^/:\s]"
_ALIAS = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}"
_RUN = r"[0-9a-z]{1,64}"
_WEBHOOK = r"[0-9a-z]{1,64}"
_DIGEST = r"[0-9a-f]{64}"
_COMMIT = r"[0-9A-Za-z._-]{1,64}"
_DEFINITION = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

MODEL_RULE = "at most 256 printable characters but '/' and ':', no blank at either end, not '-', '.' or '..'"
ALIAS_RULE = "letters, digits, '_' and '-', at most 128, first a letter, digit or '_'"

_MODEL_ID = re.compile(_MODEL)
_ALIAS_ID = re.compile(_ALIAS)
_MODEL_NAME = re.compile(f"models/({_MODEL})")
_VERSION_NAME = re.compile(f"models/({_MODEL})/versions/([1-9][0-9]{{0,17}})")
_ALIAS_NAME = re.compile(f"models/({_MODEL})/aliases/({_ALIAS})")
_RUN_NAME = re.compile(f"runs/({_RUN})")
_WEBHOOK_NAME = re.compile(f"webhooks/({_WEBHOOK})")
_DATASET_NAME = re.compile(f"datasets/({_DIGEST})")
_DEPLOYMENT_NAME = re.compile(f"deployments/({_RUN})")
_CODE_NAME = re.compile(f"codeRevisions/({_COMMIT})")
_COMMIT_ID = re.compile(_COMMIT)
_DEFINITION_NAME = re.compile(
    f"(featureServices|featureViews)/({_DEFINITION})/({_DEFINITION})@(?:sha256:)?({_DIGEST})"
)
_RESERVED_ALIAS = re.compile(r"latest|v[0-9]+", re.IGNORECASE)


def invalid(field: str, value: str, expected: str) -> InvalidName:
    """The error for a name that is not of the expected form."""
    shown = value if len(value) <= 200 else f"{value[:200]}…"
    problem = f"is {shown!r}" if value else "is empty"
    message = f"{field} {problem}; expected {expected}"
    return InvalidName(message, metadata={"field": field}, violations=[FieldViolation(field, message)])


def _match(pattern: re.Pattern[str], field: str, value: str, expected: str) -> re.Match[str]:
    match = pattern.fullmatch(value)
    if match is None or not value.isprintable():
        raise invalid(field, value, expected)
    return match


def model_id(field: str, value: str) -> str:
    """The last part of a model's name."""
    return _match(_MODEL_ID, field, value, MODEL_RULE).group()


def model(field: str, value: str) -> str:
    """models/{model} → its id."""
    return _match(_MODEL_NAME, field, value, f"models/{{model}} with a model of {MODEL_RULE}").group(1)


def model_or_all(field: str, value: str) -> str:
    """models/{model} → its id, models/- → ""."""
    return "" if value == "models/-" else model(field, value)


def version(field: str, value: str) -> VersionRef:
    """models/{model}/versions/{number}."""
    match = _match(
        _VERSION_NAME, field, value, "models/{model}/versions/{number}, as models/flights/versions/3"
    )
    return VersionRef(match.group(1), int(match.group(2)))


def alias(field: str, value: str) -> AliasRef:
    """models/{model}/aliases/{alias}."""
    match = _match(
        _ALIAS_NAME, field, value, f"models/{{model}}/aliases/{{alias}} with an alias of {ALIAS_RULE}"
    )
    return AliasRef(match.group(1), match.group(2))


def alias_id(field: str, value: str) -> str:
    """The last part of an alias's name."""
    return _match(_ALIAS_ID, field, value, f"the last part of an alias's name: {ALIAS_RULE}").group()


def settable_alias(field: str, value: str) -> AliasRef:
    """As `alias`, but not a reserved one."""
    ref = alias(field, value)
    if _RESERVED_ALIAS.fullmatch(ref.alias):
        raise invalid(field, value, "an alias other than 'latest', v1, v2 …, which are reserved")
    return ref


def version_or_alias(field: str, value: str) -> VersionRef | AliasRef:
    """models/{model}/versions/{number} or models/{model}/aliases/{alias}."""
    if _ALIAS_NAME.fullmatch(value):
        return alias(field, value)
    if _VERSION_NAME.fullmatch(value):
        return version(field, value)
    raise invalid(field, value, "models/{model}/versions/{number} or models/{model}/aliases/{alias}")


def model_or_alias(field: str, value: str) -> str | AliasRef:
    """models/{model} (→ its id) or models/{model}/aliases/{alias}."""
    if _ALIAS_NAME.fullmatch(value):
        return alias(field, value)
    if _MODEL_NAME.fullmatch(value):
        return model(field, value)
    raise invalid(field, value, "models/{model} or models/{model}/aliases/{alias}")


def run(field: str, value: str) -> str:
    """runs/{run} → its id."""
    return _match(_RUN_NAME, field, value, "runs/{run}, as StartRun returned it").group(1)


def deployment(field: str, value: str) -> str:
    """deployments/{id} → the id."""
    expected = "deployments/{id}, as RecordDeployment returned it"
    return _match(_DEPLOYMENT_NAME, field, value, expected).group(1)


def webhook(field: str, value: str) -> str:
    """webhooks/{webhook} → its id."""
    return _match(_WEBHOOK_NAME, field, value, "webhooks/{id}, as CreateWebhook returned it").group(1)


def dataset(field: str, value: str) -> str:
    """datasets/{digest} → the digest."""
    return _match(
        _DATASET_NAME, field, value, "datasets/ and the 64 lower-case hex digits of a sha256"
    ).group(1)


def commit(field: str, value: str) -> str:
    """The id of a commit."""
    return _match(_COMMIT_ID, field, value, "the id of a commit, at most 64 letters and digits").group()


def feature_service(field: str, value: str) -> DefinitionRef:
    """featureServices/{project}/{service}@{digest}; the digest with or without "sha256:"."""
    return _definition("featureServices", field, value)


def feature_view(field: str, value: str) -> DefinitionRef:
    """featureViews/{project}/{view}@{digest}; the digest with or without "sha256:"."""
    return _definition("featureViews", field, value)


def _definition(collection: str, field: str, value: str) -> DefinitionRef:
    match = _DEFINITION_NAME.fullmatch(value)
    if match is None or match.group(1) != collection:
        raise invalid(field, value, f"{collection}/{{project}}/{{name}}@sha256:{{64 hex digits}}")
    return DefinitionRef(match.group(2), match.group(3), f"sha256:{match.group(4)}")


_EVERY_STATE_NAME = re.compile(f"(featureServices|featureViews)/({_DEFINITION})/({_DEFINITION})")

#: What a lineage query may start from, parsed: the kind and the parts that find its row.
NodeName = tuple[NodeKind, str | VersionRef | AliasRef | DefinitionRef]


def node(field: str, value: str) -> NodeName:
    """The name of any node of the lineage graph."""
    if _MODEL_NAME.fullmatch(value):
        return NodeKind.MODEL, model(field, value)
    if _VERSION_NAME.fullmatch(value):
        return NodeKind.MODEL_VERSION, version(field, value)
    if _ALIAS_NAME.fullmatch(value):
        return NodeKind.ALIAS, alias(field, value)
    if _RUN_NAME.fullmatch(value):
        return NodeKind.RUN, run(field, value)
    if _DATASET_NAME.fullmatch(value):
        return NodeKind.DATASET, dataset(field, value)
    if match := _CODE_NAME.fullmatch(value):
        return NodeKind.CODE_REVISION, match.group(1)
    if match := _DEPLOYMENT_NAME.fullmatch(value):
        return NodeKind.DEPLOYMENT, match.group(1)
    if value.startswith("featureServices/"):
        return NodeKind.FEATURE_SERVICE, feature_service(field, value)
    if value.startswith("featureViews/"):
        return NodeKind.FEATURE_VIEW, feature_view(field, value)
    raise invalid(
        field,
        value,
        "models/…, models/…/versions/…, models/…/aliases/…, runs/…, datasets/…, "
        "featureServices/…, featureViews/…, codeRevisions/… or deployments/…",
    )


def node_or_states(field: str, value: str) -> NodeName:
    """As `node`; a feature service or view may be named without "@{digest}", for every state of it: then the
    digest is ""."""
    if match := _EVERY_STATE_NAME.fullmatch(value):
        kind = NodeKind.FEATURE_VIEW if match.group(1) == "featureViews" else NodeKind.FEATURE_SERVICE
        return kind, DefinitionRef(match.group(2), match.group(3), "")
    return node(field, value)
