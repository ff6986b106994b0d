"""Rows put in by SQL, past the registry, with the times of a version, whatever their type."""

from __future__ import annotations

_DEPLOYMENT = (
    "INSERT INTO deployment (name, version_id, environment, target, alias, attributes, start_time, end_time, "
    "end_reason, actor, revision) SELECT"
)
_WEBHOOK = (
    "INSERT INTO webhook (name, url, actions, model_id, state, description, secret, create_time, "
    "update_time, actor, revision, delivered_sequence, attempts, last_error, lease_owner) SELECT"
)


def governance(version: str) -> list[str]:
    """Statements that add a running and an ended deployment, an approval and a policy.

    version: an SQL expression, the id of a READY version.
    """
    of_version = f"FROM model_version WHERE id = {version}"
    return [
        f"{_DEPLOYMENT} 'live', id, '', '', '', '{{}}', create_time, NULL, '', '', 1 {of_version}",
        f"{_DEPLOYMENT} 'old', id, '', '', '', '{{}}', create_time, finalize_time, '', '', 1 {of_version}",
        "INSERT INTO approval (version_id, decision, alias, comment, actor, create_time) "
        f"SELECT id, 'REJECTED', '', '', '', create_time {of_version}",
        "INSERT INTO promotion_policy (model_id, alias, rules, description, revision, actor, update_time) "
        f"SELECT model_id, 'a', '{{}}', '', 1, '', create_time {of_version}",
    ]


def webhooks(version: str) -> list[str]:
    """Statements that add a webhook and a delivery of it."""
    of_version = f"FROM model_version WHERE id = {version}"
    return [
        f"{_WEBHOOK} 'w', 'https://example.com', '[]', model_id, 'ACTIVE', '', 's', create_time, "
        f"create_time, '', 1, 1, 0, '', '' {of_version}",
        "INSERT INTO webhook_delivery "
        "(webhook_id, sequence, attempt, time, status, error, delivered, given_up) "
        f"SELECT (SELECT id FROM webhook), 1, 1, create_time, 200, '', true, false {of_version}",
    ]
