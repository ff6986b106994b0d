"""The servers of the registry benchmark, and the requests they are sent."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import http_client as http
from benchmarks.harness import say
from benchmarks.load import write_requests
from benchmarks.peers import python_of
from benchmarks.processes import Server, descendants, free_port, process, wait_for_lines, wait_for_port
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from registry_service.settings import RegistrySettings

_METHODS = "/plumbline.registry.v1.ModelRegistryService/"
_MLFLOW = "/api/2.0/mlflow/"

#: Versions that share a value of the tag "batch": what the selective search finds.
PER_BATCH = 10


@dataclass(frozen=True)
class Ours:
    """Our registry over its two doors; http is None where it has none yet."""

    grpc: Server
    http: Server | None
    artifacts: Path

    def method(self, name: str) -> Server:
        """The gRPC server, to be called with one method."""
        return replace(self.grpc, method=_METHODS + name)


@contextmanager
def our_server(folder: Path, database_url: str, settings: Mapping[str, str] | None = None) -> Iterator[Ours]:
    """registry_service as a user starts it, with logs, metrics and trace ids."""
    folder.mkdir(parents=True, exist_ok=True)
    port, http_port = free_port(), free_port()
    has_http = "http_port" in RegistrySettings.model_fields
    given = {
        "DATABASE_URL": database_url,
        "ARTIFACTS_DIR": str(folder / "artifacts"),
        "PORT": str(port),
        "METRICS_PORT": "none",
        **({"HTTP_PORT": str(http_port)} if has_http else {}),
        **(settings or {}),
    }
    environment = {f"PLUMBLINE_REGISTRY_{name}": text for name, text in given.items()}
    log = folder / "registry.log"
    with process([sys.executable, "-m", "registry_service"], log, environment) as pid:
        wait_for_lines(log, "registry_service listens on ", 1, pid)
        wait_for_port(port)
        if has_http:
            wait_for_port(http_port)
        pids = (pid, *descendants(pid))
        yield Ours(
            grpc=Server(f"127.0.0.1:{port}", "", pids),
            http=Server(f"127.0.0.1:{http_port}", "", pids, "http") if has_http else None,
            artifacts=folder / "artifacts",
        )


def fill_mlflow(folder: Path, database_url: str, versions: int) -> None:
    """See `registry_mlflow`. Raises SystemExit with what it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    script = Path(__file__).with_name("registry_mlflow.py")
    command = [
        str(python_of("mlflow")),
        str(script),
        _for_mlflow(database_url),
        str(versions),
        str(PER_BATCH),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=os.environ | _QUIET, timeout=900
    )
    if done.returncode:
        raise SystemExit(f"MLflow's database cannot be filled:\n{done.stderr[-3000:]}")


@contextmanager
def mlflow_server(folder: Path, database_url: str, workers: int) -> Iterator[Server]:
    """`mlflow server` over a filled database."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / f"mlflow-{workers}.log"
    mlflow = python_of("mlflow").with_name("mlflow")
    command = [str(mlflow), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    command += ["--backend-store-uri", _for_mlflow(database_url)]
    command += ["--default-artifact-root", (folder / "mlartifacts").as_uri()]
    say(f"starting MLflow with {workers} workers")
    with process(command, log, _QUIET, folder=folder) as pid:
        wait_for_lines(log, "Application startup complete", workers, pid, 300)
        wait_for_port(port)
        yield Server(f"127.0.0.1:{port}", "", (pid, *descendants(pid)), "http")


# Its job runner, which takes a core's worth of time while it idles, is no part of the registry.
_QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PYTHONWARNINGS": "ignore",
}


def _for_mlflow(database_url: str) -> str:
    return database_url.replace("postgresql://", "postgresql+psycopg2://")


class Requests:
    """Requests as bytes, in files. Each method returns the file for gRPC and the one for HTTP."""

    def __init__(self, folder: Path, versions: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._batches = folder, max(1, versions // PER_BATCH)

    def alias(self) -> tuple[Path, Path]:
        """Who is champion, with the version."""
        name = "models/served/aliases/champion"
        return self._write(
            "alias",
            [pb.ResolveAliasRequest(name=name).SerializeToString()],
            [http.get(f"{_MLFLOW}registered-models/alias", {"name": "served", "alias": "champion"})],
        )

    def create(self, count: int) -> tuple[Path, Path]:
        """New versions with a source and a tag. Ours over gRPC carry a request id, as our client's do: each
        is good for one measurement."""
        source = "s3://bucket/models/growing/x"
        request = pb.CreateVersionRequest(parent="models/growing", source=source, tags={"batch": "b1"})
        ours = []
        for _ in range(count):
            request.request_id = uuid.uuid4().hex
            ours.append(request.SerializeToString())
        document = {"name": "growing", "source": source, "tags": [{"key": "batch", "value": "b1"}]}
        return self._write("create", ours, [http.post(f"{_MLFLOW}model-versions/create", document)])

    def by_tag(self) -> tuple[Path, Path]:
        """Versions of one batch."""
        batches = [f"b{(7 * n) % self._batches}" for n in range(min(200, self._batches))]
        return self._write(
            "by-tag",
            [
                pb.ListVersionsRequest(
                    parent="models/large", filter=f'tags.batch = "{batch}"'
                ).SerializeToString()
                for batch in batches
            ],
            [self._search(f"name = 'large' AND tags.batch = '{batch}'") for batch in batches],
        )

    def page(self) -> tuple[Path, Path]:
        """The first hundred versions."""
        return self._write(
            "page",
            [pb.ListVersionsRequest(parent="models/large", page_size=100).SerializeToString()],
            [self._search("name = 'large'", max_results="100")],
        )

    def default_page(self) -> tuple[Path, Path]:
        """What MLflow's client asks for when nothing else is said: up to 10,000 versions. Over HTTP alone."""
        return self._write("default", [], [self._search("name = 'large'")])

    def _search(self, where: str, **more: str) -> bytes:
        return http.get(f"{_MLFLOW}model-versions/search", {"filter": where, **more})

    def _write(self, name: str, grpc: list[bytes], over_http: list[bytes]) -> tuple[Path, Path]:
        files = self._folder / f"{name}.grpc", self._folder / f"{name}.http"
        for file, requests in zip(files, (grpc, over_http), strict=True):
            write_requests(file, requests)
        return files
