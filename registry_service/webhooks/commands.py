"""What callers ask of webhooks, checked. Field names in the errors are those of the request messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from registry_service import validation
from registry_service.validation import Violations
from registry_service.webhooks.domain import WebhookState
from registry_service.webhooks.receivers import ReceiverRules
from registry_service.webhooks.signing import secret_problem

_MAX_ACTIONS = 100
_ACTION = re.compile(r"[A-Z][A-Za-z]{2,63}")


@dataclass(frozen=True)
class CreateWebhook:
    """model: its id, "" for all."""

    url: str
    actions: tuple[str, ...]
    model: str
    state: WebhookState
    description: str
    secret: str = field(repr=False)
    rules: ReceiverRules = field(repr=False)

    def __post_init__(self) -> None:
        found = Violations()
        _check(found, self.rules, self.url, self.actions, self.description)
        if not self.secret:
            found.add("webhook.secret", "is required: it signs every request")
        elif problem := secret_problem(self.secret):
            found.add("webhook.secret", problem)
        found.check()


@dataclass(frozen=True)
class UpdateWebhook:
    """name: the id. None: the field stays as it is. model "": all models."""

    name: str
    etag: str
    url: str | None
    actions: tuple[str, ...] | None
    model: str | None
    state: WebhookState | None
    description: str | None
    secret: str | None = field(repr=False)
    rules: ReceiverRules = field(repr=False)

    def __post_init__(self) -> None:
        found = Violations()
        _check(found, self.rules, self.url, self.actions or (), self.description or "")
        if self.secret is not None and (problem := secret_problem(self.secret)):
            found.add("webhook.secret", problem)
        found.check()


def _check(
    found: Violations, rules: ReceiverRules, url: str | None, actions: tuple[str, ...], description: str
) -> None:
    if url is not None:
        try:
            rules.endpoint(url)
        except ValueError as problem:
            found.add("webhook.url", str(problem))
    found.count("webhook.actions", actions, _MAX_ACTIONS)
    found.unique("webhook.actions", actions)
    for index, action in enumerate(actions):
        if not _ACTION.fullmatch(action):
            found.add(f"webhook.actions[{index}]", "is not the name of a method, as SetAlias")
    found.text("webhook.description", description, validation.MAX_TEXT)
