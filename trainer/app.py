"""Builds the job and everything it needs, and runs it once."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from plumbline.errors import PlumblineError
from plumbline.features.client import FeatureClient
from plumbline.registry.client import RegistryClient
from servicekit.telemetry import Telemetry, build_telemetry
from trainer.config import TrainingConfig
from trainer.domain import CodeRevision, Result
from trainer.environment import code_revision, installed_packages
from trainer.errors import ConfigError, TrainerError
from trainer.job import Job
from trainer.report import ConsoleReporter, write_json
from trainer.settings import TrainerSettings
from trainer.steps import Steps


@dataclass(frozen=True)
class Options:
    """What the command line asks for, apart from the configuration itself."""

    config_file: Path
    dry_run: bool = False
    result_file: Path | None = None


def run_job(config: TrainingConfig, settings: TrainerSettings, options: Options, console: Console) -> Result:
    """Runs the job to its end. Does not raise what a job may fail with: outcome and error say so.

    ConfigError is raised: the configuration does not fit the rows or the features. Whatever happens, the
    result so far is written to `options.result_file`.
    """
    telemetry = build_telemetry(
        "trainer",
        otlp_endpoint=settings.trainer_otlp_endpoint,
        sample_ratio=settings.trainer_trace_sample_ratio,
    )
    reporter = ConsoleReporter(console)
    steps = Steps(telemetry.tracer, reporter)
    began = time.perf_counter()
    with ExitStack() as stack:
        stack.callback(telemetry.shutdown)
        stack.callback(reporter.close)
        job = _build(config, settings, options, telemetry, reporter, steps, stack)
        result = job.result
        try:
            with telemetry.tracer.start_as_current_span("trainer.job") as span:
                span.set_attribute("plumbline.model", config.model)
                job.run()
        except ConfigError as error:
            result.error = str(error)
            raise
        except (TrainerError, PlumblineError, OSError, pa.ArrowException) as error:
            # The last two: a full disk, a folder that may not be written, a stream that broke off.
            result.error = str(error) if str(error) else type(error).__name__
        except KeyboardInterrupt:
            result.error = "interrupted"
            raise
        finally:
            result.seconds = time.perf_counter() - began
            result.steps = steps.records
            if options.result_file is not None:
                write_json(result, options.result_file)
    return result


def _build(
    config: TrainingConfig,
    settings: TrainerSettings,
    options: Options,
    telemetry: Telemetry,
    reporter: ConsoleReporter,
    steps: Steps,
    stack: ExitStack,
) -> Job:
    interceptors = telemetry.client_interceptors()
    features = FeatureClient(
        settings.features_address,
        actor=settings.actor,
        interceptors=interceptors,
        stream_timeout=settings.trainer_join_timeout_seconds,
    )
    registry = RegistryClient(settings.registry_address, actor=settings.actor, interceptors=interceptors)
    return Job(
        config,
        stack.enter_context(features),
        None if options.dry_run else stack.enter_context(registry),
        steps,
        reporter,
        recorded_code(settings, options.config_file.parent),
        installed_packages(),
        timedelta(seconds=settings.trainer_lease_seconds),
    )


def recorded_code(settings: TrainerSettings, folder: Path) -> CodeRevision:
    """What the environment says of the code, as an image's build does; else what git says of the folder."""
    if settings.code_commit:
        return CodeRevision(
            settings.code_repository or folder.resolve().name, settings.code_commit, settings.code_dirty
        )
    return code_revision(folder)
