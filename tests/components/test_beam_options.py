"""Beam options from those of the command line: modes, workers, options passed on, and contradictions."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners import create_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from components.beam_options import beam_options, runner_arguments
from components.worker_pool import serve_workers
from storygan_tf.common.errors import ConfigError


def parsed(runner=None, workers=None, given=()) -> PipelineOptions:
    return PipelineOptions(beam_options(runner_arguments(runner, workers, given)))


def test_the_default_is_fn_api_runner_in_memory():
    options = parsed()
    assert isinstance(create_runner(options.view_as(StandardOptions).runner), FnApiRunner)
    direct = options.view_as(DirectOptions)
    assert (direct.direct_running_mode, direct.direct_num_workers) == ("in_memory", 1)


@pytest.mark.parametrize(
    ("runner", "workers", "mode", "number"),
    [
        ("in-memory", None, "in_memory", 1),
        ("multi-threading", 3, "multi_threading", 3),
        ("multi-processing", 2, "multi_processing", 2),
        (None, 2, "multi_processing", 2),
        (None, 1, "in_memory", 1),
    ],
)
def test_modes_and_workers(runner, workers, mode, number):
    direct = parsed(runner, workers).view_as(DirectOptions)
    assert (direct.direct_running_mode, direct.direct_num_workers) == (mode, number)


def test_another_runner_with_options_that_are_passed_on():
    options = parsed("FlinkRunner", 4, ["--flink_master=localhost:9", "--environment_type=LOOPBACK"])
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    assert options.view_as(FlinkRunnerOptions).flink_master == "localhost:9"
    assert beam_options(runner_arguments("FlinkRunner", 4))[-1] == "--parallelism=4"


EXTERNAL = ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"]
GOOGLE = ["--project=p", "--region=r", "--temp_location=gs://b/t", "--sdk_container_image=registry/image:1"]


def test_flink_by_its_job_server_uses_the_pools_next_to_its_task_managers():
    options = parsed("PortableRunner", None, ["--job_endpoint=flink:8099", "--parallelism=4", *EXTERNAL])
    portable = options.view_as(PortableOptions)
    assert portable.job_endpoint == "flink:8099"
    assert (portable.environment_type, portable.environment_config) == ("EXTERNAL", "localhost:50000")
    assert options.view_as(FlinkRunnerOptions).parallelism == 4


def test_dataflow_has_its_image_and_its_folders():
    given = [*GOOGLE, "--staging_location=gs://b/s", "--experiments=use_runner_v2", "--max_num_workers=8"]
    options = parsed("DataflowRunner", None, given)
    assert type(create_runner(options.view_as(StandardOptions).runner)).__name__ == "DataflowRunner"
    google = options.view_as(GoogleCloudOptions)
    assert (google.project, google.region, google.temp_location) == ("p", "r", "gs://b/t")
    assert google.staging_location == "gs://b/s"
    workers = options.view_as(WorkerOptions)
    assert (workers.sdk_container_image, workers.max_num_workers) == ("registry/image:1", 8)
    assert options.view_as(DebugOptions).experiments == ["use_runner_v2"]


@pytest.mark.parametrize("missing", GOOGLE)
def test_a_missing_option_of_dataflow_is_an_error(missing):
    name = missing.partition("=")[0]
    with pytest.raises(ConfigError, match=f"--beam: found no {name} for DataflowRunner; expected {name}=VALUE"):
        runner_arguments("DataflowRunner", None, [option for option in GOOGLE if option != missing])


def test_loopback_becomes_the_address_of_a_pool_in_this_process():
    given = ["--runner=FlinkRunner", "--environment_type=LOOPBACK"]
    options = parsed(None, None, given).view_as(PortableOptions)
    assert (options.environment_type, options.environment_config) == ("EXTERNAL", serve_workers())
    assert beam_options([*given, "--experiments=use_loopback_process_worker=True"])[-2] == given[-1]


def test_a_runner_among_the_beam_options():
    assert runner_arguments(None, None, ["--runner=SparkRunner"]) == ["--runner=SparkRunner"]
    assert beam_options(["--runner=SparkRunner"]) == ["--sdk_container_image=none", "--runner=SparkRunner"]
    assert beam_options(["--sdk_container_image=mine"])[1:] == ["--sdk_container_image=mine"]


@pytest.mark.parametrize(
    ("runner", "workers", "given", "message"),
    [
        ("multi-procesing", None, [], "did you mean 'multi-processing'"),
        ("in-memory", 2, [], "in-memory has one worker; expected --beam-runner multi-processing"),
        (None, 0, [], "--beam-workers 0: expected at least 1"),
        ("SparkRunner", 2, [], "expected this runner's own option"),
        ("FlinkRunner", None, ["--runner=SparkRunner"], "found --beam=--runner, too"),
        ("FlinkRunner", None, ["--flink_master=flink:8081"], "no --environment_type for FlinkRunner"),
        ("FlinkRunner", None, EXTERNAL[:1], "no --environment_config for FlinkRunner"),
        ("PortableRunner", None, EXTERNAL, "no --job_endpoint for PortableRunner"),
        (None, None, ["parallelism=2"], "--beam parallelism=2: expected an option of Beam"),
    ],
)
def test_contradictions_are_errors(runner, workers, given, message):
    with pytest.raises(ConfigError, match=message):
        runner_arguments(runner, workers, given)
