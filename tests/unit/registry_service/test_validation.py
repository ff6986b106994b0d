from __future__ import annotations

import math
import posixpath
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry.errors import InvalidField
from registry_service import commands
from registry_service.domain import (
    AliasRef,
    CodeRevision,
    Dataset,
    Field,
    InputSource,
    ModelFile,
    ModelInput,
    RunState,
    Signature,
    VersionRef,
)
from registry_service.validation import path_problem

HEX = "0123456789abcdef" * 4
V1 = VersionRef("m", 1)

ESCAPES = [
    "",
    "/etc/passwd",
    "//host/share",
    "..",
    "../model.txt",
    "a/../b",
    "a/..",
    ".",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "..\\b",
    "C:/x",
    "c:x",
    "file:///x",
    "%2e%2e/x",
    "a%2fb",
    "a%252fb",
    "a%5cb",
    "a\x00b",
    "a\nb",
    "a\u202eb",
    "a\u2028b",
    " a",
    "a ",
    "a/ b",
    "x" * 513,
]


@pytest.mark.parametrize("path", ESCAPES)
def test_paths_that_could_lead_elsewhere(path: str) -> None:
    assert path_problem(path)
    with pytest.raises(InvalidField) as caught:
        commands.UploadFile(V1, ModelFile(path, HEX, 1, ""))
    assert caught.value.metadata == {"field": "header.file.path"}


@pytest.mark.parametrize(
    "path", ["model.txt", "a/b/c.json", "Ünï/模型.txt", "..a", "a..b", ".hidden", "x" * 512, "with space.txt"]
)
def test_paths_that_are_fine(path: str) -> None:
    assert path_problem(path) is None


@given(st.text(alphabet=st.sampled_from("ab./\\%:~ 2eEfF5cC\x00\n"), max_size=12))
def test_an_accepted_path_stays_in_its_folder_however_it_is_read(path: str) -> None:
    if path_problem(path) is None:
        for read in (path, unquote(path), path.replace("\\", "/")):
            joined = posixpath.normpath(posixpath.join("/root/folder", read))
            assert joined == f"/root/folder/{path}"


def _input(**fields: Any) -> ModelInput:
    defaults: dict[str, Any] = {"name": "x", "type": "DOUBLE", "source": InputSource.REQUEST}
    return ModelInput(**(defaults | fields))


def _version(signature: Signature | None = None, **fields: Any) -> commands.CreateVersion:
    defaults: dict[str, Any] = {"model": "m", "description": "", "tags": {}, "run": "", "datasets": ()}
    return commands.CreateVersion(signature=signature, **(defaults | fields))


def _run(**fields: Any) -> commands.StartRun:
    defaults: dict[str, Any] = {
        "display_name": "",
        "parameters": {},
        "metrics": {},
        "tags": {},
        "seed": 0,
        "code": None,
        "environment_digest": "",
        "datasets": (),
    }
    return commands.StartRun(**(defaults | fields))


def _dataset(**fields: Any) -> commands.RecordDataset:
    defaults: dict[str, Any] = {
        "digest": HEX,
        "display_name": "",
        "row_count": 0,
        "schema": (),
        "as_of_start": None,
        "as_of_end": None,
        "feature_service": None,
        "feature_views": (),
        "entity_digest": "",
        "uri": "",
    }
    return commands.RecordDataset(Dataset(**(defaults | fields)))


REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("description", lambda: commands.CreateModel("m", "x" * 5001, {})),
    ("description", lambda: commands.CreateModel("m", "a\x00b", {})),
    ("tags", lambda: commands.CreateModel("m", "", {str(i): "" for i in range(101)})),
    ("tags", lambda: commands.CreateModel("m", "", {"": "x"})),
    ("tags", lambda: commands.CreateModel("m", "", {"k" * 251: "x"})),
    ("tags", lambda: commands.CreateModel("m", "", {"k\x00": "x"})),
    ("tags[k]", lambda: commands.CreateModel("m", "", {"k": "x" * 100_001})),
    ("model.tags[k]", lambda: commands.UpdateModel("m", "", None, {"k": "\x00"})),
    ("model.description", lambda: commands.UpdateModel("m", "", "x" * 5001, None)),
    ("datasets", lambda: _version(datasets=(HEX, HEX))),
    ("signature.inputs", lambda: _version(Signature(inputs=(_input(), _input())))),
    ("signature.inputs[0].name", lambda: _version(Signature(inputs=(_input(name=" "),)))),
    ("signature.inputs[0].type", lambda: _version(Signature(inputs=(_input(type=""),)))),
    ("signature.inputs[0].source", lambda: _version(Signature(inputs=(_input(source=None),)))),
    (
        "signature.inputs[0].feature_reference",
        lambda: _version(Signature(inputs=(_input(source=InputSource.FEATURE, feature_reference="wind"),))),
    ),
    ("signature.inputs[0].categories", lambda: _version(Signature(inputs=(_input(categories=("a", "a")),)))),
    ("signature.inputs[0].categories", lambda: _version(Signature(inputs=(_input(categories=("\x00",)),)))),
    ("signature.inputs", lambda: _version(Signature(inputs=(_input(categories=("x" * 4_000_001,)),)))),
    ("signature.outputs[0].type", lambda: _version(Signature(outputs=(Field("p", ""),)))),
    ("signature.join_keys", lambda: _version(Signature(join_keys=(Field("p", "BOOL"), Field("p", "BOOL"))))),
    ("signature.feature_service_digest", lambda: _version(Signature(feature_service_digest=HEX))),
    ("header.file.sha256", lambda: commands.UploadFile(V1, ModelFile("a", HEX.upper(), 1, ""))),
    ("header.file.sha256", lambda: commands.UploadFile(V1, ModelFile("a", HEX[1:], 1, ""))),
    ("header.file.size_bytes", lambda: commands.UploadFile(V1, ModelFile("a", HEX, -1, ""))),
    ("reason", lambda: commands.SetAlias(AliasRef("m", "a"), V1, " ")),
    ("reason", lambda: commands.ClearAlias(AliasRef("m", "a"), "", "")),
    ("version", lambda: commands.SetAlias(AliasRef("other", "a"), V1, "r")),
    (
        "expected_version",
        lambda: commands.SetAlias(AliasRef("m", "a"), V1, "r", expected_version=VersionRef("o", 1)),
    ),
    ("etag", lambda: commands.SetAlias(AliasRef("m", "a"), V1, "r", etag="")),
    ("run.metrics[auc]", lambda: _run(metrics={"auc": math.nan})),
    ("run.metrics[auc]", lambda: _run(metrics={"auc": -math.inf})),
    ("run.parameters[p]", lambda: _run(parameters={"p": "\x00"})),
    ("run.environment_digest", lambda: _run(environment_digest=HEX)),
    ("run.code.repository", lambda: _run(code=CodeRevision("https://me:secret@git.example/x", "abc", False))),
    ("metrics[auc]", lambda: commands.LogRun("r", {}, {"auc": math.inf}, {}, ())),
    ("state", lambda: commands.FinishRun("r", None, "")),
    ("state", lambda: commands.FinishRun("r", RunState.RUNNING, "")),
    ("error", lambda: commands.FinishRun("r", RunState.FINISHED, "why")),
    ("dataset.row_count", lambda: _dataset(row_count=-1)),
    ("dataset.entity_digest", lambda: _dataset(entity_digest="x")),
    ("dataset.schema", lambda: _dataset(schema=(Field("a", "BOOL"), Field("a", "BOOL")))),
    ("evaluation.split", lambda: commands.RecordEvaluation(V1, HEX, "", {"auc": 0.1})),
    ("evaluation.metrics", lambda: commands.RecordEvaluation(V1, HEX, "test", {})),
    ("evaluation.metrics[auc]", lambda: commands.RecordEvaluation(V1, HEX, "test", {"auc": math.nan})),
]


@pytest.mark.parametrize(
    ("field", "build"), REFUSED, ids=[f"{i}-{field}" for i, (field, _) in enumerate(REFUSED)]
)
def test_a_command_that_is_not_well_formed_cannot_be_made(field: str, build: Callable[[], object]) -> None:
    with pytest.raises(InvalidField) as caught:
        build()
    assert caught.value.metadata == {"field": field}
    assert [violation.field for violation in caught.value.violations] == [field]
    assert len(caught.value.message) < 6_000


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidField) as caught:
        commands.CreateModel("m", "\x00", {"a": "\x00", "b" * 251: ""})
    assert [violation.field for violation in caught.value.violations] == ["description", "tags[a]", "tags"]


def test_the_limits_themselves_are_allowed() -> None:
    tags = {f"{i:0250}": "x" * 100_000 for i in range(100)}
    assert commands.CreateModel("m", "d" * 5000, tags).tags == tags
    assert _run(code=CodeRevision("git@git.example:team/shop.git", "abc", dirty=False)).code is not None
