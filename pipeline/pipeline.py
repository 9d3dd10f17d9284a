"""`create_pipeline`: stories in, a served StoryGAN out. Pure: it takes every path and touches none."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx.orchestration.metadata import sqlite_metadata_connection_config

from components.serving_check.component import ServingCheck
from components.story_evaluator.component import StoryEvaluator
from components.story_example_gen.component import StoryExampleGen
from pipeline.settings import (
    EVALUATOR_SETTINGS,
    EXAMPLE_GEN_SETTINGS,
    trainer_arguments,
    transform_arguments,
)
from storygan_tf import records
from storygan_tf.config import Settings
from storygan_tf.fingerprint import code_fingerprint

PIPELINE_NAME = "storygan"


def create_pipeline(
    settings: Settings,
    *,
    data_dir: str,
    pipeline_root: str,
    serving_dir: str,
    work_dir: str,
    metadata_path: str,
    data_fingerprint: str,
    rejects_path: str = "",
    run_info: str = "{}",
    beam_pipeline_args: Sequence[str] = (),
) -> tfx.dsl.Pipeline:
    """Returns the pipeline StoryExampleGen ... Pusher.

    Args:
        settings: everything that the run is made of.
        data_dir: folder of stories.
        pipeline_root: where artifacts go.
        serving_dir: model base directory that Pusher adds a version to.
        work_dir: where the Trainer keeps checkpoints between attempts.
        metadata_path: sqlite file of ML Metadata.
        data_fingerprint: changes when anything in `data_dir` does.
        rejects_path: where StoryExampleGen leaves a copy of its rejects even when it fails; empty for nowhere.
        run_info: JSON for the report: the commands that made and use the run.
        beam_pipeline_args: Beam's options, the runner among them.
    """
    example_gen = StoryExampleGen(
        data_dir=data_dir,
        settings=settings.to_json(*EXAMPLE_GEN_SETTINGS),
        data_fingerprint=data_fingerprint,
        code_fingerprint=code_fingerprint("components.story_example_gen.executor"),
        rejects_path=rejects_path,
    )
    examples = example_gen.outputs["examples"]
    statistics_gen = tfx.components.StatisticsGen(examples=examples, stats_options=_statistics_options())
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = tfx.components.SchemaGen(statistics=statistics, infer_feature_shape=True)
    schema = schema_gen.outputs["schema"]
    validator = tfx.components.ExampleValidator(statistics=statistics, schema=schema)
    transform = tfx.components.Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn="pipeline.preprocessing.preprocessing_fn",
        splits_config=tfx.proto.SplitsConfig(analyze=["train"], transform=["train", "test"]),
        custom_config=transform_arguments(settings).to_custom_config(),
    )
    trainer = tfx.components.Trainer(
        run_fn="pipeline.trainer.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["test"]),
        custom_config=trainer_arguments(settings, work_dir).to_custom_config(),
    )
    model = trainer.outputs["model"]
    evaluator = StoryEvaluator(
        examples=examples,
        model=model,
        model_run=trainer.outputs["model_run"],
        settings=settings.to_json(*EVALUATOR_SETTINGS),
        code_fingerprint=code_fingerprint("components.story_evaluator.executor"),
        run_info=run_info,
    )
    serving_check = ServingCheck(
        model=model,
        examples=examples,
        code_fingerprint=code_fingerprint("components.serving_check.executor"),
    )
    pusher = tfx.components.Pusher(
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=serving_check.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=serving_dir)
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name=PIPELINE_NAME,
        pipeline_root=pipeline_root,
        components=[
            example_gen,
            statistics_gen,
            schema_gen,
            validator,
            transform,
            trainer,
            evaluator,
            serving_check,
            pusher,
        ],
        enable_cache=True,
        metadata_connection_config=sqlite_metadata_connection_config(metadata_path),
        beam_pipeline_args=list(beam_pipeline_args),
    )


def _statistics_options() -> tfdv.StatsOptions:
    """Says that `images` are pictures, so that their bytes are not counted like words."""
    feature = schema_pb2.Feature(name=records.IMAGES, type=schema_pb2.BYTES)
    feature.image_domain.SetInParent()
    return tfdv.StatsOptions(schema=schema_pb2.Schema(feature=[feature]))
