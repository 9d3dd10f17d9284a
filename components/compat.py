"""Private and undocumented parts of Beam, TFX and TFDV that this package relies on.

Every use of such a part in `components` is here, one name each, tried with Beam 2.74, TFX 1.15 and TensorFlow Data
Validation 1.15. `tests/components/test_compat.py` fails by name when a library changes one of them.

Heavy libraries are imported inside the functions: `components.beam_options` uses this module and stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent import futures

    import apache_beam as beam
    from apache_beam.runners.worker.sdk_worker import SdkHarness
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor

# Beam 2.74

FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Beam's runner in this process, by its full class name, which Beam does not document.

The documented default, `DirectRunner`, first tries to download the Prism runner.
"""

PROCESS_WORKERS = "use_loopback_process_worker"
"""Beam's undocumented experiment that makes LOOPBACK start a process for each worker.

There is no documented option for it.
"""

_STATE_CACHE_BYTES = 100 << 20
"""Size of a worker's cache of state and side inputs: 100 MiB."""


def request_threads() -> futures.Executor:
    """Returns threads for a worker pool's requests, as many as there are requests at a time.

    Beam 2.74. `thread_pool_executor` is not documented; Beam's own worker pool uses it. The standard library's
    `ThreadPoolExecutor` has a limit, which requests that wait for a worker's connection can exhaust, and its threads
    delay the end of the process.
    """
    from apache_beam.utils import thread_pool_executor

    return thread_pool_executor.shared_unbounded_instance()


def connect_worker(control_address: str, worker_id: str) -> SdkHarness:
    """Returns a Beam worker that is connected to a runner; `run_worker` makes it work.

    Beam 2.74. `SdkHarness` is internal. The documented ways to start a worker are Beam's container and Beam's worker
    pool; `components.worker_pool` describes why the pool does not do.

    Args:
        control_address: `HOST:PORT` of the runner's control service.
        worker_id: the name that the runner gave the worker.
    """
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    return SdkHarness(control_address, worker_id=worker_id, state_cache_size=_STATE_CACHE_BYTES)


def run_worker(worker: SdkHarness) -> None:
    """Runs a Beam worker until its connection to the runner ends, and then ends its response thread.

    Beam 2.74. After a lost connection `SdkHarness.run` raises before it puts the end marker into its private queue
    `_responses`, so that the thread which reads the queue, and with it the worker, would stay in memory. Beam's pool
    puts the marker only on a request to stop a worker by name.

    Raises:
        grpc.RpcError: if the connection is lost.
    """
    from apache_beam.utils.sentinel import Sentinel

    try:
        worker.run()
    finally:
        worker._responses.put(Sentinel.sentinel)


def set_default_file_system_options() -> None:
    """Gives Beam's `FileSystems` empty pipeline options, unless a Beam worker has set them already.

    Beam 2.74. Beam's file system for S3 refuses to work without options. `FileSystems.set_options` is public, but only
    the private `_pipeline_options` says whether a call would replace the options of the running pipeline.
    """
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    if FileSystems._pipeline_options is None:
        FileSystems.set_options(PipelineOptions([]))


# TFX 1.15

NO_SDK_PACKAGE = "--sdk_container_image=none"
"""A Beam option that keeps TFX from building a package of itself for every Beam step.

TFX 1.15 builds one unless the Beam options name a container image (`tfx.utils.dependency_utils`); no documented option
turns it off. Beam ignores the image when its workers are on this machine.
"""

INFRA_BLESSED_PROPERTY = "blessed"
"""Custom property of an InfraBlessing: 1 if the model can be served. Private to TFX's InfraValidator."""

INFRA_MODEL_PROPERTY = "has_model"
"""Custom property of an InfraBlessing: 1 if it holds a copy of the model. Private to TFX's InfraValidator."""

INFRA_BLESSED_FILE = "INFRA_BLESSED"
"""The empty file in an InfraBlessing of a model that can be served. Private to TFX's InfraValidator."""

INFRA_NOT_BLESSED_FILE = "INFRA_NOT_BLESSED"
"""The empty file in an InfraBlessing of a model that cannot be served. Private to TFX's InfraValidator."""

SPLIT_ANOMALIES_FILE = "SchemaDiff.pb"
"""The file of a split's anomalies in ExampleAnomalies.

TFX 1.15 deprecates its constant for the name (`DEFAULT_FILE_NAME` of ExampleValidator's executor) and has no other.
"""


def make_beam_pipeline(executor: BaseBeamExecutor) -> beam.Pipeline:
    """Returns a Beam pipeline with the options that an executor received from TFX.

    TFX 1.15. `_make_beam_pipeline` is the protected method that TFX's own executors call. `beam.Pipeline` alone would
    need the private options, and would ignore a launcher that makes pipelines itself.
    """
    return executor._make_beam_pipeline()


def pipeline_run_id(executor: BaseBeamExecutor) -> str:
    """Returns the id of the pipeline run that an executor belongs to; empty if it runs outside of a pipeline.

    TFX 1.15. The id is public in the executor's context, but the context is the protected attribute `_context`.
    """
    return getattr(executor._context, "pipeline_run_id", None) or ""


# TensorFlow Data Validation 1.15


def compared_splits(description: str, split: str) -> str:
    """Returns TFDV's description of a skew with the names of the two splits that were compared.

    TFDV 1.15. TFDV compares training data with serving data, and its messages say so; no option changes the names.

    Args:
        description: TFDV's description of an anomaly.
        split: the split that was compared with the training split.
    """
    return description.replace("training and serving", f"{split} and train")
