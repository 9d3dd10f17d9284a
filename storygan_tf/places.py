"""Where an exported model stands: `--model M`, the same in every command."""

from __future__ import annotations

from pathlib import Path

from storygan_tf.errors import ModelError

ASSETS_EXTRA = "assets.extra"
"""In a version directory: what is told of the model."""

BASE_DIRECTORY = Path("serving_model") / "storygan"
"""Below a run directory: the model base directory, with a version directory for each pushed model."""


def find_model(model: str | Path) -> Path:
    """Returns the version directory that `model` means.

    Args:
        model: a run directory, a model base directory (its newest whole version) or a version directory.

    Raises:
        ModelError: where there is no exported model.
    """
    path = Path(model)
    if not path.is_dir():
        raise ModelError(f"--model {model}: no such folder; expected a run, model base or version directory.")
    if (path / "saved_model.pb").is_file():
        return path
    base = path / BASE_DIRECTORY if (path / BASE_DIRECTORY).is_dir() else path
    version = newest_version(str(base))
    if not version:
        raise ModelError(
            f"--model {model}: holds no exported model; expected {base}/<version>/saved_model.pb. If the run was not "
            "pushed, its report.html says why."
        )
    return base / version


def newest_version(base: str) -> str:
    """Returns the name of the newest whole version in a model base directory; empty where there is none."""
    from tensorflow.io import gfile

    names = [name.rstrip("/") for name in gfile.listdir(base)] if gfile.isdir(base) else []
    whole = [name for name in names if name.isdigit() and gfile.exists(f"{base}/{name}/saved_model.pb")]
    return max(whole, key=int, default="")
