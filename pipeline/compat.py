"""Private and undocumented parts of TFX, TensorFlow Transform, ML Metadata and Beam that this package relies on.

Every use of such a part in `pipeline` is here, one function each, tried with TFX 1.15.1, TensorFlow Transform 1.15,
ML Metadata 1.15 and Beam 2.74. `tests/pipeline/test_compat.py` fails by name when a library changes one of them.

Libraries are imported inside the functions: `pipeline.vectorizer_export` uses this module where TFX is not loaded, and
kfp is not installed everywhere.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf
    from kfp.pipeline_spec import pipeline_spec_pb2
    from ml_metadata import metadata_store
    from ml_metadata.proto import metadata_store_pb2
    from tfx import types
    from tfx.dsl.components.base.base_component import BaseComponent

Artifacts = dict[str, list["types.Artifact"]]


# TFX 1.15.1, running a pipeline


@contextlib.contextmanager
def hidden_command_line() -> Iterator[None]:
    """Hides the arguments of the process from TFX within the context.

    TFX 1.15.1. `BaseBeamExecutor` parses `sys.argv` as flags of absl when it is constructed, so that an option of ours
    would set, or fail as, a flag of the same name in any library. There is no public way to construct it without that.
    """
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


class StepState(enum.Enum):
    """The state of a step that a log record of LocalDagRunner reports."""

    STARTED = enum.auto()
    CACHED = enum.auto()
    FINISHED = enum.auto()


def read_step_state(record: logging.LogRecord) -> tuple[StepState, str] | None:
    """Returns the state and the name of the step that a log record is about.

    TFX 1.15.1. `LocalDagRunner` reports which step runs, and whether it was cached, in its log alone; it takes no
    callback.

    Args:
        record: any log record.

    Returns:
        The state and the step's name, which is empty for `StepState.CACHED`; None if the record is about something
        else.
    """
    message = str(record.msg)
    if message.startswith("A cached execution"):
        return StepState.CACHED, ""
    states = {"Component %s is running.": StepState.STARTED, "Component %s is finished.": StepState.FINISHED}
    if message not in states or not isinstance(record.args, tuple):
        return None
    return states[message], str(record.args[0])


def add_exec_properties(component: BaseComponent, properties: Mapping[str, Any]) -> None:
    """Adds execution properties that the specification of a component does not declare.

    TFX 1.15.1. The compiler passes whatever `component.spec.exec_properties` holds to the executor. The public way is a
    `ComponentSpec` with the property as a parameter, which means to repeat TFX's own component.

    Args:
        component: the component, changed in place.
        properties: values by name: strings or runtime parameters.
    """
    component.spec.exec_properties.update(properties)


# ML Metadata 1.15, as TFX 1.15.1 fills it


def step_executions(
    store: metadata_store.MetadataStore, pipeline_name: str, step: str
) -> list[metadata_store_pb2.Execution]:
    """Returns the complete and cached executions of a step, oldest first.

    TFX 1.15.1. TFX relates the executions of a step to a context of type `node` with the name `<pipeline>.<step>`.
    There is no public interface that lists the executions of a step.
    """
    from ml_metadata.proto import metadata_store_pb2

    context = store.get_context_by_type_and_name("node", f"{pipeline_name}.{step}")
    succeeded = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
    executions = store.get_executions_by_context(context.id)
    return sorted((one for one in executions if one.last_known_state in succeeded), key=lambda one: one.id)


def pipeline_run_ids(store: metadata_store.MetadataStore, execution_id: int) -> list[str]:
    """Returns the ids of the pipeline runs that an execution was part of.

    TFX 1.15.1. TFX relates an execution to a context of type `pipeline_run` that is named after the run's id. There is
    no public interface for it.
    """
    types_by_id = {kind.id: kind.name for kind in store.get_context_types()}
    contexts = store.get_contexts_by_execution(execution_id)
    return [context.name for context in contexts if types_by_id[context.type_id] == "pipeline_run"]


def output_artifact(
    store: metadata_store.MetadataStore, execution_id: int, key: str
) -> metadata_store_pb2.Artifact | None:
    """Returns the artifact that an execution wrote as output `key`, or None if it has no such output.

    TFX 1.15.1. TFX names an output in the first step of the path of an output event. There is no public interface that
    reads the outputs of an execution.
    """
    from ml_metadata.proto import metadata_store_pb2

    for event in store.get_events_by_execution_ids([execution_id]):
        if event.type == metadata_store_pb2.Event.OUTPUT and event.path.steps[0].key == key:
            return store.get_artifacts_by_id([event.artifact_id])[0]
    return None


# TFX 1.15.1, pipeline specifications and messages of launchers


def find_task_and_container(spec: Mapping[str, Any], step: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the task and the container of a step in a PipelineSpec that TFX compiled.

    TFX 1.15.1. `KubeflowV2DagRunner` calls the task of a component by its id and its executor `<id>_executor`. The
    runner's public options set one image and one command for all steps, and no arguments, resources or retries of a
    single step.

    Args:
        spec: the PipelineSpec as a dictionary.
        step: id of the component.

    Returns:
        The dictionaries within `spec`; to change them changes the specification.
    """
    container: dict[str, Any] = spec["deploymentSpec"]["executors"][f"{step}_executor"]["container"]
    task: dict[str, Any] = spec["root"]["dag"]["tasks"][step]
    return task, container


