"""StoryExampleGen in a pipeline: StatisticsGen reads its output, and the cache depends on the data."""

from __future__ import annotations

import tensorflow_data_validation as tfdv
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.components import StatisticsGen
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from components.beam_options import beam_options
from components.story_example_gen.component import StoryExampleGen
from storygan_tf.config.schema import Settings
from storygan_tf.data.datasets.data_fingerprint import data_fingerprint


def component(data, fingerprint="d"):
    return StoryExampleGen(
        data_dir=str(data), settings=Settings().to_json(), data_fingerprint=fingerprint, code_fingerprint="c"
    )


def test_outputs_and_parameters():
    example_gen = component("data")
    assert example_gen.outputs["examples"].type is standard_artifacts.Examples
    assert example_gen.exec_properties["data_dir"] == "data"
    assert set(example_gen.exec_properties) >= {"settings", "data_fingerprint", "code_fingerprint"}
    assert example_gen.id == "StoryExampleGen"


def run(root, data, *, statistics=True):
    """Runs StoryExampleGen, and StatisticsGen unless `statistics` is False, which takes longer."""
    example_gen = component(data, data_fingerprint(data))
    readers = [StatisticsGen(examples=example_gen.outputs["examples"])] if statistics else []
    pipeline = Pipeline(
        pipeline_name="data",
        pipeline_root=str(root / "artifacts"),
        components=[example_gen, *readers],
        enable_cache=True,
        metadata_connection_config=sqlite_metadata_connection_config(str(root / "metadata.sqlite")),
        beam_pipeline_args=beam_options([]),
    )
    LocalDagRunner().run(pipeline)


def states(root):
    """Returns the last known states of StoryExampleGen's executions, oldest first."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    store = metadata_store.MetadataStore(config)
    node = store.get_context_by_type_and_name("node", "data.StoryExampleGen")
    runs = sorted(store.get_executions_by_context(node.id), key=lambda execution: execution.id)
    return [metadata_store_pb2.Execution.State.Name(execution.last_known_state) for execution in runs]


def test_the_pipeline_reads_it_and_caches_it_until_the_data_changes(tmp_path, story_folder, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pytest"])  # TFX parses it
    data = story_folder(tmp_path / "data", train=5, test=2)
    run(tmp_path, data)
    (folder,) = (tmp_path / "artifacts/StatisticsGen/statistics").iterdir()
    for split, count in (("train", 5), ("test", 2)):
        statistics = tfdv.load_stats_binary(str(folder / f"Split-{split}/FeatureStats.pb"))
        assert statistics.datasets[0].num_examples == count
        names = {feature.path.step[0] for feature in statistics.datasets[0].features}
        assert names == {"story_id", "sentences", "images", "labels", "objects"}
    run(tmp_path, data)
    (data / "images/s000_1.png").write_bytes((data / "images/s000_2.png").read_bytes())
    run(tmp_path, data, statistics=False)
    assert states(tmp_path) == ["COMPLETE", "CACHED", "COMPLETE"]
