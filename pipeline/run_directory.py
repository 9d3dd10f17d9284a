"""A run directory: the paths in it, and the check that it belongs to one configuration.

This module imports nothing heavy, so that a wrong path is reported before TFX is loaded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import ConfigError, DataError
from storygan_tf.common.model_paths import BASE_DIRECTORY, WORK_DIRECTORY, pretrained_names
from storygan_tf.config.schema import Settings

SETTINGS_FILE = "settings.json"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run directory, which belongs to one configuration and one folder of stories. Create it with `open`.

    Attributes:
        path: the directory.
        settings: all settings of the run.
        data: folder of stories.
    """

    path: Path
    settings: Settings
    data: Path

    @classmethod
    def open(
        cls, path: Path, settings: Settings, data: Path, reconfigure: bool = False, name: str = ""
    ) -> RunDirectory:
        """Creates a run directory, or checks that an existing one belongs to these settings and data.

        Args:
            path: the directory, created if it does not exist.
            settings: all settings of the run.
            data: folder of stories.
            reconfigure: whether to accept a directory of other settings or data, which then belongs to these.
            name: name of the data if `data` is a copy of it; by default the path of `data`.

        Returns:
            The run directory.

        Raises:
            ConfigError: if the directory belongs to another configuration, cannot be written, or contains the model
                that the training starts from.
            DataError: if the data folder does not exist.
        """
        if not data.is_dir():
            raise DataError(f"--data {data}: no such folder; expected a folder of stories (`storygan data --help`).")
        run = cls(path.absolute(), settings, data.absolute())
        _check_initial(path, settings.training.init_from)
        wanted = {"settings": json.loads(settings.to_json()), "data": name or str(run.data)}
        if run.settings_file.exists() and not reconfigure:
            _check_same(path, json.loads(run.settings_file.read_text()), wanted)
        try:
            write_atomically(run.settings_file, json.dumps(wanted, indent=1, sort_keys=True).encode())
        except DataError as error:
            raise ConfigError(f"--out {path}: cannot be used; choose another folder. {error}") from error
        return run

    @property
    def settings_file(self) -> Path:
        """The settings and the data that the directory belongs to."""
        return self.path / SETTINGS_FILE

    @property
    def log(self) -> Path:
        """Log file of TFX and Beam."""
        return self.path / "run.log"

    @property
    def metadata(self) -> Path:
        """The store of ML Metadata, a sqlite file."""
        return self.path / "metadata.sqlite"

    @property
    def pipeline_root(self) -> Path:
        """Root folder of the artifacts of all steps."""
        return self.path / "pipeline"

    @property
    def work(self) -> Path:
        """Folder of checkpoints, from which a killed run resumes."""
        return self.path / WORK_DIRECTORY

    @property
    def serving(self) -> Path:
        """TensorFlow Serving's model base directory."""
        return self.path / BASE_DIRECTORY

    @property
    def push_state(self) -> Path:
        """State of the push destination when the last run ended (see `pipeline.push_destination`)."""
        return self.path / "gate.json"

    @property
    def evaluation_inputs(self) -> Path:
        """Paths of the stories, the judge and the model of the newest evaluation (see `pipeline.run_comparison`)."""
        return self.path / "inputs.json"

    @property
    def data_digests(self) -> Path:
        """Cached digests of the data's files (see `storygan_tf.data.datasets.data_fingerprint`)."""
        return self.path / "data_digests.json"

    @property
    def rejects(self) -> Path:
        """The rejected stories, one JSON object per line."""
        return self.path / "rejects.jsonl"


def _check_initial(path: Path, init_from: str) -> None:
    """Raises ConfigError if a run would start from a model that it pushes itself."""
    if init_from and init_from not in pretrained_names() and Path(init_from).resolve().is_relative_to(path.resolve()):
        raise ConfigError(
            f"--init-from {init_from}: is in the run directory {path} itself; choose another --out for the new run."
        )


def _check_same(path: Path, found: Any, wanted: Any) -> None:
    differences = list(_differences(found, wanted))
    if differences:
        raise ConfigError(
            f"--out {path} is the run directory of another configuration: {'; '.join(differences[:5])}. Choose another "
            "folder, or add --reconfigure to use this one with the new configuration."
        )


def _differences(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}".removeprefix(".settings."))
    elif found != wanted:
        yield f"{name.lstrip('.')} was {json.dumps(found)}, now {json.dumps(wanted)}"
