"""The filters of MLflow's searches: comparisons joined by AND, in MLflow's words and with its meaning.

    name = 'flights' AND tags.team LIKE 'risk%' AND version_number > 3 AND run_id IN ('a', 'b')

A comparison with a tag that is not there is false, also `!=`. Only `mlflow.prompt.is_prompt`, which marks
MLflow's prompts, is special: prompts are left out unless the filter asks for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidFilter
from registry_service.filtering.ast import And, Comparison, Expression, Not, Operator, Or
from registry_service.mlflow_api.codec import FEATURE_SERVICE_TAG

MAX_LENGTH = 100_000
MAX_COMPARISONS = 64
IS_PROMPT_TAG = "mlflow.prompt.is_prompt"

_TEXT = r"'(?:''|\\'|[^'])*'|\"(?:\\\"|[^\"])*\""
_TOKEN = re.compile(
    rf"""\s*(?:
        (?P<text>{_TEXT})
      | (?P<list>\((?:{_TEXT}|[^()'"])*\))
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<operator><=|>=|!=|<>|=|<|>|(?:NOT\s+IN|NOT\s+LIKE|NOT\s+ILIKE|IN|LIKE|ILIKE)\b)
      | (?P<and>AND\b)
      | (?P<name>(?:\w+\s*\.\s*)?(?:`[^`]*`|"[^"]*"|[\w.\-/:]+))
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_ITEM = re.compile(_TEXT)
_ITEMS = re.compile(rf"\(\s*(?:{_TEXT})\s*(?:,\s*(?:{_TEXT})\s*)*,?\s*\)")
_TAG_PREFIXES = ("tag", "tags")
_ATTRIBUTE_PREFIX = "attribute"

_TEXT_OPERATORS = {"=", "!=", "LIKE", "ILIKE"}
_LIST_OPERATORS = {"IN", "NOT IN"}
_NUMBER_OPERATORS = {"=", "!=", "<", "<=", ">", ">="}
_LIST = "While parsing a list in the query, "
_NEGATIVE = {Operator.NOT_EQUAL: Operator.EQUAL, Operator.NOT_IN: Operator.IN}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True)
class Grammar:
    """What can be compared. fields: of `filtering.fields`, by MLflow's names. listed: those that take IN."""

    fields: dict[str, str]
    numeric: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()


MODELS = Grammar({"name": "name"}, listed=frozenset({"name"}))
VERSIONS = Grammar(
    {"name": "model", "version_number": "version", "run_id": "external_run", "source_path": "source"},
    numeric=frozenset({"version_number"}),
    listed=frozenset({"name", "run_id"}),
)


def parse(text: str, grammar: Grammar) -> Expression | None:
    """The tree of a filter; None for everything. Raises InvalidFilter."""
    if len(text) > MAX_LENGTH:
        _fail(text, f"it has {len(text)} characters; at most {MAX_LENGTH} are taken")
    if "\x00" in text:
        _fail(text, "it holds a NUL character")
    tokens = _tokens(text)
    parts: list[Expression] = []
    prompts = False
    while tokens:
        if len(parts) >= MAX_COMPARISONS:
            _fail(text, f"it has more than {MAX_COMPARISONS} comparisons")
        clause, tokens = tokens[:3], tokens[3:]
        if [token.kind for token in clause[:2]] != ["name", "operator"] or len(clause) < 3:
            _fail(text, f"expected a comparison, found {' '.join(token.text for token in clause)!r}")
        is_tag, key = _name(text, clause[0].text, grammar)
        operator = re.sub(r"\s+", " ", clause[1].text.upper()).replace("<>", "!=")
        if is_tag and key == IS_PROMPT_TAG:
            asked = _tag_value(text, operator, clause[2])
            prompts |= (operator, asked.lower()) in (("=", "true"), ("!=", "false"))
        part = (
            _tag(key, operator, _tag_value(text, operator, clause[2]))
            if is_tag
            else _attribute(text, grammar, key, operator, clause[2])
        )
        # Whoever asks for what is no prompt asks for what is left out anyhow.
        if not (is_tag and key == IS_PROMPT_TAG and not prompts):
            parts.append(part)
        if tokens:
            joint, *tokens = tokens
            if joint.kind != "and" or not tokens:
                _fail(text, f"expected AND and another comparison, found {joint.text!r}")
    if not prompts:
        parts.append(Comparison("tags", Operator.NOT_EQUAL, "true", key=IS_PROMPT_TAG, unset_matches=True))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            _fail(text, f"cannot be read from {text[position : position + 40].strip()!r} on")
        kind, word = match.lastgroup, match.group(match.lastgroup)
        # In quotes where a name is expected, it is one.
        if kind == "text" and word.startswith('"') and (not found or found[-1].kind == "and"):
            kind = "name"
        found.append(_Token(kind, word))
        position = match.end()
    return found


def _name(text: str, name: str, grammar: Grammar) -> tuple[bool, str]:
    """Whether it is a tag, and its key or MLflow's name of the attribute."""
    prefix, dot, key = name.partition(".")
    prefix, key = prefix.strip(), key.strip()
    if not dot:
        prefix, key = _ATTRIBUTE_PREFIX, prefix
    if key[:1] in ("`", '"') and key[-1:] == key[:1] and len(key) >= 2:
        key = key[1:-1]
    if prefix in _TAG_PREFIXES:
        return True, key
    if prefix != _ATTRIBUTE_PREFIX:
        _fail(text, f"Invalid entity type '{prefix}'. Valid entity types are ('attribute', 'tag', 'tags')")
    if key not in grammar.fields:
        _fail(text, f"Invalid attribute key '{key}' specified. Valid keys are '{set(grammar.fields)}'")
    return False, key


def _tag_value(text: str, operator: str, value: _Token) -> str:
    if operator not in _TEXT_OPERATORS:
        _fail(text, f"Invalid comparator for tag: {operator}")
    return _quoted(text, value, "tag")


def _tag(key: str, operator: str, value: str) -> Expression:
    comparison = Comparison("tags", Operator(operator), value, key=key)
    if key != FEATURE_SERVICE_TAG:
        return comparison
    # Where the trainer did not set it, it is what the signature says.
    unset = Not(Comparison("tags", Operator.PRESENT, key=key))
    computed = Comparison("feature_service", Operator(operator), value)
    present = Comparison("feature_service", Operator.NOT_EQUAL, "")
    return Or((comparison, And((unset, present, computed))))


def _attribute(text: str, grammar: Grammar, key: str, operator: str, value: _Token) -> Expression:
    field = grammar.fields[key]
    if key in grammar.numeric:
        return _number(text, key, field, operator, value)
    if operator not in _TEXT_OPERATORS | (_LIST_OPERATORS if key in grammar.listed else set()):
        _fail(text, f"Invalid comparator for attribute: {operator}")
    listed = operator in _LIST_OPERATORS
    wanted = _items(text, value) if listed else _quoted(text, value, "attributes")
    comparison = Comparison(field, Operator(operator), wanted)
    return _run(comparison) if key == "run_id" else comparison


def _run(comparison: Comparison) -> Expression:
    """A version has MLflow's run or one of ours; one without any never matches."""
    positive = _NEGATIVE.get(comparison.operator)
    operator = positive or comparison.operator
    external = Comparison("external_run", Operator.NOT_EQUAL, "")
    theirs: Expression = Comparison("external_run", operator, comparison.value)
    wanted = comparison.value if isinstance(comparison.value, tuple) else (comparison.value,)
    if "" in wanted or operator not in (Operator.EQUAL, Operator.IN):
        theirs = And((external, theirs))
    ours = Comparison("run", Operator.PRESENT)
    matches = Or((theirs, Comparison("run", operator, comparison.value)))
    return matches if positive is None else And((Or((external, ours)), Not(matches)))


def _number(text: str, key: str, field: str, operator: str, value: _Token) -> Expression:
    if operator not in _NUMBER_OPERATORS:
        _fail(text, f"Invalid comparator for attribute {key}: {operator}")
    given = _quoted(text, value, "attributes") if value.kind == "text" else value.text
    if value.kind not in ("text", "number") or not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", given):
        _fail(text, f"Invalid value for numeric attribute '{key}': {given!r}")
    return Comparison(field, Operator(operator), int(given))


def _quoted(text: str, value: _Token, what: str) -> str:
    if value.kind != "text":
        problem = f"Expected a quoted string value for {what} (e.g. 'my-value'). Got value {value.text}"
        if value.kind == "name":
            problem = (
                "Parameter value is either not quoted or unidentified quote types used for string value "
                f"{value.text}. Use either single or double quotes."
            )
        _fail(text, problem)
    return value.text[1:-1]


def _items(text: str, value: _Token) -> tuple[str, ...]:
    if value.kind != "list" or not value.text[1:-1].strip():
        _fail(text, _LIST + "expected a non-empty list of string values, but got empty list")
    if re.fullmatch(r"\(\s*\d[\d\s,]*\)", value.text):
        _fail(
            text,
            f"{_LIST}expected string value, punctuation, or whitespace, but got different type in list: "
            f"{value.text}",
        )
    if not _ITEMS.fullmatch(value.text):
        _fail(text, _LIST + "expected a non-empty list of string values, but got ill-formed list.")
    return tuple(item[1:-1] for item in _ITEM.findall(value.text))


def _fail(text: str, problem: str) -> NoReturn:
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    message = f"Invalid clause(s) in filter string: {problem} (in {shown!r})"
    raise InvalidFilter(message, metadata={"filter": shown}, violations=[FieldViolation("filter", message)])
