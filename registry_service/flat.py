"""Documents as flat facts: texts by key, so that two of them can be compared line by line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

#: Texts by key.
Facts = Mapping[str, str]

# What a list of things calls each of them by.
_NAMES = ("name", "view", "path", "column")


def text_facts(text: str) -> Facts:
    """Of a text too long to be shown: its digest, and how many lines it has."""
    if not text:
        return {}
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"sha256": digest, "lines": str(len(text.splitlines()))}


def numbered(items: Collection[str], what: str) -> str:
    """ "3 categories, sha256 0123456789ab": a long list in short, another one for another list."""
    digest = hashlib.sha256(json.dumps(list(items)).encode()).hexdigest()
    return f"{len(items)} {what}, sha256 {digest[:12]}"


def flatten(text: str) -> Facts:
    """A JSON document leaf by leaf, as "features.load.type": "DOUBLE"; things in a list go by their names. Of
    another text, `text_facts`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text_facts(text)
    if not isinstance(document, dict | list):
        return text_facts(text)
    return dict(_leaves(document, ""))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name in value:
            yield from _leaves(value[name], f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        names = _called(value)
        for name, item in zip(names, value, strict=True):
            yield from _leaves(item, f"{key}.{name}" if key else name)
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _called(items: list[dict[str, Any]]) -> list[str]:
    """What each is called: its name where all have one of their own, else its place."""
    for field in _NAMES:
        names = [item.get(field) for item in items]
        if all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names):
            return [str(name) for name in names]
    return [str(place) for place in range(len(items))]
