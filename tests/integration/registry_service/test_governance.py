"""Rollback, policies, approvals and deployments over the wire, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import (
    DeploymentEnded,
    DeploymentNotFound,
    EtagMismatch,
    InvalidField,
    InvalidName,
    NoPreviousHolder,
    PolicyNotFound,
    PolicyNotMet,
)
from plumbline.registry.v1 import governance_pb2 as gov
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.times import timestamp
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server

DATASET = f"datasets/{'a' * 64}"


@pytest.fixture
def address(any_database_url: str, tmp_path: Path) -> Iterator[str]:
    settings = settings_for(any_database_url, tmp_path).model_copy(
        update={"expiry_seconds": 0.05, "expiry_grace_seconds": 0.0}
    )
    with running_server(settings, build) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[RegistryClient]:
    with RegistryClient(address, actor="ann") as client:
        yield client


@pytest.fixture
def versions(client: RegistryClient, tmp_path: Path) -> list[str]:
    (tmp_path / "model.txt").write_text("tree")
    client.create_model("m")
    ended = timestamp(datetime.now(UTC) - timedelta(days=2))
    client.record_dataset(res.Dataset(name=DATASET, display_name="holdout", row_count=9, as_of_end=ended))
    made = []
    for _ in range(3):
        version = client.create_version("m", datasets=[DATASET]).name
        client.upload_file(version, tmp_path / "model.txt")
        made.append(client.finalize_version(version).name)
    return made


@pytest.fixture(autouse=True)
def intact(client: RegistryClient) -> Iterator[None]:
    """Whatever was done, the events vouch for it."""
    yield
    *findings, last = (item for item in client.verify_integrity() if item.WhichOneof("part") != "progress")
    assert findings == []
    assert last.summary.intact


def test_back_to_the_previous_holder(client: RegistryClient, versions: list[str]) -> None:
    for version in versions:
        held = client.set_alias("m@champion", version, reason="newer")
    with pytest.raises(EtagMismatch):
        client.rollback_alias("m@champion", reason="bad", etag="0" * 16)
    back = client.rollback_alias("m@champion", reason="bad", etag=held.etag, request_id="r")
    assert back.version == versions[1]
    # The same request again is the same rollback; the alias is resolved as it is now.
    assert client.rollback_alias("m@champion", reason="bad", etag=held.etag, request_id="r") == back
    assert client.resolve_alias("m@champion").alias == back
    assert client.rollback_alias("m@champion", reason="bad").version == versions[0]
    with pytest.raises(NoPreviousHolder) as caught:
        client.rollback_alias("m@champion", reason="bad")
    assert caught.value.metadata == {"alias": "models/m/aliases/champion"}
    assert [event.rollback for event in client.list_alias_history("m@champion")] == [True] * 2 + [False] * 3


def test_a_protected_alias(client: RegistryClient, versions: list[str], address: str) -> None:
    with pytest.raises(PolicyNotFound):
        client.get_promotion_policy("m@champion")
    given = gov.PromotionPolicy(
        name="m@champion",
        description="what a champion has shown",
        metrics=[gov.MetricRule(metric="auc", dataset="holdout", split="test", min=0.7, max=1e22)],
        approvals=gov.ApprovalRule(count=1, not_by_author=True),
        required_tags={"team": "ops"},
    )
    given.max_data_age.FromTimedelta(timedelta(days=30))
    policy = client.set_promotion_policy(given, reason="as agreed")
    assert (policy.name, policy.actor, policy.metrics) == ("models/m/aliases/champion", "ann", given.metrics)
    assert client.get_promotion_policy("m@champion") == policy
    assert client.list_promotion_policies("m") == [policy]
    with pytest.raises(PolicyNotMet) as caught:
        client.set_alias("m@champion", versions[0], reason="mine")
    assert caught.value.metadata["rules"] == "metrics[0],approvals,required_tags[team]"
    assert [item.field for item in caught.value.violations] == [
        "metrics[0]",
        "approvals",
        "required_tags[team]",
    ]
    assert "no evaluation with auc on holdout, split test" in caught.value.message

    evaluation = res.Evaluation(dataset=DATASET, split="test", metrics={"auc": 0.72})
    client.record_evaluation(versions[0], evaluation)
    client.update_version(res.ModelVersion(name=versions[0], tags={"team": "ops"}), fields=["tags"])
    client.record_approval(versions[0])
    assert [
        item.rule for item in client.check_promotion("m@champion", versions[0]).results if not item.passed
    ] == ["approvals"]
    with RegistryClient(address, actor="bob") as bob:
        said = bob.record_approval("m/1", alias="champion", comment="looks right")
    assert (said.actor, said.comment, said.alias) == ("bob", "looks right", "champion")
    assert [item.actor for item in client.list_approvals("m/1")] == ["bob", "ann"]
    assert client.check_promotion("m@champion", "m/1").passed
    moved = client.set_alias("m@champion", "m/1", reason="passed")
    assert moved.protected
    assert client.get_model("m").aliases[0].protected

    gone = client.clear_promotion_policy("m@champion", reason="no more", etag=policy.etag)
    assert gone == policy
    assert not client.resolve_alias("m@champion").alias.protected
    assert client.list_promotion_policies("m") == []
    client.set_alias("m@champion", "m/2", reason="anything goes")


def test_approvals_go_page_by_page(client: RegistryClient, versions: list[str]) -> None:
    for number in range(5):
        client.record_approval(versions[0], comment=str(number))
    first = client._stub.ListApprovals(pb.ListApprovalsRequest(parent=versions[0], page_size=3))
    rest = client._stub.ListApprovals(
        pb.ListApprovalsRequest(parent=versions[0], page_size=3, page_token=first.next_page_token)
    )
    assert [item.comment for item in (*first.approvals, *rest.approvals)] == list("43210")
    assert rest.next_page_token == ""


def test_what_runs_where(client: RegistryClient, versions: list[str]) -> None:
    lease = timedelta(minutes=5)
    one = client.record_deployment(
        "m/1", "production", target="host-1", alias="champion", attributes={"zone": "a"}, lease=lease
    )
    two = client.record_deployment(versions[1], "staging")
    assert client.get_deployment(one.name) == one
    assert [item.name for item in client.list_deployments()] == [two.name, one.name]
    renewed = client.renew_deployment(one.name, 2 * lease)
    assert renewed.lease_expire_time.seconds > one.lease_expire_time.seconds
    assert renewed.etag != one.etag
    ended = client.end_deployment(one.name, reason="replaced", request_id="r")
    assert client.end_deployment(one.name, reason="replaced", request_id="r") == ended
    assert (ended.end_reason, ended.HasField("end_time")) == ("replaced", True)
    with pytest.raises(DeploymentEnded):
        client.renew_deployment(one.name, lease)
    with pytest.raises(DeploymentNotFound):
        client.get_deployment(f"deployments/{'0' * 32}")
    page = client._stub.ListDeployments(pb.ListDeploymentsRequest(page_size=1))
    following = client._stub.ListDeployments(
        pb.ListDeploymentsRequest(page_size=1, page_token=page.next_page_token)
    )
    assert [item.name for item in (*page.deployments, *following.deployments)] == [two.name, one.name]
    graph = client.get_lineage(two.name)
    assert ("deployed_as", versions[1]) in {(edge.relation, edge.upstream) for edge in graph.edges}


def test_leases_that_run_out_are_acted_on(client: RegistryClient, versions: list[str]) -> None:
    """By the server itself, told to whoever watches."""
    watching = client.watch()
    # The stream begins with its first message: what happens from then on is told.
    next(watching)
    lease = timedelta(milliseconds=50)
    run = client.start_run(res.TrainingRun(display_name="gone"), lease=lease)
    deployment = client.record_deployment(versions[0], "production", lease=lease)
    seen: set[str] = set()
    for item in watching:
        if item.event.actor == "registry":
            seen.add(f"{item.event.action} {item.event.resource}")
        if len(seen) == 2:
            break
    assert seen == {f"ExpireRun {run.name}", f"ExpireDeployment {deployment.name}"}
    assert client.get_run(run.name).state == res.RUN_STATE_FAILED
    ended = client.get_deployment(deployment.name)
    assert ended.end_time == deployment.lease_expire_time
    assert ended.end_reason.startswith("nothing was heard of it")


def test_requests_that_are_wrong(client: RegistryClient, versions: list[str]) -> None:
    tagged = {"required_tags": {"a": "b"}}
    for policy, field in (
        (gov.PromotionPolicy(name="m@champion"), "policy"),
        (gov.PromotionPolicy(name="m@latest", **tagged), "policy.name"),
        (gov.PromotionPolicy(name="m@champion", metrics=[gov.MetricRule(metric="auc")]), "policy.metrics[0]"),
    ):
        with pytest.raises((InvalidField, InvalidName)) as caught:
            client.set_promotion_policy(policy, reason="why")
        assert caught.value.metadata["field"] == field
    endless = gov.PromotionPolicy(name="m@champion")
    endless.max_data_age.seconds = 2**62
    with pytest.raises(InvalidField, match="too long a time"):
        client.set_promotion_policy(endless, reason="why")
    with pytest.raises(InvalidField, match="reason is required"):
        client.set_promotion_policy(gov.PromotionPolicy(name="m@champion", **tagged), reason="")
    with pytest.raises(InvalidField, match="decision"):
        client.record_approval(versions[0], gov.APPROVAL_DECISION_UNSPECIFIED)
    with pytest.raises(InvalidName, match=r"approval\.alias"):
        client.record_approval(versions[0], alias="a/b")
    with pytest.raises(InvalidField, match="lease"):
        client.record_deployment(versions[0], "production", lease=timedelta(days=31))
    with pytest.raises(InvalidName, match="deployments/"):
        client.end_deployment("runs/1")
