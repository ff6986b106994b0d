"""Promotion policies as YAML: what people write, keep under version control and read again.

    description: What a champion has shown.
    metrics:
      - metric: auc
        dataset: holdout          # a dataset's display name or datasets/{digest}; left out: any
        split: test               # left out: any
        min: 0.7                  # and/or max
        max_regression: 0.005     # against the present holder, on the same rows
        lower_is_better: false
    evaluations:
      - split: validation
    approvals:
      count: 1
      not_by_author: true
      approvers: [bob, cy]
    max_data_age: 30d             # or 90s, 30m, 12h
    required_tags: {team: ops}

Every part may be left out, but not all of them.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

import yaml
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from plumbline.registry.v1 import governance_pb2 as gov

_PARTS = ("description", "metrics", "evaluations", "approvals", "max_data_age", "required_tags")
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_AGE = re.compile(r"(\d{1,9})([smhd])")


def parse_policy(text: str) -> gov.PromotionPolicy:
    """The policy a YAML text describes, without a name. Raises ValueError that says what is wrong with it."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"it must have some of the parts {', '.join(_PARTS)}")
    for key in document:
        if key not in _PARTS:
            raise ValueError(f"it has a part {key!r}; known are {', '.join(_PARTS)}")
    given = {key: value for key, value in document.items() if value is not None}
    age = given.pop("max_data_age", None)
    try:
        policy = ParseDict(given, gov.PromotionPolicy())
    except ParseError as error:
        raise ValueError(str(error)) from error
    if age is not None:
        policy.max_data_age.FromTimedelta(_age(age))
    return policy


def format_policy(policy: gov.PromotionPolicy) -> str:
    """The YAML text that gives the same rules again."""
    found = MessageToDict(policy, preserving_proto_field_name=True)
    document: dict[str, Any] = {key: found[key] for key in _PARTS if key in found}
    if policy.HasField("max_data_age"):
        document["max_data_age"] = _age_text(policy.max_data_age.ToTimedelta())
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _age(value: object) -> timedelta:
    match = _AGE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"max_data_age is {value!r}; write a length of time as 90s, 30m, 12h or 30d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _age_text(age: timedelta) -> str:
    """In the greatest unit that leaves nothing over; rounded up to seconds."""
    seconds = math.ceil(age.total_seconds())
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
