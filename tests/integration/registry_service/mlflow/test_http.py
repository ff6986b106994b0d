"""MLflow's API over plain HTTP: codes, limits, files, and what is refused."""

from __future__ import annotations

import json

import pytest

from plumbline.registry.v1 import governance_pb2 as gov
from plumbline.registry.v1 import resources_pb2 as res
from tests.integration.registry_service.mlflow.conftest import Facade, Reply

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


def refusal(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.document["error_code"]


def upload(facade: Facade, model: str, files: dict[str, bytes]) -> str:
    """A READY version with these files."""
    draft = facade.client.create_version(model)
    for path, content in files.items():
        local = facade.folder / "upload"
        local.write_bytes(content)
        facade.client.upload_file(draft.name, local, path=path)
    facade.client.finalize_version(draft.name)
    return draft.name


def test_both_doors_lead_to_the_same_models(facade: Facade) -> None:
    facade.client.create_model("m", tags={"a": "1"})
    assert facade.post("model-versions/create", name="m", source="s3://x", run_id="r").status == 200
    version = facade.client.get_version("m/1")
    assert (version.source, version.external_run, version.state) == ("s3://x", "r", res.VERSION_STATE_READY)
    facade.client.set_alias("m@champion", "m/1", reason="best")
    found = facade.get("registered-models/alias", name="m", alias="champion").document["model_version"]
    assert (found["version"], found["aliases"]) == ("1", ["champion"])
    # An answer that was kept is given up when the other door changes something.
    facade.client.clear_alias("m@champion", reason="worse")
    assert refusal(facade.get("registered-models/alias", name="m", alias="champion")) == (
        400, "INVALID_PARAMETER_VALUE"
    )  # fmt: skip
    assert facade.get("model-versions/get", name="m", version="1").document["model_version"]["aliases"] == []


def test_the_browsers_prefix_is_served_too(facade: Facade) -> None:
    facade.client.create_model("m")
    assert facade.send("GET", "/ajax-api/2.0/mlflow/registered-models/get?name=m").status == 200
    assert facade.send("GET", "/health").body == b"OK"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (lambda f: f.send("GET", "/api/2.0/mlflow/experiments/search"), (404, "ENDPOINT_NOT_FOUND")),
        (lambda f: f.send("POST", "/api/2.0/mlflow/registered-models/get"), (404, "ENDPOINT_NOT_FOUND")),
        (lambda f: f.get("registered-models/get", name="n"), (404, "RESOURCE_DOES_NOT_EXIST")),
        (lambda f: f.get("registered-models/get"), (400, "INVALID_PARAMETER_VALUE")),
        (lambda f: f.post("registered-models/create", name="m"), (400, "RESOURCE_ALREADY_EXISTS")),
        (lambda f: f.post("registered-models/create", name=3), (400, "INVALID_PARAMETER_VALUE")),
        (lambda f: f.post("registered-models/create", name="n", tags=[3]), (400, "INVALID_PARAMETER_VALUE")),
        (lambda f: f.get("model-versions/get", name="m", version="9"), (404, "RESOURCE_DOES_NOT_EXIST")),
        (lambda f: f.get("model-versions/get", name="m", version="0"), (404, "RESOURCE_DOES_NOT_EXIST")),
        (lambda f: f.get("model-versions/get", name="m", version=10**30), (404, "RESOURCE_DOES_NOT_EXIST")),
        (lambda f: f.get("model-versions/get", name="m", version="x"), (400, "INVALID_PARAMETER_VALUE")),
        (lambda f: f.get("registered-models/search", max_results=1001), (400, "INVALID_PARAMETER_VALUE")),
        (lambda f: f.get("registered-models/search", max_results=0), (400, "INVALID_PARAMETER_VALUE")),
        (lambda f: f.get("model-versions/search", max_results=200_001), (400, "INVALID_PARAMETER_VALUE")),
        (lambda f: f.get("model-versions/search", order_by="stars"), (400, "INVALID_PARAMETER_VALUE")),
        (lambda f: f.get("model-versions/search", page_token="!"), (400, "INVALID_PARAMETER_VALUE")),
        (
            lambda f: f.post("registered-models/get-latest-versions", name="m", stages=["Nowhere"]),
            (400, "INVALID_PARAMETER_VALUE"),
        ),
        (
            lambda f: f.post("model-versions/create", name="m", source="models:/m/7"),
            (404, "RESOURCE_DOES_NOT_EXIST"),
        ),
        (
            lambda f: f.send("POST", "/api/2.0/mlflow/registered-models/create", b"{"),
            (400, "INVALID_PARAMETER_VALUE"),
        ),
        (
            lambda f: f.send("POST", "/api/2.0/mlflow/registered-models/create", b"[]"),
            (400, "INVALID_PARAMETER_VALUE"),
        ),
        # What a form of another site could send.
        (
            lambda f: f.send(
                "POST", "/api/2.0/mlflow/registered-models/create", b"{}", {"Content-Type": "text/plain"}
            ),
            (400, "INVALID_PARAMETER_VALUE"),
        ),
        # What a page under a name that leads here could send.
        (
            lambda f: f.send("GET", "/api/2.0/mlflow/registered-models/get?name=m", None, {"Host": "x.org"}),
            (403, "PERMISSION_DENIED"),
        ),
    ],
)  # fmt: skip
def test_what_is_refused(facade: Facade, reply: object, expected: tuple[int, str]) -> None:
    facade.client.create_model("m")
    assert callable(reply)
    assert refusal(reply(facade)) == expected


