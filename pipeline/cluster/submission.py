"""Creates the pipeline for the targets Kubeflow and Vertex, with its fingerprints and runtime parameters."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tfx.orchestration.pipeline import Pipeline

from pipeline.cluster.cluster_paths import ClusterPaths
from pipeline.cluster.cluster_settings import CompileRequest
from pipeline.evaluation_inputs import judge_fingerprint, networks_fingerprint
from pipeline.pipeline import RunInfo, create_pipeline
from pipeline.runtime_parameters import RuntimeParameters
from storygan_tf.data.datasets import open_configured
from storygan_tf.data.datasets.data_fingerprint import data_fingerprint
from storygan_tf.export.lineage import lock_fingerprint, packages_fingerprint
from storygan_tf.training.warm_start import InitialModel, configured_initial_model


@dataclasses.dataclass(frozen=True)
class Submission:
    """A pipeline that is ready to be compiled.

    Attributes:
        pipeline: the pipeline, with runtime parameters.
        parameters: the runtime parameters and their default values.
        paths: the folders of the run.
        notes: lines of text for the user.
    """

    pipeline: Pipeline
    parameters: RuntimeParameters
    paths: ClusterPaths
    notes: tuple[str, ...]

    @classmethod
    def from_request(cls, request: CompileRequest) -> Submission:
        """Creates the pipeline for a request.

        Raises:
            ConfigError: if a path is not valid, or if the training cannot start from the model in
                `training.init_from`.
            DataError: if the data folder can be read on this machine and does not contain stories.
            ModelError: if the model in `training.init_from`, a judge or a network cannot be loaded on this machine.
        """
        settings, paths = request.settings, ClusterPaths.from_request(request)
        data = _DataInfo.from_request(request)
        initial = configured_initial_model(settings, data.label_names)
        parameters = RuntimeParameters.with_defaults(
            data=request.data,
            data_fingerprint=data.fingerprint,
            label_names=json.dumps(list(data.label_names)),
            settings_json=settings.to_json(),
            training_json="{}",
        )
        pipeline = create_pipeline(
            settings,
            data_dir=request.data,
            pipeline_root=paths.artifacts,
            serving_dir=paths.serving,
            work_dir=paths.work,
            data_fingerprint=data.fingerprint,
            label_names=data.label_names,
            initial_fingerprint=initial.fingerprint if initial else "",
            judge_fingerprint=judge_fingerprint(settings.evaluation),
            inputs_fingerprint=networks_fingerprint(settings.evaluation),
            run_info=_run_info(initial),
            parameters=parameters,
        )
        return cls(pipeline, parameters, paths, data.notes)


@dataclasses.dataclass(frozen=True)
class _DataInfo:
    """What is known about the data when the pipeline is compiled.

    Attributes:
        fingerprint: fingerprint of the data, or of its path if the data cannot be read on this machine.
        label_names: names of the stories' labels; empty if the data cannot be read.
        notes: lines of text for the user.
    """

    fingerprint: str
    label_names: Sequence[str]
    notes: tuple[str, ...]

    @classmethod
    def from_request(cls, request: CompileRequest) -> _DataInfo:
        """Reads the data folder of a request if it is on this machine."""
        folder = Path(request.data)
        if "://" not in request.data and folder.is_dir():
            dataset = open_configured(folder, request.settings.data)
            return cls(data_fingerprint(folder), dataset.label_names or (), ())
        unread = hashlib.sha256(f"unread {request.data}".encode()).hexdigest()
        return cls(
            unread,
            (),
            (
                f"data       {request.data} cannot be read here, so its changes are not detected: set data_fingerprint "
                "to another text when you submit changed data, and label_names if the stories have labels.",
            ),
        )


def _run_info(initial: InitialModel | None) -> RunInfo:
    environment = {"lock": lock_fingerprint(), "packages": packages_fingerprint()}
    return RunInfo(environment=environment, initial=initial.lineage_entry() if initial else {})
