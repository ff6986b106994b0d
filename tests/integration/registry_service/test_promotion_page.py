"""The commands of docs/promotion.md do what the page says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline import RegistryClient
from plumbline.cli.main import app
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.times import timestamp
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "promotion.md").read_text()
POLICY = re.search(r"<!-- policy.yaml -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if "…" not in line
]
DATASET = f"datasets/{'1' * 64}"


@pytest.fixture
def client(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryClient]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.txt").write_text("tree")
    with (
        running_server(settings_for(sqlite_url, tmp_path), build) as address,
        RegistryClient(address, actor="ann") as client,
    ):
        monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", address)
        monkeypatch.setenv("PLUMBLINE_ACTOR", "bob")
        yield client


def test_the_page_works(client: RegistryClient, tmp_path: Path) -> None:
    assert POLICY is not None
    (tmp_path / "policy.yaml").write_text(POLICY.group(1))
    ended = timestamp(datetime.now(UTC) - timedelta(days=300))
    client.create_model("flights")
    client.record_dataset(
        res.Dataset(name=DATASET, display_name="flights-test", row_count=1, as_of_end=ended)
    )
    for auc in (0.75, 0.76):
        version = client.create_version("flights", datasets=[DATASET], tags={"team": "ops"}).name
        client.upload_file(version, tmp_path / "model.txt")
        client.finalize_version(version)
        evaluation = res.Evaluation(dataset=DATASET, split="test", metrics={"auc": auc})
        client.record_evaluation(version, evaluation)
    client.set_alias("flights@champion", "flights/1", reason="the first")

    # 2026-10-03 may be before this registry began.
    expected = {("alias", "resolve"): (0, 1), ("alias", "policy", "check"): (1,)}
    done = []
    for words in COMMANDS:
        result = CliRunner().invoke(app, words)
        codes = next(
            (codes for start, codes in expected.items() if tuple(words[: len(start)]) == start), (0,)
        )
        assert result.exit_code in codes, f"{words}: {result.output}"
        done.append(tuple(words[:3]))
        if words[1] == "approve":
            # All that was missing.
            assert client.check_promotion("flights@champion", "flights/2").passed
    assert ("alias", "rollback", "flights@champion") in done
    assert ("deployments", "list") in done
    assert len(done) == 14
    assert client.list_promotion_policies("flights") == []