def test_a_body_has_a_limit(facade: Facade) -> None:
    body = json.dumps({"name": "m", "description": "x" * 17 * 1024**2}).encode()
    assert facade.send("POST", "/api/2.0/mlflow/registered-models/create", body).status == 413


def test_a_protected_alias_needs_what_its_policy_asks_for(facade: Facade) -> None:
    facade.client.create_model("m")
    facade.post("model-versions/create", name="m", source="s3://x")
    policy = gov.PromotionPolicy(name="m@champion", required_tags={"checked": "yes"})
    facade.client.set_promotion_policy(policy, reason="look first")
    reply = facade.post("registered-models/alias", name="m", alias="champion", version="1")
    assert refusal(reply) == (400, "INVALID_PARAMETER_VALUE")
    assert "required_tags" in reply.document["message"]
    assert facade.post("registered-models/alias", name="m", alias="other", version="1").status == 200


def test_a_version_keeps_its_number_when_its_model_is_deleted(facade: Facade) -> None:
    facade.post("registered-models/create", name="m")
    facade.post("model-versions/create", name="m", source="s3://x")
    assert facade.call("DELETE", "registered-models/delete", name="m").status == 200
    assert refusal(facade.get("model-versions/get", name="m", version="1"))[1] == "RESOURCE_DOES_NOT_EXIST"
    assert facade.get("model-versions/search").document["model_versions"] == []
    # Restored by Plumbline, everything is there again.
    facade.client.restore_model("m")
    assert facade.get("model-versions/get", name="m", version="1").status == 200


def test_pages_hold_to_their_search(facade: Facade) -> None:
    for number in range(5):
        facade.post("registered-models/create", name=f"m{number}")
    first = facade.get("registered-models/search", max_results=2, order_by="name DESC").document
    assert [model["name"] for model in first["registered_models"]] == ["m4", "m3"]
    token = first["next_page_token"]
    rest = facade.get("registered-models/search", max_results=9, order_by="name DESC", page_token=token)
    assert [model["name"] for model in rest.document["registered_models"]] == ["m2", "m1", "m0"]
    assert "next_page_token" not in rest.document
    other = facade.get("registered-models/search", page_token=token)
    assert "Invalid page token, could not base64-decode" in other.document["message"]


