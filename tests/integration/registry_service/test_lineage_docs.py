"""The examples of docs/lineage.md, as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline import RegistryClient
from plumbline.cli.main import app
from plumbline.registry.v1 import resources_pb2 as res
from registry_service.repository.relations import RELATIONS
from tests.integration.registry_service.test_lineage_questions import DATASET, client, versions

__all__ = ["client", "versions"]

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "lineage.md").read_text()


def test_every_command_runs(client: RegistryClient, versions: list[res.ModelVersion]) -> None:
    lines = re.findall(r"^plumbline .*$", DOCS, re.MULTILINE)
    assert len(lines) > 15
    for line in lines:
        given = line.replace("$RUN", versions[0].run).replace("$DATASET", DATASET)
        words = shlex.split(given.partition(" > ")[0], comments=True)[1:]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (line, done.output)
        assert done.stdout, line


def test_the_python_example_runs(
    client: RegistryClient, versions: list[res.ModelVersion], capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    exec(compile(code.replace("localhost:7420", client.target), "docs/lineage.md", "exec"), {})
    printed = capsys.readouterr().out
    assert f"{versions[0].name} ['champion'] featureViews/shop/weather@" in printed
    assert "parameters: training.learning_rate: 0.1 → 0.05" in printed
    assert '"eventType": "COMPLETE"' in printed


def test_every_relation_is_explained() -> None:
    table = set(re.findall(r"^\| `([a-z_]+)` \|", DOCS, re.MULTILINE))
    assert table == {relation.name for relation in RELATIONS}
