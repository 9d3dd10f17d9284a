"""Reads configuration dataclasses from untyped values: JSON mappings and ``key=value`` assignments.

All functions are strict. An unknown key or a value of the wrong type raises a ConfigError that names the key, the value
found, and what was expected. The functions work on any dataclass whose fields are numbers, strings, booleans, literals,
optional values, tuples or such dataclasses.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union

from storygan_tf.common.errors import ConfigError, nearest

Dataclass = TypeVar("Dataclass")


def from_dict(cls: type[Dataclass], values: Any, path: str = "") -> Dataclass:
    """Builds a configuration dataclass from nested mappings.

    Args:
        cls: the dataclass.
        values: a mapping of field names to values. Fields that are absent keep their defaults.
        path: key of `values` in error messages, such as `training`; empty for the outermost mapping.

    Raises:
        ConfigError: if a key is unknown, or a value has the wrong type or is out of range.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'settings'}: found {values!r}, expected a mapping of names to values.")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            name = f"{path}.{key}" if path else str(key)
            raise ConfigError(f"unknown key {name!r}{nearest(str(key), hints)} (expected one of {', '.join(hints)}).")
    prefix = f"{path}." if path else ""
    return cls(**{key: _convert(hints[key], value, prefix + key) for key, value in values.items()})


def override(config: Dataclass, assignments: Sequence[str]) -> Dataclass:
    """Returns a copy of a configuration dataclass with assignments applied in their order.

    Args:
        config: the dataclass.
        assignments: texts of the form ``key=value``. A key joins names by dots, and a member of a list is named by its
            `name` or its index: `training.phases.warm_up.epochs`, `training.phases.0.epochs`. A value is JSON, or plain
            text if it is not valid JSON.

    Raises:
        ConfigError: if an assignment has no ``=``, a key is unknown, or a value has the wrong type or is out of range.
    """
    values = json.loads(json.dumps(dataclasses.asdict(typing.cast(Any, config))))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment!r}: expected key=value, such as training.seed=3.")
        _assign(values, key.strip(), _parse_value(text))
    return from_dict(type(config), values)


def assignments_between(before: Any, after: Any, key: str = "") -> Iterator[str]:
    """Yields the assignments for `override` that turn the JSON values `before` into `after`.

    Args:
        before: JSON values of a configuration.
        after: JSON values of a configuration of the same type.
        key: key of both values, joined by dots; empty for whole configurations.
    """
    prefix = f"{key}." if key else ""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in after:
            yield from assignments_between(before.get(name), after[name], prefix + name)
    elif _member_names(before) and _member_names(before) == _member_names(after):
        for name, old, new in zip(_member_names(after), before, after, strict=True):
            yield from assignments_between(old, new, prefix + name)
    elif before != after:
        yield f"{key}={json.dumps(after)}"


def _member_names(values: Any) -> list[str]:
    """Returns the `name` of each mapping in a list, or an empty list if `values` is not a list."""
    return [entry["name"] for entry in values if isinstance(entry, dict)] if isinstance(values, list) else []


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(values: Any, key: str, value: Any) -> None:
    """Sets the entry `key`, names joined by dots, of nested mappings and lists."""
    *path, last = key.split(".")
    for part in path:
        values = values[_subscript(values, part, key)]
    values[_subscript(values, last, key)] = value


def _subscript(values: Any, part: str, key: str) -> Any:
    """Returns the subscript of the entry `part` in `values`, a mapping or a list.

    Args:
        values: a mapping or a list.
        part: a name in the mapping, or the index or `name` of a member of the list.
        key: the whole key, for the error message.

    Raises:
        ConfigError: if there is no such entry.
    """
    known: dict[str, Any] = {}
    if isinstance(values, dict):
        known = {name: name for name in values}
    elif isinstance(values, list):
        known = {str(index): index for index in range(len(values))}
        known |= {entry["name"]: index for index, entry in enumerate(values) if isinstance(entry, dict)}
    if part in known:
        return known[part]
    names = [name for name in known if not name.isdigit()]
    expected = f"expected one of {', '.join(names)}" if names else "it has no parts"
    raise ConfigError(f"--set {key}: unknown key {part!r}{nearest(part, names)} ({expected}).")


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Returns `value` as the type `hint`; raises ConfigError if it is not of that type."""
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(Any, hint), value, path)
    converter = _CONVERTERS.get(typing.get_origin(hint) or hint)
    if converter is None:
        raise TypeError(f"{path}: configuration fields of type {hint} are not supported.")
    return converter(hint, value, path)


def _wrong_type(path: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{path}: found {value!r}, expected {expected}.")


def _convert_plain(hint: Any, value: Any, path: str) -> Any:
    names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _wrong_type(path, value, names[hint])
    return value


def _convert_literal(hint: Any, value: Any, path: str) -> Any:
    choices = typing.get_args(hint)
    if value not in choices:
        raise _wrong_type(path, value, f"one of {', '.join(map(str, choices))}{nearest(str(value), choices)}")
    return value


def _convert_tuple(hint: Any, value: Any, path: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _wrong_type(path, value, "a list")
    return tuple(_convert(typing.get_args(hint)[0], entry, f"{path}.{index}") for index, entry in enumerate(value))


def _convert_optional(hint: Any, value: Any, path: str) -> Any:
    if value is None:
        return None
    return _convert(typing.get_args(hint)[0], value, path)


_CONVERTERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    int: _convert_plain,
    float: _convert_plain,
    str: _convert_plain,
    bool: _convert_plain,
    Literal: _convert_literal,
    tuple: _convert_tuple,
    Union: _convert_optional,
    types.UnionType: _convert_optional,
}
