"""Every setting of a configuration in words, read from the code that defines it.

A setting's meaning is its description, or what the source says beside it: the comment on its line,
the comment lines above it, or a text below it; else the sentence of its class that names it.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: dotted, as it is written on a command line.
        default: as in YAML; "required" without one.
        allowed: which values, in words.
        unit: of a number, where it has one.
        meaning: one or two sentences; empty where the code says nothing.
    """

    key: str
    default: str
    allowed: str
    unit: str
    meaning: str


def settings_of(kind: type[BaseModel], above: str = "") -> list[Setting]:
    """Every setting of `kind` and of the sections in it, in the order of the code."""
    found: dict[str, Setting] = {}
    for one in _settings(kind, above):
        known = found.get(one.key)
        if known is None or (not known.meaning and one.meaning):
            found[one.key] = one
        elif known.allowed != one.allowed:  # kinds of one section that share a key
            both = f"{known.allowed}; {one.allowed}"
            found[one.key] = Setting(one.key, known.default, both, known.unit, known.meaning)
    return list(found.values())


def _settings(kind: type[BaseModel], above: str) -> Iterator[Setting]:
    for name, field in kind.model_fields.items():
        key = f"{above}{name}"
        models = _models(field.annotation)
        meaning = field.description or _comments(_owner(kind, name)).get(name, "")
        meaning = meaning or _sentence(_owner(kind, name), name)
        allowed = _allowed(field.annotation, field.metadata)
        yield Setting(key, _default(field), allowed, _unit(name, meaning), meaning)
        for model in models:
            yield from _settings(model, f"{key}.")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel) or value is PydanticUndefined:
        return "as below"
    return _yaml(value)


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"


NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


def _allowed(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    bounds = _bounds(metadata)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        words = _allowed(inner[0], (*inner[1:], *metadata))
    elif origin in (Union, UnionType):
        parts = [_allowed(one, metadata if one is not NoneType else ()) for one in inner]
        words, bounds = " or ".join(dict.fromkeys(parts)), ""
    elif origin is Literal:
        words = ", ".join(map(_yaml, inner))
    elif origin in (tuple, list, set, frozenset):
        words = f"list of {_allowed(inner[0])}" if inner else "list"
        if origin is tuple and Ellipsis not in inner and len(inner) > 1:
            words = f"{len(inner)} of {_allowed(inner[0])}"
    elif origin is dict:
        words = f"{_allowed(inner[0])}: {_allowed(inner[1])}"
    elif annotation is NoneType:
        words = "null"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        words = "section"
    else:
        words = NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))
    return f"{words} {bounds}".strip() if bounds not in words else words


def _bounds(metadata: Sequence[Any]) -> str:
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
    parts: list[str] = []
    for one in metadata:
        for name, sign in signs:
            if getattr(one, name, None) is not None:
                parts.append(f"{sign} {getattr(one, name):g}")
        parts += [_bounds(one.metadata)] if isinstance(one, FieldInfo) else []
    return ", ".join(filter(None, parts))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


UNITS = {
    "seconds": "s", "minutes": "min", "rate": "Hz", "dbfs": "dBFS", "snr": "dB", "rt60": "s",
    "semitones": "semitones",
}  # fmt: skip
NAMED = re.compile(r"(?:^|[(\s])(Hz|dB|seconds|samples|frames|tokens|turns|steps|epochs|MiB)\b")


def _unit(name: str, meaning: str) -> str:
    last = name.rsplit("_", 1)[-1]
    if last in UNITS:
        return UNITS[last]
    told = NAMED.match(meaning)
    return {"seconds": "s"}.get(told[1], told[1]) if told else ""


def _owner(kind: type[BaseModel], name: str) -> type[BaseModel]:
    """The class that defines the field: a base of `kind`, or itself."""
    for one in kind.__mro__:
        if name in inspect.get_annotations(one) and issubclass(one, BaseModel):
            return one
    return kind


@cache
def _comments(kind: type[BaseModel]) -> dict[str, str]:
    """By field, what the source says beside it."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):  # made by `create_model`
        return {}
    alone: dict[int, str] = {}
    behind: dict[int, str] = {}
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("# fmt"):
            row, column = token.start
            where = behind if lines[row - 1][:column].strip() else alone
            where[row] = token.string.lstrip("# ")
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for place, node in enumerate(body.body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        said = [
            behind[row] for row in range(node.lineno, (node.end_lineno or 0) + 1) if row in behind
        ]
        above: list[str] = []
        row = node.lineno - 1
        while row in alone:
            above.insert(0, alone[row])
            row -= 1
        below = body.body[place + 1] if place + 1 < len(body.body) else None
        text = ""
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            text = inspect.cleandoc(str(below.value.value))
        found[node.target.id] = text or _joined([*above, *said])
    return found


def _joined(parts: Sequence[str]) -> str:
    return " ".join(" ".join(parts).split())


def _sentence(kind: type[BaseModel], name: str) -> str:
    """The sentences of the class's description that name the field in backquotes."""
    text = _joined([inspect.getdoc(kind) or ""]) if "__doc__" in kind.__dict__ else ""
    sentences = re.split(r"(?<=[.;])\s+(?=[A-Z`])", text)
    return " ".join(one for one in sentences if f"`{name}`" in one).rstrip(";")
