"""What a team does with MLflow's client, told as JSON. Its environment has nothing of Plumbline."""

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

url, folder = sys.argv[1], Path(sys.argv[2])
mlflow.set_tracking_uri(url)
mlflow.set_registry_uri(url)
client = MlflowClient(tracking_uri=url, registry_uri=url)


def refused(call: Any, *args: Any, **named: Any) -> str:
    try:
        call(*args, **named)
    except MlflowException as error:
        return str(error.error_code)
    return "nothing"


told: dict[str, Any] = {}

client.create_registered_model("risk", tags={"team": "credit"}, description="who pays")
registered = mlflow.register_model(folder.as_uri(), "risk", tags={"by": "register_model"})
second = client.create_model_version("risk", "s3://models/risk/2", run_id="a1", run_link="https://runs/a1")
told["registered"] = [registered.version, registered.source, registered.status, second.version]

client.set_registered_model_alias("risk", "champion", "1")
client.set_model_version_tag("risk", "1", "checked", "yes")
client.set_model_version_tag("risk", "1", "gone", "soon")
client.delete_model_version_tag("risk", "1", "gone")
client.update_model_version("risk", "1", description="the first")
champion = client.get_model_version_by_alias("risk", "champion")
told["champion"] = [champion.version, dict(champion.tags), champion.description, list(champion.aliases)]

copied = client.copy_model_version("models:/risk@champion", "risk-production")
told["copied"] = [copied.name, copied.version, copied.source, dict(copied.tags)]
told["copied from"] = client.get_model_version_download_uri("risk-production", copied.version)

client.transition_model_version_stage("risk", "1", "Production")
client.transition_model_version_stage("risk", "2", "production", archive_existing_versions=True)
told["stages"] = {version.version: version.current_stage for version in client.get_latest_versions("risk")}

told["found"] = [
    [found.name, found.version]
    for text in (
        "name = 'risk' AND tags.checked = 'yes'",
        "tags.checked != 'no'",
        "run_id IN ('a1', 'b')",
        "source_path LIKE 's3://%'",
        "version_number > 1",
        "name ILIKE 'RISK-%'",
    )
    for found in client.search_model_versions(text)
]
pages, token = [], None
while token != "":
    page = client.search_registered_models(max_results=1, order_by=["name DESC"], page_token=token)
    pages.append([model.name for model in page])
    token = page.token or ""
told["pages"] = pages

client.rename_registered_model("risk", "credit risk")
told["renamed"] = [
    client.get_registered_model("credit risk").aliases,
    refused(client.get_registered_model, "risk"),
    client.get_model_version("risk-production", "1").source,
]

client.delete_model_version("credit risk", "1")
told["deleted version"] = [
    refused(client.get_model_version, "credit risk", "1"),
    client.get_registered_model("credit risk").aliases,
    client.create_model_version("credit risk", "s3://models/risk/3").version,
]
client.delete_registered_model("credit risk")
told["deleted model"] = [
    refused(client.get_registered_model, "credit risk"),
    refused(client.create_model_version, "credit risk", "s3://x"),
    [model.name for model in client.search_registered_models()],
]
anew = client.create_registered_model("credit risk", tags={"team": "new"})
told["created anew"] = [
    dict(anew.tags),
    [version.version for version in client.search_model_versions("name = 'credit risk'")],
    client.create_model_version("credit risk", "s3://models/risk/4").version,
]

told["refused"] = [
    refused(client.create_registered_model, "credit risk"),
    refused(client.create_registered_model, "a/b"),
    refused(client.set_registered_model_alias, "credit risk", "v3", "4"),
    refused(client.set_registered_model_alias, "credit risk", "latest", "4"),
    refused(client.get_model_version_by_alias, "credit risk", "nobody"),
    refused(client.create_model_version, "credit risk", "s3://models/../../etc/passwd"),
    refused(client.search_model_versions, "stars > 3"),
    refused(client.search_model_versions, "", page_token="evil"),
]
print(json.dumps(told))
