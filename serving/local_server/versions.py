"""Which versions of a model the file system and its policy ask for: TF Serving's file system source."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tensorflow_serving.config import model_server_config_pb2

from serving.local_server.status import invalid

LOG = logging.getLogger(__name__)

PLATFORM = "tensorflow"


def find_versions(config: model_server_config_pb2.ModelConfig) -> dict[int, Path]:
    """Returns the version directories to serve.

    A version is an entry with an integer name (`00000123` is 123); any other is ignored, so that a writer can make it
    aside and rename it.

    Args:
        config: of the model, with its base path and its policy: the latest by default.

    Raises:
        StatusError: where the base path is not there; what is served stays.
    """
    base = Path(config.base_path)
    try:
        names = sorted(path.name for path in base.iterdir())
    except OSError as error:
        raise invalid(f"Could not find base path {base} for servable {config.name} with error {error}") from error
    found = {int(name): base / name for name in names if _is_version(name)}
    wanted = _by_policy(found, config.model_version_policy)
    if not wanted:
        LOG.warning(
            "No versions of servable %s found under base path %s. Did you forget to name your leaf directory as a "
            "number (eg. '/1/')?",
            config.name,
            base,
        )
    return wanted


def _is_version(name: str) -> bool:
    return name.isascii() and name.removeprefix("-").isdigit() and -(2**63) <= int(name) < 2**63


def _by_policy(found: dict[int, Path], policy: Any) -> dict[int, Path]:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return found
    if choice == "specific":
        return {number: path for number, path in found.items() if number in policy.specific.versions}
    newest = sorted(found, reverse=True)[: max(policy.latest.num_versions, 1)]
    return {number: found[number] for number in newest}


def check_config(
    new: model_server_config_pb2.ModelServerConfig, old: model_server_config_pb2.ModelServerConfig | None
) -> None:
    """Checks a list of models.

    Args:
        new: the list.
        old: what is served now, if anything.

    Raises:
        StatusError: INVALID_ARGUMENT or FAILED_PRECONDITION.
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
