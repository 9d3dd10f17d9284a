"""The private and undocumented parts of libraries that `pipeline.compat` relies on are there and do what it needs.

The tests are named after the functions of `pipeline.compat`, so that a failure says which part a library changed.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from absl import flags
from absl import logging as absl_logging
from apache_beam.io import filebasedsink
from apache_beam.options.value_provider import StaticValueProvider
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from ml_metadata import metadata_store
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from pipeline import compat
from pipeline.compat import StepState

STEP = "ImportSchemaGen"


class Records(logging.Handler):
    """Keeps what `read_step_state` reads from the log."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.states = []

    def emit(self, record):
        if state := compat.read_step_state(record):
            self.states.append(state)


def one_step_pipeline(folder: Path, **properties) -> Pipeline:
    (folder / "schema.pbtxt").write_text("")
    step = ImportSchemaGen(schema_file=str(folder / "schema.pbtxt"))
    compat.add_exec_properties(step, properties)
    return Pipeline(
        pipeline_name="small",
        pipeline_root=str(folder / "root"),
        components=[step],
        enable_cache=True,
        metadata_connection_config=sqlite_metadata_connection_config(str(folder / "db")),
    )


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Returns the states of a step in the log of two runs, and the metadata store of the runs."""
    folder = tmp_path_factory.mktemp("runs")
    root, records = logging.getLogger(), Records()
    level, verbosity = root.level, absl_logging.get_verbosity()
    root.addHandler(records)
    root.setLevel(logging.INFO)
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        for _ in range(2):
            with compat.hidden_command_line():
                LocalDagRunner().run(one_step_pipeline(folder))
    finally:
        root.removeHandler(records)
        root.setLevel(level)
        absl_logging.set_verbosity(verbosity)
    config = sqlite_metadata_connection_config(str(folder / "db"))
    return records.states, metadata_store.MetadataStore(config)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """The PipelineSpec of one step with an added property."""
    folder = tmp_path_factory.mktemp("specification")
    config = KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True)
    runner = KubeflowV2DagRunner(config)
    pipeline = one_step_pipeline(folder, added=RuntimeParameter("parameter", str, "default"))
    return runner.run(pipeline, parameter_values={"parameter": "value"}, write_out=False)["pipelineSpec"]


def test_hidden_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["storygan", "--verbosity=none"])
    # With this option TFX does not build a package of itself for the workers.
    context = BaseBeamExecutor.Context(beam_pipeline_args=["--sdk_container_image=none"])

    class Executor(BaseBeamExecutor):
        def Do(self, input_dict, output_dict, exec_properties): ...  # noqa: N802

    monkeypatch.setattr(sys.modules[__name__], "Executor", Executor, raising=False)
    Executor.__qualname__ = "Executor"
    with compat.hidden_command_line():
        assert sys.argv == ["storygan"]
        Executor(context)
    assert sys.argv == ["storygan", "--verbosity=none"]
    with pytest.raises(flags.IllegalFlagValueError):
        Executor(context)


def test_read_step_state(two_runs):
    states, _ = two_runs
    started, finished = (StepState.STARTED, STEP), (StepState.FINISHED, STEP)
    assert states == [started, finished, started, (StepState.CACHED, ""), finished]


def test_read_step_state_ignores_other_records():
    assert compat.read_step_state(logging.makeLogRecord({"msg": "Component of something"})) is None


def test_add_exec_properties(spec):
    given = spec["root"]["dag"]["tasks"][STEP]["inputs"]["parameters"]["added"]
    assert given == {"componentInputParameter": "parameter"}


def test_step_executions(two_runs):
    _, store = two_runs
    first, second = compat.step_executions(store, "small", STEP)
    assert first.id < second.id


def test_pipeline_run_ids(two_runs):
    _, store = two_runs
    runs = [compat.pipeline_run_ids(store, one.id) for one in compat.step_executions(store, "small", STEP)]
    assert [len(ids) for ids in runs] == [1, 1]
    assert runs[0] != runs[1]


def test_output_artifact(two_runs):
    _, store = two_runs
    for execution in compat.step_executions(store, "small", STEP):
        assert Path(compat.output_artifact(store, execution.id, "schema").uri, "schema.pbtxt").is_file()
        assert compat.output_artifact(store, execution.id, "other") is None


def test_find_task_and_container(spec):
    task, container = compat.find_task_and_container(spec, STEP)
    assert task["componentRef"]["name"] == STEP
    assert container["image"] == "image"


def test_artifact_type_name(spec):
    assert compat.artifact_type_name(spec["components"][STEP]["outputDefinitions"]["artifacts"]["schema"]) == "Schema"


def test_parse_artifacts_and_executor_output():
    message = json_format.ParseDict(
        {"artifacts": [{"name": "artifacts/17", "uri": "/mnt/model", "metadata": {"note": "text", "count": 3}}]},
        pipeline_spec_pb2.ArtifactList(),
    )
    names = {}
    artifacts = compat.parse_artifacts({"model": message}, {"model": "tfx.types.standard_artifacts.Model"}, names)
    (model,) = artifacts["model"]
    assert type(model) is standard_artifacts.Model
    assert list(names.values()) == ["artifacts/17"]
    (written,) = compat.executor_output(artifacts, names).artifacts["model"].artifacts
    assert (written.uri, written.name) == ("/mnt/model", "artifacts/17")
    assert dict(written.metadata).items() >= {"note": "text", "count": 3}.items()
    assert "tfx_version" in written.metadata


def test_load_transform_function(tmp_path):
    """Loads a graph that TensorFlow Transform wrote."""
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata

    spec = {"words": tf.io.FixedLenFeature([2], tf.string)}
    metadata = dataset_metadata.DatasetMetadata.from_feature_spec(spec)
    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(tmp_path / "temp")):
        rows = pipeline | beam.Create([{"words": [b"a", b"bc"]}])
        graph = (rows, metadata) | tft_beam.AnalyzeDataset(
            lambda raw: {"size": tf.cast(tf.strings.length(raw["words"]), tf.int64)}
        )
        _ = graph | tft_beam.WriteTransformFn(str(tmp_path))
    _, function = compat.load_transform_function(str(tmp_path / "transform_fn"))
    assert {name: spec.shape[1:].as_list() for name, spec in compat.raw_feature_specs(function).items()} == {
        "words": [2]
    }
    assert function({"words": tf.constant([["a", "bc"]])})["size"].numpy().tolist() == [[1, 2]]


def test_remove_beam_leftovers(tmp_path):
    class Sink(filebasedsink.FileBasedSink): ...

    out = tmp_path / "artifact"
    out.mkdir()
    sink = Sink(StaticValueProvider(str, str(out / "records")), beam.coders.BytesCoder())
    Path(sink.initialize_write(), "part").touch()
    (out / "records").touch()
    compat.remove_beam_leftovers(tmp_path)
    assert [path.name for path in out.iterdir()] == ["records"]
