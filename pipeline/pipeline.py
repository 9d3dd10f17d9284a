"""Defines the TFX pipeline: from a folder of stories to a pushed StoryGAN."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tfx.components import Pusher, SchemaGen, StatisticsGen
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2

from components.judge_trainer.component import JudgeTrainer
from components.serving_check.component import ServingCheck
from components.story_evaluator.component import StoryEvaluator
from components.story_example_gen.component import StoryExampleGen
from components.story_validator.component import StoryValidator
from pipeline.bulk_inference import bulk_inferrer
from pipeline.code_fingerprint import code_fingerprint
from pipeline.runtime_parameters import RuntimeParameters, StoryTrainer, StoryTransform
from pipeline.statistics import statistics_options
from pipeline.step_inputs import (
    EVALUATOR_SETTINGS,
    EXAMPLE_GEN_SETTINGS,
    JUDGE_SETTINGS,
    VALIDATOR_SETTINGS,
    trainer_arguments,
    transform_arguments,
)
from storygan_tf.config.schema import Settings

PIPELINE_NAME = "storygan"

STEP_MODULES = {
    "StoryExampleGen": "components.story_example_gen.executor",
    "ExampleValidator": "components.story_validator.executor",
    "Transform": "pipeline.preprocessing",
    "Trainer": "pipeline.trainer_module",
    "JudgeTrainer": "components.judge_trainer.executor",
    "StoryEvaluator": "components.story_evaluator.executor",
}
"""The modules whose code an evaluated model depends on, by the name of the step that runs them."""


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """Facts about a run for its report and its lineage.

    Attributes:
        commands: commands that repeat or use the run, by their purpose.
        environment: `lock` and `packages`: fingerprints of the lock file and of the installed packages.
        initial: `model` and `sha256` of the model that the training starts from; empty if it starts from none.
    """

    commands: Mapping[str, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    initial: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self, settings: Settings | None, code: Mapping[str, str]) -> str:
        """Returns the JSON text for StoryEvaluator's parameter `run_info`.

        Args:
            settings: the settings of the run, or None if they are runtime parameters.
            code: fingerprint of the code of each step, by the step's name.
        """
        run_settings = {"settings": json.loads(settings.to_json())} if settings else {}
        return json.dumps(dataclasses.asdict(self) | run_settings | {"code": code}, sort_keys=True)


def create_pipeline(
    settings: Settings,
    *,
    data_dir: str,
    pipeline_root: str,
    serving_dir: str,
    work_dir: str,
    data_fingerprint: str,
    metadata_path: str = "",
    label_names: Sequence[str] = (),
    initial_fingerprint: str = "",
    judge_fingerprint: str = "",
    inputs_fingerprint: str = "",
    rejects_path: str = "",
    run_info: RunInfo | None = None,
    beam_pipeline_args: Sequence[str] = (),
    parameters: RuntimeParameters | None = None,
) -> Pipeline:
    """Implements the StoryGAN pipeline with TFX.

    The function is pure: it takes every path as an argument and neither reads nor writes any.

    Args:
        settings: all settings of the run.
        data_dir: folder of stories.
        pipeline_root: root folder of the artifacts.
        serving_dir: model base directory; Pusher adds a version directory to it.
        work_dir: folder in which the Trainer keeps checkpoints between attempts.
        data_fingerprint: text that changes when the content of `data_dir` changes.
        metadata_path: sqlite file of ML Metadata; empty on a cluster, which has its own store.
        label_names: names of the stories' labels, which the exported model contains.
        initial_fingerprint: text that changes when the model in `training.init_from` changes.
        judge_fingerprint: text that changes when the judge in `evaluation.judge` changes.
        inputs_fingerprint: text that changes when other inputs of the evaluator than artifacts change: the push
            destination and the networks.
        rejects_path: file for a copy of the stories that StoryExampleGen rejects, which is written even if the step
            fails; empty for no copy.
        run_info: facts about the run for the report and the lineage.
        beam_pipeline_args: options for Beam, including the runner.
        parameters: runtime parameters that replace the settings, the data folder, its fingerprint and the names of its
            labels when the pipeline is submitted to a cluster; None for a pipeline without runtime parameters.

    Returns:
        The TFX pipeline.
    """

    def settings_json(*parts: str) -> Any:
        return parameters.settings_json if parameters else settings.to_json(*parts)

    code = {step: code_fingerprint(module) for step, module in STEP_MODULES.items()}
    example_gen = StoryExampleGen(
        data_dir=parameters.data if parameters else data_dir,
        settings=settings_json(*EXAMPLE_GEN_SETTINGS),
        data_fingerprint=parameters.data_fingerprint if parameters else data_fingerprint,
        code_fingerprint=code["StoryExampleGen"],
        rejects_path=rejects_path,
    )
    examples = example_gen.outputs["examples"]
    statistics_gen = StatisticsGen(examples=examples, stats_options=statistics_options())
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = SchemaGen(statistics=statistics, infer_feature_shape=True)
    validator = StoryValidator(
        examples=examples,
        statistics=statistics,
        schema=schema_gen.outputs["schema"],
        settings=settings_json(*VALIDATOR_SETTINGS),
        code_fingerprint=code["ExampleValidator"],
    ).with_id("ExampleValidator")
    transform = StoryTransform(
        examples=examples,
        schema=validator.outputs["expected_schema"],
        preprocessing_fn="pipeline.preprocessing.preprocessing_fn",
        custom_config=transform_arguments(settings, initial_fingerprint).to_custom_config(),
    ).with_id("Transform")
    trainer = StoryTrainer(
        run_fn="pipeline.trainer_module.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["test"]),
        custom_config=trainer_arguments(settings, work_dir, initial_fingerprint, label_names).to_custom_config(),
    ).with_id("Trainer")
    if parameters:
        parameters.add_to_transform(transform)
        parameters.add_to_trainer(trainer)
    model = trainer.outputs["model"]
    judge_trainer = JudgeTrainer(
        examples=examples,
        settings=settings_json(*JUDGE_SETTINGS),
        code_fingerprint=code["JudgeTrainer"] + judge_fingerprint,
    )
    # The judge is not trained on invalid data, either.
    judge_trainer.add_upstream_node(validator)
    evaluator = StoryEvaluator(
        examples=examples,
        model=model,
        judge=judge_trainer.outputs["judge"],
        model_run=trainer.outputs["model_run"],
        anomalies=validator.outputs["anomalies"],
        settings=settings_json(*EVALUATOR_SETTINGS),
        serving_dir=serving_dir,
        code_fingerprint=code["StoryEvaluator"],
        data_fingerprint=parameters.data_fingerprint if parameters else data_fingerprint,
        inputs_fingerprint=inputs_fingerprint,
        run_info=(run_info or RunInfo()).to_json(None if parameters else settings, code),
        training=parameters.training_json if parameters else None,
    )
    serving_check = ServingCheck(
        model=model,
        examples=examples,
        evaluation=evaluator.outputs["evaluation"],
        code_fingerprint=code_fingerprint("components.serving_check.executor"),
    )
    pusher = Pusher(
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=serving_check.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=serving_dir)
        ),
    )
    split = settings.serving.bulk_infer
    inferrers = [bulk_inferrer(examples, model, evaluator.outputs["blessing"], split)] if split else []
    return Pipeline(
        pipeline_name=PIPELINE_NAME,
        pipeline_root=pipeline_root,
        components=[
            example_gen,
            statistics_gen,
            schema_gen,
            validator,
            transform,
            trainer,
            judge_trainer,
            evaluator,
            serving_check,
            pusher,
            *inferrers,
        ],
        enable_cache=True,
        metadata_connection_config=sqlite_metadata_connection_config(metadata_path) if metadata_path else None,
        beam_pipeline_args=list(beam_pipeline_args),
    )
