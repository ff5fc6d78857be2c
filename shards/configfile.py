"""Strict configuration files: plain YAML plus `key=value` overrides into a validated, frozen model.

All errors are reported at once, each with its dotted path, what was expected, and for an unknown
key the nearest known one: a cluster job must not die on its third typo in a row.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from shards.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be used; the message lists every problem in it."""


class Config(BaseModel):
    """Base of all configurations: unknown keys are errors, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=Config)


def load(kind: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read YAML file `path` as a `kind`, with `a.b=value` overrides (values are YAML).

    Raises:
        ConfigError: the file is missing or not YAML, or one or more keys or values are wrong.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except IsADirectoryError:
        inside = f": did you mean {path / 'config.yaml'}?" * (path / "config.yaml").is_file()
        raise ConfigError(f"{path} is a folder, not a configuration file{inside}") from None
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values, not {type(raw).__name__}")
    return parse(kind, apply_overrides(raw, overrides), where=str(path))


def parse(kind: type[C], raw: Mapping[str, Any], where: str) -> C:
    """Validate `raw` as a `kind`; `where` names its origin in the error message."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        lines = [_describe(kind, item) for item in error.errors()]
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ConfigError(f"{count} in {where}:\n  " + "\n  ".join(lines)) from None


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `raw` with every `a.b.c=value` of `overrides` set; values are parsed as YAML."""
    result = json.loads(json.dumps(raw))
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            problems.append(f"{override!r}: write it as key=value or part.key=value")
            continue
        node, *rest = result, *key.split(".")
        for name in rest[:-1]:
            if not isinstance(node.get(name), dict):
                node[name] = {}
            node = node[name]
        try:
            node[rest[-1]] = yaml.safe_load(text)
        except yaml.YAMLError:
            problems.append(f"{override!r}: {text!r} is not a YAML value")
    if problems:
        raise ConfigError("bad overrides:\n  " + "\n  ".join(problems))
    return result


def dump(config: Config) -> str:
    """`config` as YAML, every default spelled out, in the order of its definition."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def digest(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON (hex); a `Config` counts as its dumped form."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _describe(kind: type[BaseModel], item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"]) or "(the whole file)"
    if item["type"] == "extra_forbidden":
        known = _known_keys(kind, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{path}: required, but not set"
    given = repr(item["input"])
    return f"{path}: {message} (got {given if len(given) < 80 else given[:77] + '...'})"


def _known_keys(kind: type[BaseModel], location: Sequence[Any]) -> list[str]:
    models: list[type[BaseModel]] = [kind]
    for name in location:
        inner: list[type[BaseModel]] = []
        for model in models:
            if name in model.model_fields:
                inner += _models_in(model.model_fields[name].annotation)
        # A part of `location` that is no field is the tag of a union's member: stay where we are.
        models = inner or models
    return sorted({key for model in models for key in model.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
