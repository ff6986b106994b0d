"""Calls about runs, datasets and evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from plumbline.calls import Client
from plumbline.registry.naming import fresh_id, version_name
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub


class EvidenceCalls(Client):
    """A part of `RegistryClient`."""

    _stub: ModelRegistryServiceStub

    def start_run(
        self, run: res.TrainingRun, *, lease: timedelta | None = None, request_id: str | None = None
    ) -> res.TrainingRun:
        """A RUNNING run with a name of its own. lease: it becomes FAILED unless it is renewed in time."""
        request = pb.StartRunRequest(run=run, request_id=fresh_id(request_id))
        if lease is not None:
            request.lease.FromTimedelta(lease)
        return self._call(self._stub.StartRun, request)

    def renew_run(self, name: str, lease: timedelta) -> res.TrainingRun:
        """Puts off the end of a RUNNING run's lease. Raises RunEnded."""
        request = pb.RenewRunRequest(name=name)
        request.lease.FromTimedelta(lease)
        return self._call(self._stub.RenewRun, request)

    def log_run(
        self,
        name: str,
        *,
        parameters: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        datasets: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> res.TrainingRun:
        """Adds to a RUNNING run."""
        return self._call(
            self._stub.LogRun,
            pb.LogRunRequest(
                name=name,
                parameters=parameters,
                metrics=metrics,
                datasets=datasets,
                tags=tags,
                request_id=fresh_id(request_id),
            ),
        )

    def finish_run(self, name: str, *, error: str = "", request_id: str | None = None) -> res.TrainingRun:
        """FINISHED, or FAILED when `error` says why."""
        state = res.RUN_STATE_FAILED if error else res.RUN_STATE_FINISHED
        return self._call(
            self._stub.FinishRun,
            pb.FinishRunRequest(name=name, state=state, error=error, request_id=fresh_id(request_id)),
        )

    def get_run(self, name: str) -> res.TrainingRun:
        """runs/{run}. Raises RunNotFound."""
        return self._call(self._stub.GetRun, pb.GetRunRequest(name=name))

    def list_runs(self, condition: str = "") -> Iterator[res.TrainingRun]:
        """All runs, newest first, page after page. condition: a filter, as in
        `state = FAILED AND parameters.depth = 6`. Raises InvalidFilter."""
        for page in self._pages(self._stub.ListRuns, pb.ListRunsRequest(filter=condition)):
            yield from page.runs

    def record_dataset(self, dataset: res.Dataset, *, request_id: str | None = None) -> res.Dataset:
        """Records a snapshot under its digest; the same again is fine."""
        return self._call(
            self._stub.RecordDataset,
            pb.RecordDatasetRequest(dataset=dataset, request_id=fresh_id(request_id)),
        )

    def get_dataset(self, name: str) -> res.Dataset:
        """datasets/{digest}. Raises DatasetNotFound."""
        return self._call(self._stub.GetDataset, pb.GetDatasetRequest(name=name))

    def list_datasets(self, condition: str = "") -> Iterator[res.Dataset]:
        """All dataset snapshots, newest first, page after page. condition: a filter, as in
        `row_count > 1000`. Raises InvalidFilter."""
        for page in self._pages(self._stub.ListDatasets, pb.ListDatasetsRequest(filter=condition)):
            yield from page.datasets

    def record_evaluation(
        self, version: str, evaluation: res.Evaluation, *, request_id: str | None = None
    ) -> res.Evaluation:
        """Adds metrics of a READY version on a dataset."""
        return self._call(
            self._stub.RecordEvaluation,
            pb.RecordEvaluationRequest(
                parent=version_name(version), evaluation=evaluation, request_id=fresh_id(request_id)
            ),
        )
