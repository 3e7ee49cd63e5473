"""Dataclasses out of JSON, each field held against its type, and into it. Imports nothing else of the suite.

A field that has a default need not be there, and is not written where it has it: so a form of files may get new fields,
and those that were written before stay as they are.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Literal

DEEPEST = 32  # lists and objects within each other
LARGEST = 1e100  # of any number: what is beyond has no sum of squares


def stated(value: Any) -> dict[str, Any]:
    """A dataclass's fields by name, without those that are at their defaults.

    Raises:
        TypeError: it is none.
    """
    fields = {field.name: (field, getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {name: inner for name, (field, inner) in fields.items() if [inner] != _default(field)}


def _default(field: dataclasses.Field[Any]) -> list[Any]:
    """A field's default, alone in a list; an empty list where it has none."""
    if field.default is not dataclasses.MISSING:
        return [field.default]
    return [] if field.default_factory is dataclasses.MISSING else [field.default_factory()]


@functools.cache
def _form(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a type is made of, told once, as thousands of records are read: list, dict, a union or Literal, or None; and
    of what.
    """
    return typing.get_origin(kind), typing.get_args(kind)


@functools.cache
def _fields(kind: type) -> tuple[dict[str, Any], set[str]] | None:
    """Types of a dataclass's fields by name, and the names of those that have no default; None of another type."""
    if not dataclasses.is_dataclass(kind) or not isinstance(kind, type):
        return None
    return typing.get_type_hints(kind), {field.name for field in dataclasses.fields(kind) if not _default(field)}


def decode(kind: Any, value: Any, where: str) -> Any:
    """`value`, out of JSON, as `kind`: dataclass, list, dict, union, Literal, or a plain type.

    Raises:
        ValueError: it is none; the message begins with the place, `where` and the field below it.
    """
    if kind is Any or type(value) is kind:
        check_plain(value, where)
        return value
    origin, args = _form(kind)
    if (fields := _fields(kind)) is not None:
        hints, needed = fields
        if not isinstance(value, dict) or not needed <= value.keys() <= hints.keys():
            wrong = (value.keys() - hints.keys()) | (needed - value.keys()) if isinstance(value, dict) else None
            raise ValueError(f"{where}: missing or unknown fields: {sorted(wrong) if wrong else type(value).__name__}")
        return kind(**{name: decode(hints[name], inner, f"{where}.{name}") for name, inner in value.items()})
    if origin is list and isinstance(value, list):
        if _is_plain(args[0], value):
            return value
        return [decode(args[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        check_plain(list(value), where)
        return {k: decode(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is Literal and value in args:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return decode(next(a for a in args if a is not type(None)), value, where)
    if kind is float and type(value) is int:
        return decode(kind, float(value), where)
    raise ValueError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {value!r:.60}")


def check_plain(value: Any, where: str, depth: int = 0) -> None:
    """All that is in it: 1e999 is read as infinity, and half a character as text that cannot be written."""
    if depth > DEEPEST:
        raise ValueError(f"{where}: more than {DEEPEST} lists and objects within each other")
    if isinstance(value, dict | list):
        for inner in (*value, *value.values()) if isinstance(value, dict) else value:
            check_plain(inner, where, depth + 1)
    elif isinstance(value, float) and not abs(value) < LARGEST:
        raise ValueError(f"{where}: a number is not finite, or beyond {LARGEST:g}")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{where}: a whole number has more than 64 bits")
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"{where}: {value!r:.60} is no text")


def _is_plain(kind: Any, values: list[Any]) -> bool:
    """Whether a list, as most of a record is, holds what it should and nothing is to be made of it. By functions of C
    alone, as thousands of records are read; what they cannot tell apart is looked at one by one.
    """
    kinds = set(map(type, values))
    if kind is int:
        return kinds <= {int} and min(values, default=0) > -(2**63) and max(values, default=0) < 2**63
    if kind == float | None and type(None) in kinds:
        values, kinds = [v for v in values if v is not None], kinds - {type(None)}
    elif kind not in (float, float | None):
        return False
    # the sum alone tells NaN
    return kinds <= {float} and min(values, default=0.0) > -LARGEST and max(values, default=0.0) + sum(values) < LARGEST
