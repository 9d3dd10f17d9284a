"""Where an exported model stands: `--model M`, the same in every command."""

from __future__ import annotations

from pathlib import Path

from storygan_tf.common.errors import ModelError, nearest

ASSETS_EXTRA = "assets.extra"
"""In a version directory: what is told of the model."""

BASE_DIRECTORY = Path("serving_model") / "storygan"
"""Below a run directory: the model base directory, with a version directory for each pushed model."""

WORK_DIRECTORY = "work"
"""Below a run directory: a folder for each training, with its checkpoints."""

PRETRAINED = Path(__file__).absolute().parents[1] / "export" / "pretrained"
"""The models that ship with this package: a version directory for each name."""


def pretrained_names() -> list[str]:
    """Returns the names of the models that ship with this package, sorted."""
    return sorted(graph.parent.name for graph in PRETRAINED.glob("*/saved_model.pb"))


def find_model(model: str | Path, option: str = "--model") -> Path:
    """Returns the version directory that `model` means, as an absolute path.

    Args:
        model: a pretrained name (text alone: a `Path` is always a path), a run directory, a model base directory (its
            newest whole version) or a version directory. A folder that has the name of a pretrained model is meant
            where it is written as a path: `./blocks`.
        option: how an error calls it.

    Raises:
        ModelError: where there is no exported model.
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
    if (path / "saved_model.pb").is_file():
        return path
    base = path / BASE_DIRECTORY if (path / BASE_DIRECTORY).is_dir() else path
    version = newest_version(str(base))
    if not version:
        raise ModelError(
            f"{option} {model}: holds no exported model; expected {base}/<version>/saved_model.pb. If the run was not "
            "pushed, its report.html says why."
        )
    return base / version


def portable_name(model: str) -> str:
    """Returns what means the same model from every working directory: its pretrained name, or an absolute path."""
    return model if model in pretrained_names() else str(Path(model).absolute())


def run_directory_of(version: Path) -> Path | None:
    """Returns the run directory that a version was pushed into, None where it lies elsewhere."""
    base = version.absolute().parent
    return base.parents[len(BASE_DIRECTORY.parts) - 1] if base.match(str(BASE_DIRECTORY)) else None


def newest_version(base: str) -> str:
    """Returns the name of the newest whole version in a model base directory; empty where there is none."""
    from tensorflow.io import gfile

    names = [name.rstrip("/") for name in gfile.listdir(base)] if gfile.isdir(base) else []
    whole = [name for name in names if name.isdigit() and gfile.exists(f"{base}/{name}/saved_model.pb")]
    return max(whole, key=int, default="")