@pytest.mark.parametrize(
    ("order_by", "numbers"),
    [
        ([], ["3", "2", "1"]),
        (["version_number"], ["1", "2", "3"]),
        (["name DESC", "version_number DESC"], ["3", "2", "1"]),
        (["creation_timestamp ASC"], ["1", "2", "3"]),
        (["last_updated_timestamp DESC", "version_number ASC"], ["3", "2", "1"]),
    ],
)
def test_versions_of_one_model_in_order(facade: Facade, order_by: list[str], numbers: list[str]) -> None:
    for name in ("m", "n"):
        facade.post("registered-models/create", name=name)
        for _ in range(3):
            facade.post("model-versions/create", name=name, source="s3://x")
    arguments: dict[str, object] = {"filter": "name = 'm'", "order_by": order_by, "max_results": 2}
    first = facade.get("model-versions/search", **arguments).document
    rest = facade.get("model-versions/search", **arguments, page_token=first["next_page_token"]).document
    found = first["model_versions"] + rest["model_versions"]
    assert [version["version"] for version in found] == numbers
    assert {version["name"] for version in found} == {"m"}
    assert facade.get("model-versions/search", filter="name = 'o'").document["model_versions"] == []


def test_files_are_listed_and_read(facade: Facade) -> None:
    facade.client.create_model("a model")
    files = {"model.txt": b"booster", "notes/ü.md": b"# hi", "empty": b""}
    upload(facade, "a model", files)
    uri = facade.get("model-versions/get-download-uri", name="a model", version="1").document["artifact_uri"]
    assert uri.startswith(facade.url + ARTIFACTS + "/models/~")
    place = uri.removeprefix(facade.url + ARTIFACTS + "/")
    listing = facade.send("GET", f"{ARTIFACTS}?path={place}").document["files"]
    assert listing == [
        {"path": "empty", "is_dir": False, "file_size": 0},
        {"path": "model.txt", "is_dir": False, "file_size": 7},
        {"path": "notes", "is_dir": True},
    ]
    read = facade.send("GET", f"{ARTIFACTS}/{place}/notes/%C3%BC.md")
    assert (read.status, read.body) == (200, b"# hi")
    assert read.headers["X-Content-Type-Options"] == "nosniff"
    assert read.headers["Content-Disposition"].startswith("attachment")
    assert facade.send("GET", f"{ARTIFACTS}/{place}/empty").body == b""


@pytest.mark.parametrize(
    "path",
    [
        "models/m/1/../../../etc/passwd",
        "models/m/1/%2e%2e/%2e%2e/secret",
        "models/m/1/..%2f..%2fsecret",
        "models/m/1/%252e%252e%252fsecret",
        "models/m/1//etc/passwd",
        "models/m/1/model.txt%00",
        "models/m/1/model.txt/",
        "models/m/1/..%5csecret",
        "models/m/2/model.txt",
        "models/n/1/model.txt",
        "etc/passwd",
        "..",
    ],
)
def test_no_path_leads_out(facade: Facade, path: str) -> None:
    (facade.folder / "secret").write_text("secret")
    facade.client.create_model("m")
    upload(facade, "m", {"model.txt": b"booster"})
    reply = facade.send("GET", f"{ARTIFACTS}/{path}")
    assert reply.status in (400, 404), reply.body
    listed = facade.send("GET", f"{ARTIFACTS}?path={path}")
    assert listed.status in (400, 404) or listed.document["files"] in ([], [MODEL_FILE])


MODEL_FILE = {"path": "model.txt", "is_dir": False, "file_size": 7}


def test_altered_bytes_are_not_given_out(facade: Facade) -> None:
    facade.client.create_model("m")
    upload(facade, "m", {"model.txt": b"booster"})
    [blob] = [
        path
        for path in (facade.folder / "artifacts").rglob("*")
        if path.is_file() and path.stat().st_size == 7
    ]
    blob.chmod(0o600)
    blob.write_bytes(b"boosteR")
    reply = facade.send("GET", f"{ARTIFACTS}/models/m/1/model.txt")
    assert refusal(reply) == (500, "DATA_LOSS")


def test_files_of_drafts_and_deleted_versions_are_not_given_out(facade: Facade) -> None:
    facade.client.create_model("m")
    facade.client.create_version("m")
    assert facade.get("model-versions/get", name="m", version="1").document["model_version"]["status"] == (
        "PENDING_REGISTRATION"
    )
    assert facade.send("GET", f"{ARTIFACTS}?path=models/m/1").status == 400
    upload(facade, "m", {"model.txt": b"booster"})
    facade.call("DELETE", "model-versions/delete", name="m", version="2")
    assert facade.send("GET", f"{ARTIFACTS}/models/m/2/model.txt").status == 400
