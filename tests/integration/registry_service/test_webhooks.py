"""Webhooks from the client's call to a real receiver, and over the death of the server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import InvalidField, WebhookNotFound
from plumbline.registry.v1 import webhooks_pb2 as res
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.integration.registry_service.test_process import program
from tests.support import running_server, wait_until
from tests.support_receiver import Received, Receiver, closes, receiver, status

KEY = b"the key of these tests, of 32 bytes"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"

ALLOWED = {"webhook_allow_http": True, "webhook_allowed_networks": (ip_network("127.0.0.0/8"),)}


@dataclass(frozen=True)
class Told:
    client: RegistryClient
    receiver: Receiver

    def create(self, **facts: object) -> res.Webhook:
        defaults: dict[str, object] = {"url": self.receiver.url, "secret": SECRET}
        return self.client.create_webhook(res.Webhook(**(defaults | facts)))  # type: ignore[arg-type]

    def told(self, count: int) -> list[dict[str, object]]:
        """Waits for so many messages."""
        wait_until(lambda: len(self.receiver.requests) >= count, what=f"{count} messages")
        return [json.loads(request.body) for request in self.receiver.requests]


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def told(
    any_database_url: str, tmp_path: Path, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Told]:
    monkeypatch.setattr("registry_service.webhooks.retries.FIRST_DELAY", timedelta(milliseconds=10))
    settings = settings_for(any_database_url, tmp_path).model_copy(
        update=ALLOWED | {"webhook_timeout_seconds": 0.5}
    )
    with running_server(settings, build) as target, RegistryClient(target, actor="ann") as client:
        monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", target)
        yield Told(client, there)


def verified(request: Received) -> bool:
    """As a receiver does it."""
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    wanted = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    return headers["webhook-signature"] == f"v1,{wanted}"


def test_changes_are_told_as_they_happen(told: Told) -> None:
    webhook = told.create(description="chat", actions=["CreateModel", "RenameModel"])
    assert webhook.secret == ""
    told.client.create_model("flights", tags={"team": "ops"})
    told.client.create_version("flights")
    told.client.create_model("trains")
    first, second = told.told(2)
    assert first["type"] == "CreateModel"
    data = first["data"]
    assert isinstance(data, dict)
    assert (data["resource"], data["actor"], data["kind"]) == ("models/flights", "ann", "model")
    assert second["data"]["resource"] == "models/trains"  # type: ignore[index]
    assert all(verified(request) for request in told.receiver.requests)
    wait_until(lambda: told.client.get_webhook(webhook.name).delivered_sequence == second["data"]["sequence"])  # type: ignore[index]
    deliveries = list(told.client.list_webhook_deliveries(webhook.name))
    assert [(item.delivered, item.status, item.attempt) for item in deliveries] == [(True, 200, 1)] * 2


def test_failures_of_every_kind_then_success(told: Told, there: Receiver) -> None:
    """Nothing is lost, nothing overtakes, and a repeat has the same id."""
    there.answers.extend([status(500), closes, there.hangs, status(302, f"Location: {there.url}")])
    webhook = told.create(actions=["CreateModel"])
    told.client.create_model("flights")
    told.client.create_model("trains")
    told.told(6)
    assert len(set(there.ids[:5])) == 1
    assert there.ids[5] != there.ids[4]
    assert [json.loads(r.body)["data"]["resource"] for r in there.requests[4:]] == [
        "models/flights",
        "models/trains",
    ]
    wait_until(lambda: len(list(told.client.list_webhook_deliveries(webhook.name))) == 6)
    deliveries = list(told.client.list_webhook_deliveries(webhook.name))
    assert [item.error for item in reversed(deliveries)] == [
        "answered 500",
        "the receiver closed the connection without an answer",
        "no answer within 0.5 s",
        "answered 302, a redirect, which is not followed; name the final URL",
        "",
        "",
    ]
    assert told.client.get_webhook(webhook.name).last_error == ""


def test_a_receiver_that_hangs_does_not_hold_up_calls_or_others(told: Told, there: Receiver) -> None:
    with receiver() as slow:
        slow.always = slow.hangs
        hanging = told.create(url=slow.url, actions=["CreateModel"])
        told.create(actions=["CreateModel"])
        for number in range(5):
            told.client.create_model(f"m{number}")
        told.told(5)
        wait_until(lambda: bool(told.client.get_webhook(hanging.name).last_error))


def test_what_is_refused(told: Told) -> None:
    for url, problem in (
        ("https://10.0.0.1/", "private network"),
        ("https://[::ffff:127.0.0.1]/", "not a public one"),
        ("https://ann:geheim@example.com/", "user name"),
        ("gopher://example.com/", "https://"),
    ):
        with pytest.raises(InvalidField, match=problem) as caught:
            told.create(url=url)
        assert "geheim" not in str(caught.value)
    for secret in ("", "short"):
        with pytest.raises(InvalidField, match="secret"):
            told.create(secret=secret)
    with pytest.raises(InvalidField, match="SetAlias"):
        told.create(actions=["set alias"])
    with pytest.raises(WebhookNotFound):
        told.client.get_webhook("nobody")
    assert list(told.client.list_webhooks()) == []


def test_a_private_address_is_refused_when_sending(sqlite_url: str, tmp_path: Path, there: Receiver) -> None:
    """Names mean what they mean then: the host of a webhook was fine when it was made."""
    settings = settings_for(sqlite_url, tmp_path).model_copy(update={"webhook_allow_http": True})
    url = there.url.replace("127.0.0.1", "localhost")
    with running_server(settings, build) as target, RegistryClient(target) as client:
        webhook = client.create_webhook(res.Webhook(url=url, secret=SECRET))
        client.create_model("flights")
        wait_until(lambda: bool(client.get_webhook(webhook.name).last_error))
        assert "not a public one" in client.get_webhook(webhook.name).last_error
        assert not client.test_webhook(webhook.name).delivered
    assert there.requests == []


def test_changes_of_a_webhook(told: Told, there: Receiver) -> None:
    webhook = told.create(actions=["CreateModel"])
    paused = told.client.update_webhook(
        res.Webhook(name=webhook.name, state=res.WEBHOOK_STATE_PAUSED, etag=webhook.etag), fields=["state"]
    )
    assert paused.actions == ["CreateModel"]
    told.client.create_model("flights")
    outcome = told.client.test_webhook(webhook.name)
    assert outcome.delivered
    assert [message["type"] for message in told.told(1)] == ["Test"]
    told.client.update_webhook(
        res.Webhook(name=webhook.name, state=res.WEBHOOK_STATE_ACTIVE, secret="another secret of these"),
        fields=["state", "secret"],
    )
    told.told(2)
    assert not verified(there.requests[1])
    assert told.client.delete_webhook(webhook.name).name == webhook.name
    told.client.create_model("trains")
    with pytest.raises(WebhookNotFound):
        told.client.test_webhook(webhook.name)
    assert len(there.requests) == 2


def test_the_command_line(told: Told, tmp_path: Path, there: Receiver) -> None:
    cli = CliRunner()
    (tmp_path / "secret").write_text(f"{SECRET}\n")

    def run(*words: str, code: int = 0) -> str:
        done = cli.invoke(app, ["registry", "webhook", *words])
        assert done.exit_code == code, done.output
        return done.output

    made = run("create", there.url, "--action", "CreateModel", "--secret-file", str(tmp_path / "secret"))
    name = made.strip()
    assert SECRET not in made
    assert "secret whsec_" in run("create", there.url, "--action", "SetAlias")
    assert name in run("list")
    assert run("test", name) == "accepted (200)\n"
    assert verified(there.requests[0])
    told.client.create_model("flights")
    told.told(2)
    wait_until(lambda: "accepted" in run("deliveries", name))
    shown = run("show", name)
    assert there.url in shown
    assert "ACTIVE" in shown
    assert "PAUSED" in run("update", name, "--pause", "--description", "for now")
    assert json.loads(run("show", name, "--json"))["description"] == "for now"
    run("update", name, code=2)
    there.answers.append(status(404))
    assert "answered 404" in run("test", name, code=1)
    assert "deleted" in run("delete", name)
    assert "WEBHOOK_NOT_FOUND" in cli.invoke(app, ["registry", "webhook", "show", name]).stderr


def test_a_killed_registry_loses_no_event(tmp_path: Path, there: Receiver) -> None:
    """Killed in the middle of sending, and started again: every event is told, repeats under their id."""
    variables = {
        "PLUMBLINE_REGISTRY_WEBHOOK_ALLOW_HTTP": "true",
        "PLUMBLINE_REGISTRY_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32, ::1/128",
        "PLUMBLINE_REGISTRY_WEBHOOK_TIMEOUT_SECONDS": "1",
    }
    there.answers.extend([status(200)] * 3)
    there.always = there.hangs
    with program(tmp_path, **variables) as first, RegistryClient(first.target) as client:
        client.create_webhook(res.Webhook(url=there.url, secret=SECRET, actions=["CreateModel"]))
        for number in range(10):
            client.create_model(f"m{number}")
        wait_until(lambda: len(there.requests) >= 4)
        first.kill()
    there.always = status(200)
    with program(tmp_path, **variables) as second, RegistryClient(second.target) as client:
        client.create_model("m10")
        wait_until(lambda: len(set(there.ids)) == 11, what="all events")
        (webhook,) = client.list_webhooks()
        sequences = [json.loads(request.body)["data"]["sequence"] for request in there.requests]
        wait_until(lambda: client.get_webhook(webhook.name).delivered_sequence == max(sequences))
    first_seen = list(dict.fromkeys(there.ids))
    assert [int(name.split("_")[1]) for name in first_seen] == sorted(set(sequences))
