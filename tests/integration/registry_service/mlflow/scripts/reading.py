"""Reads what Plumbline registered with MLflow's client, told as JSON."""

import json
import sys
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

url, uri = sys.argv[1], sys.argv[2]
mlflow.set_tracking_uri(url)
mlflow.set_registry_uri(url)
client = MlflowClient(tracking_uri=url, registry_uri=url)

folder = Path(mlflow.artifacts.download_artifacts(uri))
told = {
    "files": {
        path.relative_to(folder).as_posix(): path.read_bytes().hex()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "registered_model_meta"
    },
    "listed": sorted(item.path for item in mlflow.artifacts.list_artifacts(uri)),
    "tags": [dict(version.tags) for version in client.search_model_versions()],
    "by feature service": [
        version.version
        for version in client.search_model_versions("tags.`feast.feature_service` = 'flights_v1'")
    ],
}
if (folder / "MLmodel").exists():
    import mlflow.lightgbm

    told["scores"] = mlflow.lightgbm.load_model(uri).predict([[1.0, 2.0], [3.0, 4.0]]).tolist()
try:
    client.set_registered_model_tag("flights", "who", "reader")
    told["may write"] = True
except MlflowException as error:
    told["may write"] = error.error_code
print(json.dumps(told))
