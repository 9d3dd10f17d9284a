"""Short declarations for the specs of our own components: parameters, channels, and the channels of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter


def parameters(
    required: Mapping[str, type], optional: Mapping[str, type] | None = None
) -> dict[str, ExecutionParameter]:
    """Returns a spec's `PARAMETERS`.

    Args:
        required: type of each required execution property, by name.
        optional: type of each optional execution property, by name.
    """
    return {
        **{name: ExecutionParameter(type=kind) for name, kind in required.items()},
        **{name: ExecutionParameter(type=kind, optional=True) for name, kind in (optional or {}).items()},
    }


def channels(
    required: Mapping[str, type[types.Artifact]], optional: Mapping[str, type[types.Artifact]] | None = None
) -> dict[str, ChannelParameter]:
    """Returns a spec's `INPUTS` or `OUTPUTS`.

    Args:
        required: artifact type of each required channel, by name.
        optional: artifact type of each optional channel, by name.
    """
    return {
        **{name: ChannelParameter(type=kind) for name, kind in required.items()},
        **{name: ChannelParameter(type=kind, optional=True) for name, kind in (optional or {}).items()},
    }


def output_channels(spec: type[ComponentSpec]) -> dict[str, Any]:
    """Returns a new channel for each output that a spec declares, by name."""
    return {name: types.Channel(type=parameter.type) for name, parameter in spec.OUTPUTS.items()}
