"""Finds an exported model from the value of a `--model` option. All commands use the same rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from storygan_tf.common.errors import ModelError, nearest

ASSETS_EXTRA = "assets.extra"
"""Folder in a version directory that holds descriptions of the model: its configuration, lineage and model card."""

BASE_DIRECTORY = Path("serving_model") / "storygan"
"""The model base directory of a run directory. It holds a version directory for each pushed model."""

WORK_DIRECTORY = "work"
"""Folder in a run directory that holds a folder for each training, with its checkpoints."""

PRETRAINED = Path(__file__).absolute().parents[1] / "export" / "pretrained"
"""Folder of the models that ship with this package, a version directory for each name."""

_GRAPH = "saved_model.pb"
"""The file that marks a version directory as complete."""


def pretrained_names() -> list[str]:
    """Returns the names of the models that ship with this package, sorted."""
    return sorted(graph.parent.name for graph in PRETRAINED.glob(f"*/{_GRAPH}"))


def find_model(model: str | Path, option: str = "--model") -> Path:
    """Returns the absolute path of the version directory that `model` refers to.

    Args:
        model: a pretrained name, a run directory, a model base directory (its newest complete version is used) or a
            version directory. A folder with the name of a pretrained model can be given as a `Path`, or as text such
            as `./blocks`.
        option: the command-line option that error messages name.

    Raises:
        ModelError: if there is no exported model.
    """
    names = pretrained_names()
    if isinstance(model, str) and model in names:
        return PRETRAINED / model
    path = Path(model).absolute()
    if not path.is_dir():
        raise ModelError(
            f"{option} {model}: no such folder and no pretrained model{nearest(str(model), names)} (there are: "
            f"{', '.join(names) or 'none'}). Give the path of a run, model base or version directory, or such a name."
        )
    if (path / _GRAPH).is_file():
        return path
    base = path / BASE_DIRECTORY if (path / BASE_DIRECTORY).is_dir() else path
    version = newest_version(str(base))
    if not version:
        raise ModelError(
            f"{option} {model}: holds no exported model; expected {base}/<version>/{_GRAPH}. If the run was not "
            "pushed, its report.html says why."
        )
    return base / version


def portable_name(model: str) -> str:
    """Returns a name of the same model that is valid in every working directory.

    Returns:
        `model` if it is a pretrained name, otherwise its absolute path.
    """
    return model if model in pretrained_names() else str(Path(model).absolute())


def run_directory_of(version: Path) -> Path | None:
    """Returns the run directory that a version directory belongs to, or None if it is not part of a run directory."""
    base = version.absolute().parent
    return base.parents[len(BASE_DIRECTORY.parts) - 1] if base.match(str(BASE_DIRECTORY)) else None


def newest_version(base: str) -> str:
    """Returns the name of the newest complete version in a model base directory, or an empty string if there is none.

    Args:
        base: path that TensorFlow's file systems can read.
    """
    from tensorflow.io import gfile

    names = [name.rstrip("/") for name in gfile.listdir(base)] if gfile.isdir(base) else []
    names = [name for name in names if name.isdigit()]
    return newest_version_among(f"{name}/{_GRAPH}" for name in names if gfile.exists(f"{base}/{name}/{_GRAPH}"))


def newest_version_among(files: Iterable[str]) -> str:
    """Returns the name of the newest complete version in a listing, or an empty string if there is none.

    A version is complete if its `saved_model.pb` is in the listing. Versions are compared as numbers.

    Args:
        files: names of the files below a model base directory, relative to it, such as `3/saved_model.pb`.
    """
    parts = [PurePosixPath(file).parts for file in files]
    complete = [names[0] for names in parts if names[1:] == (_GRAPH,)]
    return max((name for name in complete if name.isdigit()), key=int, default="")
