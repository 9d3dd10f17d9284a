"""The private and undocumented parts of Beam, TFX and TFDV behave as `components.compat` relies on."""

from __future__ import annotations

import inspect
import queue
import threading

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability import portable_runner
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.utils.sentinel import Sentinel

from components import compat


class LostWorker(SdkHarness):
    """A worker whose connection is lost at once."""

    def __init__(self):
        self._responses = queue.Queue()

    def run(self):
        raise ConnectionError("lost")


def test_fn_api_runner_is_a_runner_by_its_full_name():
    assert compat.FN_API_RUNNER in StandardOptions.ALL_KNOWN_RUNNERS


def test_process_workers_is_an_experiment_of_beams_loopback():
    assert compat.PROCESS_WORKERS in inspect.getsource(portable_runner)


def test_connect_worker_uses_parameters_that_sdk_harness_has():
    assert {"control_address", "worker_id", "state_cache_size"} <= set(inspect.signature(SdkHarness).parameters)


def test_run_worker_ends_the_response_queue_of_sdk_harness_after_a_lost_connection():
    worker = LostWorker()
    with pytest.raises(ConnectionError):
        compat.run_worker(worker)
    assert worker._responses.get_nowait() is Sentinel.sentinel
    source = inspect.getsource(SdkHarness)
    assert "self._responses = queue.Queue(" in source
    assert "no_more_work = Sentinel.sentinel" in source
    assert "response = self._responses.get()" in source


def test_file_system_options_are_private_and_kept_if_they_are_set(monkeypatch):
    options = PipelineOptions([])
    monkeypatch.setattr(FileSystems, "_pipeline_options", options)
    compat.set_default_file_system_options()
    assert FileSystems._pipeline_options is options
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    compat.set_default_file_system_options()
    assert isinstance(FileSystems._pipeline_options, PipelineOptions)


def test_no_sdk_package_keeps_tfx_from_building_a_package_of_itself(monkeypatch):
    from tfx.utils import dependency_utils

    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", lambda: "tfx.tar.gz")
    given = ["--runner=DirectRunner"]
    assert dependency_utils.make_beam_dependency_flags(given) == [*given, "--extra_package=tfx.tar.gz"]
    given.append(compat.NO_SDK_PACKAGE)
    assert dependency_utils.make_beam_dependency_flags(given) == given


def test_infra_blessing_names_are_those_of_tfx_infra_validator():
    from tfx.components.infra_validator import executor
    from tfx.components.pusher import executor as pusher

    assert compat.INFRA_BLESSED_PROPERTY == executor._BLESSED_KEY
    assert compat.INFRA_MODEL_PROPERTY == executor._MODEL_FLAG_KEY == pusher._INFRA_BLESSING_MODEL_FLAG_KEY
    assert compat.INFRA_BLESSED_FILE == executor._BLESSED_FILENAME
    assert compat.INFRA_NOT_BLESSED_FILE == executor._NOT_BLESSED_FILENAME


def test_split_anomalies_file_is_that_of_tfx_example_validator():
    from tfx.components.example_validator import executor

    assert f"DEFAULT_FILE_NAME = '{compat.SPLIT_ANOMALIES_FILE}'" in inspect.getsource(executor)


@pytest.fixture
def executor_class():
    """Returns the class of an executor on Beam."""
    from components.story_example_gen.executor import Executor

    return Executor


def test_make_beam_pipeline_uses_the_options_and_the_maker_of_the_executors_context(executor_class, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pytest"])  # TFX parses it
    arguments = [f"--runner={compat.FN_API_RUNNER}", compat.NO_SDK_PACKAGE, "--direct_num_workers=3"]
    pipeline = compat.make_beam_pipeline(executor_class(executor_class.Context(beam_pipeline_args=arguments)))
    assert pipeline.options.get_all_options()["direct_num_workers"] == 3
    context = executor_class.Context(make_beam_pipeline_fn=lambda: "a pipeline")
    assert compat.make_beam_pipeline(executor_class(context)) == "a pipeline"


def test_pipeline_run_id_is_that_of_the_executors_context(executor_class):
    assert compat.pipeline_run_id(executor_class(executor_class.Context(pipeline_run_id="run-7"))) == "run-7"
    assert compat.pipeline_run_id(executor_class(executor_class.Context())) == ""
    assert compat.pipeline_run_id(executor_class()) == ""


def test_compared_splits_replaces_the_names_in_a_skew_that_tfdv_describes():
    import pandas as pd
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import schema_pb2

    def statistics(*values):
        return tfdv.generate_statistics_from_dataframe(pd.DataFrame({"word": values}))

    schema = schema_pb2.Schema()
    feature = schema.feature.add(name="word", type=schema_pb2.BYTES)
    feature.skew_comparator.infinity_norm.threshold = 0.1
    found = tfdv.validate_statistics(statistics("a", "b"), schema, serving_statistics=statistics("b", "b"))
    description = found.anomaly_info["word"].description
    assert "training and serving" in description
    assert "between val and train" in compat.compared_splits(description, "val")


def test_request_threads_have_no_limit_and_do_not_delay_the_end_of_the_process():
    threads, gate, names = compat.request_threads(), threading.Event(), []

    def wait():
        names.append(threading.current_thread())
        return gate.wait(300)

    waiting = [threads.submit(wait) for _ in range(100)]
    last = threads.submit(lambda: 3)
    assert last.result(300) == 3
    gate.set()
    assert all(task.result(300) for task in waiting)
    assert all(thread.daemon for thread in names)