def artifact_type_name(definition: Mapping[str, Any]) -> str:
    """Returns TFX's name of an artifact's type, such as `Model`, from its definition in a compiled PipelineSpec.

    TFX 1.15.1. The compiler writes a type as a YAML schema with the title `tfx.<name>`. There is no public function
    that reads it back.

    Args:
        definition: an entry of a component's `inputDefinitions` or `outputDefinitions`.
    """
    import yaml

    title: str = yaml.safe_load(definition["artifactType"]["instanceSchema"])["title"]
    return title.rpartition(".")[2]


def parse_artifacts(
    messages: Mapping[str, pipeline_spec_pb2.ArtifactList], classes: Mapping[str, str], names: MutableMapping[int, str]
) -> Artifacts:
    """Returns the artifacts of an ExecutorInput message as TFX's artifacts.

    TFX 1.15.1. `parse_raw_artifact_dict` is internal to TFX's own entry point, which takes the types of artifacts from
    the message. Kubeflow Pipelines 2 gives other types there, or none. A dotted name in the place of the type's title
    is imported as the artifact's class.

    Args:
        messages: the artifacts by the name of the input or output; their types are replaced in place.
        classes: dotted name of the artifacts' class, by the name of the input or output.
        names: filled with the name of each artifact in the cluster's metadata, by the id that the artifact gets here.
    """
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils

    for key, message in messages.items():
        for artifact in message.artifacts:
            artifact.type.Clear()
            artifact.type.schema_title = classes[key]
    artifacts: Artifacts = kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict(messages, names)
    return artifacts


def executor_output(
    outputs: Mapping[str, Sequence[types.Artifact]], names: Mapping[int, str]
) -> pipeline_spec_pb2.ExecutorOutput:
    """Returns the ExecutorOutput message for the outputs of a step.

    TFX 1.15.1. `translate_executor_output` is internal to TFX's own entry point, which this project does not use (see
    `parse_artifacts`).

    Args:
        outputs: the artifacts by the output's name, one each; they are tagged with TFX's version.
        names: what `parse_artifacts` filled.
    """
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils
    from tfx.orchestration.portable import outputs_utils

    outputs_utils.tag_output_artifacts_with_version(outputs)
    message = pipeline_spec_pb2.ExecutorOutput()
    for key, artifacts in kubeflow_v2_entrypoint_utils.translate_executor_output(outputs, names).items():
        message.artifacts[key].CopyFrom(artifacts)
    return message


# TensorFlow Transform 1.15


def load_transform_function(saved_model: str) -> tuple[Any, tf.types.experimental.ConcreteFunction]:
    """Loads a Transform graph as a function that other functions can call.

    TensorFlow Transform 1.15. The SavedModel has its function as the attribute `transform_fn`. The public way,
    `TFTransformOutput.transform_features_layer`, gives a Keras layer, where the exported vectorizer is plain
    TensorFlow.

    Args:
        saved_model: folder of the SavedModel, `TFTransformOutput.transform_savedmodel_dir`.

    Returns:
        The loaded object, which must be kept as long as the function is used, and the function. The function takes a
        dictionary of all raw features as its only argument and returns a dictionary of transformed features.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(saved_model)
    return loaded, loaded.transform_fn


def raw_feature_specs(transform: tf.types.experimental.ConcreteFunction) -> dict[str, tf.TensorSpec]:
    """Returns the raw features that a function of `load_transform_function` takes, by their names.

    TensorFlow Transform 1.15. The dictionary of features is the first positional argument. The public
    `TFTransformOutput.raw_feature_spec` lists features to parse, not the tensors of the function.
    """
    specs: dict[str, tf.TensorSpec] = transform.structured_input_signature[0][0]
    return specs


# Beam 2.74


def remove_beam_leftovers(root: Path) -> None:
    """Removes the temporary folders that Beam's file sinks leave below a folder if a worker is killed.

    Beam 2.74. `FileBasedSink` writes into `beam-temp-*` folders next to its output and removes them only when it
    finishes. There is no public option for another place.
    """
    for folder in list(root.rglob("beam-temp-*")):
        shutil.rmtree(folder)
