"""A run directory: what stands where in it, and that it belongs to one configuration.

It imports nothing heavy, so that a wrong path is told before TFX is loaded.
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
    """A run directory that was claimed for settings and data.

    Attributes:
        path: the directory.
        settings: everything that the run is made of.
        data: folder of stories.
    """

    path: Path
    settings: Settings
    data: Path

    @classmethod
    def claim(
        cls, path: Path, settings: Settings, data: Path, reconfigure: bool = False, name: str = ""
    ) -> RunDirectory:
        """Makes a run directory, or checks that it belongs to these settings and data.

        Args:
            path: made where it is not there.
            settings: everything that the run is made of.
            data: folder of stories.
            reconfigure: whether it may go on with other settings or data than it was made with.
            name: of the data, where `data` is a copy of it.

        Raises:
            ConfigError: where it belongs to another configuration, cannot be written, or holds the model that the run
                is to start from.
            DataError: where there is no data.
        """
        if not data.is_dir():
            raise DataError(f"--data {data}: no such folder; expected one of stories (see `storygan data --help`).")
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
        """What the run was made with."""
        return self.path / SETTINGS_FILE

    @property
    def log(self) -> Path:
        """Everything that TFX and Beam logged."""
        return self.path / "run.log"

    @property
    def metadata(self) -> Path:
        """ML Metadata, in sqlite."""
        return self.path / "metadata.sqlite"

    @property
    def pipeline_root(self) -> Path:
        """The artifacts of each step."""
        return self.path / "pipeline"

    @property
    def work(self) -> Path:
        """Checkpoints, so that a killed run goes on."""
        return self.path / WORK_DIRECTORY

    @property
    def serving(self) -> Path:
        """TensorFlow Serving's model base directory."""
        return self.path / BASE_DIRECTORY

    @property
    def gate(self) -> Path:
        """What this run left under the push destination (see `pipeline.push_destination`)."""
        return self.path / "gate.json"

    @property
    def inputs(self) -> Path:
        """Where the newest evaluation's stories, judge and model are (see `pipeline.run_comparison`)."""
        return self.path / "inputs.json"

    @property
    def digests(self) -> Path:
        """What the data's files were like when read last (see `storygan_tf.data.datasets.data_fingerprint`)."""
        return self.path / "data_digests.json"

    @property
    def rejects(self) -> Path:
        """The stories that were set aside, a JSON object a line."""
        return self.path / "rejects.jsonl"


def _check_initial(path: Path, init_from: str) -> None:
    """Keeps a run from starting from what it pushes itself, and so anew each time."""
    if init_from and init_from not in pretrained_names() and Path(init_from).resolve().is_relative_to(path.resolve()):
        raise ConfigError(
            f"--init-from {init_from}: lies in the run directory {path} itself; choose another --out for the new run."
        )


def _check_same(path: Path, found: Any, wanted: Any) -> None:
    differences = list(_differences(found, wanted))
    if differences:
        raise ConfigError(
            f"--out {path} is the run directory of another configuration: {'; '.join(differences[:5])}. Choose another "
            "folder, or add --reconfigure to go on here with the new one."
        )


def _differences(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}".removeprefix(".settings."))
    elif found != wanted:
        yield f"{name.lstrip('.')} was {json.dumps(found)}, now {json.dumps(wanted)}"
