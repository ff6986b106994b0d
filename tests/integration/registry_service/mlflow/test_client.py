"""MLflow's own client, unmodified, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np

from plumbline.registry.v1 import resources_pb2 as res
from plumbline.types.v1 import column_pb2
from tests.integration.registry_service.mlflow.conftest import Facade, run_script

MLMODEL = """\
flavors:
  lightgbm:
    code: null
    data: model.lgb
    lgb_version: 4.6.0
    model_class: lightgbm.basic.Booster
mlflow_version: 3.17.2
"""


def test_what_a_team_does_with_mlflow(any_facade: Facade, mlflow_python: Path, tmp_path: Path) -> None:
    told = run_script(mlflow_python, "registering.py", any_facade.url, str(tmp_path))
    uri = tmp_path.as_uri()
    tags = {"by": "register_model", "checked": "yes"}
    assert told["registered"] == ["1", uri, "READY", "2"]
    assert told["champion"] == ["1", tags, "the first", ["champion"]]
    assert told["copied"] == ["risk-production", "1", "models:/risk/1", tags]
    assert told["copied from"] == uri
    assert told["stages"] == {"1": "Archived", "2": "Production"}
    first, copy, second = ["risk", "1"], ["risk-production", "1"], ["risk", "2"]
    # In the order of the script's filters; `!=` of a tag is false where the tag is not there.
    assert told["found"] == [first, first, copy, second, second, second, copy]
    assert told["pages"] == [["risk-production"], ["risk"]]
    assert told["renamed"] == [{"champion": "1"}, "RESOURCE_DOES_NOT_EXIST", "models:/credit risk/1"]
    assert told["deleted version"] == ["RESOURCE_DOES_NOT_EXIST", {}, "3"]
    assert told["deleted model"] == ["RESOURCE_DOES_NOT_EXIST"] * 2 + [["risk-production"]]
    # The numbers of the deleted model go on; MLflow would begin again at 1.
    assert told["created anew"] == [{"team": "new"}, [], "4"]
    assert told["refused"] == ["RESOURCE_ALREADY_EXISTS"] + ["INVALID_PARAMETER_VALUE"] * 7


def test_nothing_is_lost_to_plumbline(facade: Facade, mlflow_python: Path, tmp_path: Path) -> None:
    """What MLflow deleted is archived, and every change has its event."""
    run_script(mlflow_python, "registering.py", facade.url, str(tmp_path))
    versions = {version.name: version for version in facade.client.list_versions("credit risk")}
    states = {name.rpartition("/")[2]: version.state for name, version in versions.items()}
    assert states == {
        "1": res.VERSION_STATE_ARCHIVED,
        "2": res.VERSION_STATE_ARCHIVED,
        "3": res.VERSION_STATE_ARCHIVED,
        "4": res.VERSION_STATE_READY,
    }
    *_, last = facade.client.verify_integrity()
    assert last.summary.intact, last.summary
    moves = list(facade.client.list_alias_history("models/credit risk"))
    assert [(move.to_version, move.reason) for move in moves] == [
        ("", "version 1 is deleted by MLflow"),
        ("models/credit risk/versions/1", "set by MLflow's client"),
    ]


def test_files_of_plumbline_are_read_with_mlflow(facade: Facade, mlflow_python: Path, tmp_path: Path) -> None:
    booster = lightgbm.train(
        {"objective": "regression", "min_data_in_leaf": 1, "verbosity": -1},
        lightgbm.Dataset(np.arange(20.0).reshape(10, 2), np.arange(10.0)),
        num_boost_round=3,
    )
    files = {"MLmodel": MLMODEL.encode(), "model.lgb": booster.model_to_string().encode()}
    files["notes/a b.txt"] = "größer".encode()
    signature = res.ModelSignature(
        feature_service="flights_v1",
        inputs=[
            res.ModelInput(name=name, type=column_pb2.VALUE_TYPE_DOUBLE, source=res.INPUT_SOURCE_REQUEST)
            for name in ("a", "b")
        ],
    )
    facade.client.create_model("flights")
    draft = facade.client.create_version("flights", signature=signature)
    for path, content in files.items():
        local = tmp_path / "upload"
        local.write_bytes(content)
        facade.client.upload_file(draft.name, local, path=path)
    facade.client.finalize_version(draft.name)
    facade.client.set_alias("flights@champion", "flights/1", reason="best")

    told = run_script(mlflow_python, "reading.py", facade.url, "models:/flights@champion")
    assert told["files"] == {path: content.hex() for path, content in sorted(files.items())}
    assert told["listed"] == ["MLmodel", "model.lgb", "notes"]
    assert told["scores"] == booster.predict(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    # Feast's integration finds the features of a model by this tag.
    assert told["tags"] == [{"feast.feature_service": "flights_v1"}]
    assert told["by feature service"] == ["1"]
