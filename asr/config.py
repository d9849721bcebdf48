"""TOML files and key=value overrides -> frozen dataclasses; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from asr.errors import ConfigError
from asr.text import read_text

T = TypeVar("T")


def load(
    path: str | Path,
    overrides: Sequence[str],
    cls: type[T],
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> T:
    """A dataclass from a TOML file whose tables are its nested dataclasses.

    overrides: "table.key=value", the value in TOML (a bare word counts as a string).
    defaults: tables whose keys count where neither the file nor an override has them.
    """
    data = read_toml(path)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}': an override is key=value, as in training.seed=2")
        table = data
        *parents, name = key.strip().split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{key}: {parent} is a value, not a table")
        table[name] = _parse_value(value.strip())
    for name, values in (defaults or {}).items():
        if isinstance(data.setdefault(name, {}), dict):
            data[name] = {**values, **data[name]}
    return from_mapping(data, cls, where=str(path))


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file; ConfigError, in one line, for what cannot be read or is no TOML."""
    text = read_text(path, ConfigError)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: nested too deeply") from None
    except ValueError as error:  # also of numbers with thousands of digits
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def from_mapping(data: Mapping[str, Any], cls: type[T], where: str = "") -> T:
    """A dataclass (nested ones too) from plain values; ConfigError names what does not fit."""
    assert dataclasses.is_dataclass(cls)
    types_of = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values = {}
    for key, value in data.items():
        place = f"{where}: {key}" if where else key
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(fields)}"
            raise ConfigError(f"{place}: unknown key{hint}")
        values[key] = _convert(value, types_of[key], place)
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise ConfigError(f"{where}: {name} is missing")
    try:
        return typing.cast(T, cls(**values))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from None


def _convert(value: Any, to: Any, place: str) -> Any:
    if dataclasses.is_dataclass(to):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place}: expected a table, got {value!r}")
        return from_mapping(value, typing.cast(type, to), place)
    origin, arguments = typing.get_origin(to), typing.get_args(to)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        to = next(a for a in arguments if a is not type(None))
        return _convert(value, to, place)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{place}: expected a list, got {value!r}")
        return tuple(_convert(item, arguments[0], place) for item in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place}: expected a table, got {value!r}")
        return {str(k): _convert(v, arguments[1], f"{place}.{k}") for k, v in value.items()}
    if to is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not -sys.float_info.max <= value <= sys.float_info.max:
            raise ConfigError(f"{place}: expected a finite number, got {str(value)[:40]}")
        return float(value)
    if not isinstance(value, to) or (to is not bool and isinstance(value, bool)):
        raise ConfigError(f"{place}: expected {to.__name__}, got {value!r}")
    return value
