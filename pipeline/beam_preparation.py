"""Statistics, Transform and sentence vectors as one Beam pipeline, from an Examples artifact to prepared records.

It uses the preprocessing function of the pipeline's Transform step, so the vectors are the same. Unlike in the
Transform step, pictures never pass between workers or through the memory of a runner: one worker reads a file of
stories, adds the vectors and writes the file, a batch at a time.
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.public import tfxio

from components.record_files import list_files, read_file, read_records, write_file, write_records
from pipeline.preprocessing import preprocessing_fn
from pipeline.statistics import statistics_options
from pipeline.step_inputs import transform_arguments
from pipeline.vectorizer_export import export_vectorizer
from storygan_tf.config.schema import Settings
from storygan_tf.data import example_schema
from storygan_tf.data.prepared_data import VECTORIZER

BATCH = 64
"""Number of stories that are read, encoded and written at a time."""

GRAPH = "transform_graph"
STATISTICS = "statistics"
SCHEMA_FILE = "schema.pbtxt"

_OUTCOME = "outcome.json"


def story_schema(example: tf.train.Example) -> schema_pb2.Schema:
    """Returns a schema by which every story has the features of `example`, each of the same length."""
    kinds = {"bytes_list": tf.string, "int64_list": tf.int64, "float_list": tf.float32}
    spec = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        spec[name] = tf.io.FixedLenFeature([len(getattr(feature, kind).value)], kinds[kind])
    return tft.DatasetMetadata.from_feature_spec(spec).schema


def add_vectors(
    examples: str, out: str, settings: Settings, initial: str, make_pipeline: Callable[[], beam.Pipeline]
) -> dict[str, int]:
    """Fits the Transform graph on the training stories and writes every story with its vectors.

    Writes the splits of `examples` into `out`, file by file, and `transform_graph/`, `vectorizer/`, `statistics/`
    (TFDV's statistics of each split) and `schema.pbtxt`.

    Args:
        examples: root of an Examples artifact.
        out: folder to write, which all workers share.
        settings: `model`, `data` and `training.init_from` are used.
        initial: fingerprint of the model that the training starts from; empty if it starts from none.
        make_pipeline: returns a Beam pipeline that runs when its context ends.

    Returns:
        The number of stories written, by file.

    Raises:
        ConfigError: as `pipeline.preprocessing.preprocessing_fn`.
    """
    temp_dir = f"{out}/writing"
    files = {split: list_files(f"{examples}/{split}/*.gz") for split in _splits(examples)}
    schema = story_schema(tf.train.Example.FromString(next(read_records(files["Split-train"][0]))))
    preprocess = functools.partial(
        preprocessing_fn, custom_config=transform_arguments(settings, initial).to_custom_config()
    )
    write_file(f"{out}/{SCHEMA_FILE}", text_format.MessageToString(schema).encode(), temp_dir)
    with (
        make_pipeline() as pipeline,
        tft_beam.Context(temp_dir=f"{temp_dir}/transform", use_deep_copy_optimization=True),
    ):
        stories = {split: _stories(pipeline, split, names, schema) for split, names in files.items()}
        for split, batches in stories.items():
            _ = batches | f"Statistics {split}" >> _WriteStatistics(
                f"{out}/{STATISTICS}/{split}/FeatureStats.pb", temp_dir
            )
        model, metadata = _analyze(stories["Split-train"], schema, preprocess)
        graph = _publish(model, metadata, temp_dir, settings)
        names = [
            (name, f"{out}/{name.removeprefix(examples).lstrip('/')}") for group in files.values() for name in group
        ]
        written = (
            pipeline
            | "Files" >> beam.Create(names, reshuffle=True)
            | "Vectors" >> beam.ParDo(_AddVectors(temp_dir), beam.pvalue.AsSingleton(graph))
        )
        outcome = (beam.pvalue.AsSingleton(graph), beam.pvalue.AsList(written))
        _ = pipeline | "Once" >> beam.Create([temp_dir]) | "Outcome" >> beam.Map(_write_outcome, *outcome)
    outcome = json.loads(read_file(f"{temp_dir}/{_OUTCOME}"))
    for name in (GRAPH, VECTORIZER):
        Path(outcome["graph"], name).replace(Path(out, name))
    shutil.rmtree(temp_dir)
    return {name.removeprefix(out).lstrip("/"): count for name, count in outcome["written"]}


def _splits(examples: str) -> list[str]:
    return sorted({Path(file).parent.name for file in list_files(f"{examples}/Split-*/*.gz")})


def _record_source(schema: schema_pb2.Schema) -> tfxio.TFExampleBeamRecord:
    return tfxio.TFExampleBeamRecord("files", ["storygan", "prepare"], schema=schema)


def _stories(pipeline: beam.Pipeline, split: str, files: Sequence[str], schema: schema_pb2.Schema) -> beam.PCollection:
    """Returns the stories of a split as Arrow record batches of at most `BATCH` rows."""
    return (
        pipeline
        | f"Files {split}" >> beam.Create(files, reshuffle=True)
        | f"Read {split}" >> beam.FlatMap(read_records).with_output_types(bytes)
        | f"Decode {split}" >> _record_source(schema).BeamSource(batch_size=BATCH)
    )


def _analyze(
    batches: beam.PCollection, schema: schema_pb2.Schema, preprocess: Callable[..., Any]
) -> tuple[beam.PCollection, Any]:
    """Fits the Transform graph on a split; only the features that it depends on, the sentences, reach the analyzers.

    Returns:
        The fitted function and its metadata, as `tft_beam.AnalyzeDataset` gives them.
    """
    source = _record_source(schema)
    columns = list(tft.get_analyze_input_columns(preprocess, source.TensorAdapter().OriginalTypeSpecs()))
    chosen = batches | "Choose" >> beam.Map(_select_columns, columns).with_output_types(pa.RecordBatch)
    return (chosen, source.Project(columns).TensorAdapterConfig()) | "Analyze" >> tft_beam.AnalyzeDataset(preprocess)


def _select_columns(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(batch.schema.get_field_index(name)) for name in columns], columns)


class _WriteStatistics(beam.PTransform):
    """Writes TFDV's statistics of a split to a file."""

    def __init__(self, path: str, temp_dir: str) -> None:
        super().__init__()
        self._path = path
        self._temp_dir = temp_dir

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        path, temp_dir = self._path, self._temp_dir
        # TFDV's own writer uses a file sink of Beam, which leaves a folder behind if a worker is killed.
        return (
            batches
            | tfdv.GenerateStatistics(statistics_options())
            | beam.Map(lambda statistics: write_file(path, statistics.SerializeToString(), temp_dir))
        )


def _publish(model: beam.PCollection, metadata: Any, temp_dir: str, settings: Settings) -> beam.PCollection:
    """Writes the Transform graph and its vectorizer; the result is the path of their folder, unique to the attempt."""
    path = metadata | "Metadata" >> tft_beam.WriteMetadata(temp_dir, model.pipeline, write_to_unique_subdirectory=True)
    return model | "Publish" >> beam.Map(_write_graph, beam.pvalue.AsSingleton(path), temp_dir, settings.to_json())


def _write_graph(model: str, metadata: str, temp_dir: str, settings: str) -> str:
    folder = Path(temp_dir, f"graph-{uuid.uuid4().hex}")
    shutil.copytree(model, folder / GRAPH / tft.TFTransformOutput.TRANSFORM_FN_DIR)
    shutil.copytree(metadata, folder / GRAPH / tft.TFTransformOutput.TRANSFORMED_METADATA_DIR)
    export_vectorizer(folder / GRAPH, folder / VECTORIZER, Settings.from_json(settings))
    return str(folder)


class _AddVectors(beam.DoFn):
    """Adds vectors to the stories of a file, and yields the name of the written file and its number of stories.

    Args:
        temp_dir: folder for files that are still being written.
    """

    def __init__(self, temp_dir: str) -> None:
        super().__init__()
        self._temp_dir = temp_dir

    def process(self, names: tuple[str, str], graph: str) -> Iterator[tuple[str, int]]:
        source, target = names
        contents = _with_vectors(read_records(source), _vectorizer(str(Path(graph, VECTORIZER))))
        yield target, write_records(target, contents, self._temp_dir)

    def teardown(self) -> None:
        _load.cache_clear()


_LOADING = threading.Lock()


def _vectorizer(path: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Loads a vectorizer once per process, for all its threads and files."""
    with _LOADING:
        return _load(path)


@functools.lru_cache(maxsize=1)
def _load(path: str) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.saved_model.load(path)


def _with_vectors(contents: Iterable[bytes], vectorizer: Callable[[tf.Tensor], tf.Tensor]) -> Iterator[bytes]:
    """Yields serialized stories with their vectors, computed for `BATCH` stories at a time."""
    contents = iter(contents)
    while batch := [tf.train.Example.FromString(content) for content in itertools.islice(contents, BATCH)]:
        sentences = [example.features.feature[example_schema.SENTENCES].bytes_list.value for example in batch]
        vectors = vectorizer(tf.constant(list(itertools.chain(*sentences)))).numpy()
        for example, rows in zip(batch, vectors.reshape(len(batch), -1), strict=True):
            example.features.feature[example_schema.VECTORS].float_list.value.extend(rows)
            yield example.SerializeToString(deterministic=True)


def _write_outcome(temp_dir: str, graph: str, written: list[tuple[str, int]]) -> None:
    write_file(f"{temp_dir}/{_OUTCOME}", json.dumps({"graph": graph, "written": written}).encode(), temp_dir)
