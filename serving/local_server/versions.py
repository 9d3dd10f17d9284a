"""Finds the versions of a model to serve, and checks model configurations, by TensorFlow Serving's rules."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tensorflow_serving.config import model_server_config_pb2

from serving.local_server.status import invalid

LOG = logging.getLogger(__name__)

PLATFORM = "tensorflow"


def find_versions(config: model_server_config_pb2.ModelConfig) -> dict[int, Path]:
    """Returns the version directories to serve, by version number.

    A version is an entry with an integer name (`00000123` is 123). Other names are ignored, so that a writer can write
    a version under another name and rename it when it is complete.

    Args:
        config: the model's configuration: base path and version policy (by default the latest version).

    Raises:
        StatusError: INVALID_ARGUMENT if the base path cannot be read.
    """
    base = Path(config.base_path)
    try:
        names = sorted(path.name for path in base.iterdir())
    except OSError as error:
        raise invalid(f"Could not find base path {base} for servable {config.name} with error {error}") from error
    versions = {int(name): base / name for name in names if _is_version(name)}
    selected = _by_policy(versions, config.model_version_policy)
    if not selected:
        LOG.warning(
            "No versions of servable %s found under base path %s. Did you forget to name your leaf directory as a "
            "number (eg. '/1/')?",
            config.name,
            base,
        )
    return selected


def _is_version(name: str) -> bool:
    return name.isascii() and name.removeprefix("-").isdigit() and -(2**63) <= int(name) < 2**63


def _by_policy(versions: dict[int, Path], policy: Any) -> dict[int, Path]:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return versions
    if choice == "specific":
        return {number: path for number, path in versions.items() if number in policy.specific.versions}
    newest = sorted(versions, reverse=True)[: max(policy.latest.num_versions, 1)]
    return {number: versions[number] for number in newest}


def check_config(
    new: model_server_config_pb2.ModelServerConfig, old: model_server_config_pb2.ModelServerConfig | None
) -> None:
    """Checks a list of models.

    Args:
        new: the list.
        old: the list that is served now, or None.

    Raises:
        StatusError: INVALID_ARGUMENT if a model is listed twice, has no absolute base path, changes its platform or has
            one other than TensorFlow.
    """
    names = set()
    platforms = {config.name: _platform(config) for config in old.model_config_list.config} if old else {}
    for config in new.model_config_list.config:
        if config.name in names:
            raise invalid(f"Illegal to list model {config.name} multiple times in config list")
        names.add(config.name)
        if not Path(config.base_path).is_absolute():
            raise invalid(
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
            )
        platform = _platform(config)
        if platforms.get(config.name, platform) != platform:
            raise invalid(
                f"Illegal to change a model's platform. For model {config.name} platform was {platforms[config.name]} "
                f"and new platform requested is {platform}"
            )
        if platform != PLATFORM:
            raise invalid(f"Model {config.name} requests unsupported platform {platform}")


def _platform(config: model_server_config_pb2.ModelConfig) -> str:
    if config.model_type and config.model_platform:
        raise invalid(
            f"Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {config.name}"
        )
    if config.model_type == model_server_config_pb2.TENSORFLOW:
        return PLATFORM
    if not config.model_platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {config.name}"
        )
    return str(config.model_platform)
