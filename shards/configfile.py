"""Strict configuration files: plain YAML plus `key=value` overrides into a validated, frozen model.

All errors are reported at once, each with its dotted path, what was expected, and for a misspelt
key or value the nearest known one: a cluster job must not die on its third typo in a row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from shards import yaml_text
from shards.errors import UserError, nearest, suggestion


class ConfigError(UserError):
    """A configuration that cannot be used; the message lists every problem in it."""


class Config(BaseModel):
    """Base of all configurations: unknown keys are errors, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, data: Any) -> Any:
        for name, value in data.items() if isinstance(data, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields:
                types = set(yaml_text.types_at(cls.model_fields[name].annotation, ()))
                if types & {int, float} and bool not in types:
                    raise ValueError(f"{name} must be a number, not {str(value).lower()}")
        return data

    @field_validator("*", mode="after")
    @classmethod
    def _at_home(cls, value: Any) -> Any:
        """Paths in which ~ is a person's home, as in a shell, and not a folder of that name."""
        return _expanded(value)


def _expanded(value: Any) -> Any:
    if isinstance(value, dict):
        return {_expanded(key): _expanded(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_expanded, value))
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError(f"nobody here has the home folder {value.parts[0]}") from None


C = TypeVar("C", bound=Config)


def load(
    kind: type[C],
    path: str | Path,
    overrides: Sequence[str] = (),
    loader: type[yaml.SafeLoader] = yaml.SafeLoader,
) -> C:
    """Read YAML file `path` as a `kind`, with `a.b=value` overrides (values are YAML).

    Texts and paths are what was written (`yaml_text`).

    Raises:
        ConfigError: the file is missing or not YAML, or one or more keys or values are wrong.
    """
    path = Path(path)
    try:
        raw = yaml_text.read(path.read_text(encoding="utf-8"), kind, loader=loader)
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
    return parse(kind, apply_overrides(raw, overrides, kind), str(path), overrides)


def parse(kind: type[C], raw: Mapping[str, Any], where: str, overrides: Sequence[str] = ()) -> C:
    """Validate `raw` as a `kind`.

    `where` names its origin in the error message; `overrides` are the ones that `raw` holds
    already: what is wrong with their values is reported as a mistake in the overrides.

    Raises:
        ConfigError: one or more keys or values are wrong.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        problems = _without_consequences(error.errors())
    keys = [tuple(override.partition("=")[0].split(".")) for override in overrides]
    found: dict[str, list[str]] = {}
    for problem in problems:
        path = _written(raw, problem["loc"])
        source = where
        if any(_is_set_by(key, path, problem) for key in keys):
            source = "the overrides"
        elif any(key[: len(path)] == path for key in keys):
            source = f"{where} with the overrides"
        found.setdefault(source, []).append(_describe(kind, problem, path))
    raise ConfigError(
        "\n".join(
            f"{len(lines)} problem{'s' * (len(lines) > 1)} in {source}:\n  " + "\n  ".join(lines)
            for source, lines in sorted(found.items(), key=lambda item: item[0] != where)
        )
    )


def apply_overrides(
    raw: Mapping[str, Any], overrides: Sequence[str], kind: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return `raw` with every `a.b.c=value` of `overrides` set; values are parsed as YAML.

    Where `kind` has a text or a path at the key, what YAML takes for a number, a date or a truth
    value stays as it was written (`yaml_text`).
    """
    result = json.loads(json.dumps(raw, default=str))  # a copy; a date becomes what was written
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
            value = yaml_text.read(text, kind, key.split("."))
        except yaml.YAMLError as error:
            odd = "in plain decimals" in str(error)
            why = str(error).split("  in ")[0] if odd else f"{text!r} is not a YAML value"
            problems.append(f"{override!r}: {why}")
            continue
        node[rest[-1]] = value
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


_NOT_SET = "not set"


def differences(old: Any, new: Any, ignored: Collection[str] = ()) -> list[str]:
    """One line for each setting whose value differs: `train.epochs: was 3, now 4`.

    `old` and `new` are dumped configurations. Dotted keys in `ignored`, and all below them, may
    differ.
    """
    return list(_differences(old, new, "", ignored))


def _differences(old: Any, new: Any, path: str, ignored: Collection[str]) -> Iterator[str]:
    if old == new or path in ignored:
        return
    one, two = ({} if value is _NOT_SET else value for value in (old, new))
    if isinstance(one, dict) and isinstance(two, dict) and (one or two):
        for key in sorted(one.keys() | two.keys()):
            inner = f"{path}.{key}" if path else str(key)
            before, now = (side.get(key, _NOT_SET) for side in (one, two))
            yield from _differences(before, now, inner, ignored)
    else:
        before, now = (value if value is _NOT_SET else repr(value) for value in (old, new))
        yield f"{path}: was {before}, now {now}"


def _without_consequences(problems: Sequence[Any]) -> list[Any]:
    """`problems` less those that say that a list is too short because one of its items is wrong."""
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short"
        or not any(
            len(other["loc"]) > len(problem["loc"])
            and other["loc"][: len(problem["loc"])] == problem["loc"]
            for other in problems
        )
    ]


def _written(raw: Any, location: Sequence[Any]) -> tuple[str, ...]:
    """The keys of pydantic's `location` that a person wrote, or would write.

    pydantic also puts the tag of a union's member in there, and "[key]" behind a wrong key.
    """
    path = []
    for number, part in enumerate(location):
        inside = isinstance(part, int) or (isinstance(raw, Mapping) and part in raw)
        if inside or (number == len(location) - 1 and part != "[key]"):
            path.append(str(part))
        if inside:
            raw = raw[part] if isinstance(raw, Mapping | list | tuple) else None
    return tuple(path)


def _is_set_by(key: tuple[str, ...], path: tuple[str, ...], problem: Any) -> bool:
    """Whether the override of `key` put the value there that `problem` is about."""
    if path[: len(key)] == key:
        return True
    if key[: len(path)] != path:
        return False
    # The override set something below. A section as a whole is wrong when its values do not go
    # together, which is the file's matter as well; a plain value became a section by the override.
    return problem["type"] not in ("value_error", "missing")


def _describe(kind: type[BaseModel], problem: Any, path: tuple[str, ...]) -> str:
    shown = ".".join(path) or "(the whole file)"
    given = repr(problem["input"])
    given = given if len(given) < 80 else given[:77] + "..."
    match problem["type"]:
        case "missing":
            return f"{shown}: required, but not set"
        case "extra_forbidden":
            return f"{shown}: unknown key{_key_hint(kind, problem['loc'], path)}"
        case "literal_error":
            known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
            if problem["loc"][-1] == "[key]":
                given = repr(path[-1])
            hint = suggestion(given.strip("'"), known)
            return f"{shown}: must be {problem['ctx']['expected']}, not {given}{hint}"
        case "union_tag_invalid" | "union_tag_not_found":
            models = _models_at(kind, problem["loc"])
            key = _tag_field(models)
            known = [tag for model in models for tag in _tags(model, key)]
            shown = ".".join((*path, key))
            wanted = " or ".join(filter(None, (", ".join(map(repr, known[:-1])), repr(known[-1]))))
            if problem["type"] == "union_tag_not_found":
                return f"{shown}: required, but not set; must be {wanted}"
            tag = problem["ctx"]["tag"]
            return f"{shown}: must be {wanted}, not {tag!r}{suggestion(tag, known)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{shown}: must hold a mapping of keys to values (got {given})"
        case "string_type" | "path_type" if isinstance(problem["input"], int | float):
            return f"{shown}: must be text, and YAML takes {given} for a number: put it in quotes"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{shown}: {message} (got {given})"


def _key_hint(kind: type[BaseModel], location: Sequence[Any], path: tuple[str, ...]) -> str:
    """What an unknown key was meant to be: one of its section, or the same key of another one."""
    key = str(location[-1])
    models = _models_at(kind, location[:-1])
    known = sorted({name for model in models for name in model.model_fields})
    elsewhere = sorted({one for one in all_keys(kind) if one[-1] == key and one != path})
    if near := nearest(key, known, 0.8 if elsewhere else 0.6):
        return f": did you mean {near!r}?"
    if 0 < len(elsewhere) <= 4:
        return f" here: did you mean {' or '.join('.'.join(one) for one in elsewhere)}?"
    return f"; known keys: {', '.join(known)}"


def all_keys(kind: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of a `kind`, each as the parts of its dotted path."""
    for name, field in kind.model_fields.items():
        yield (*above, name)
        for model in _models_in(field.annotation):
            yield from all_keys(model, (*above, name))


def _models_at(kind: type[BaseModel], location: Sequence[Any]) -> list[type[BaseModel]]:
    """The models that may stand at pydantic's `location`."""
    models: list[type[BaseModel]] = [kind]
    for part in location:
        inner = [
            found
            for model in models
            if part in model.model_fields
            for found in _models_in(model.model_fields[part].annotation)
        ]
        # A part that is no field is an index, a dictionary's key, or the tag of a union's member.
        tagged = [m for m in models if any(part in _tags(m, name) for name in m.model_fields)]
        models = inner or (tagged if len(models) > 1 and tagged else models)
    return models


def _tag_field(models: Sequence[type[BaseModel]]) -> str:
    """The field that tells the members of a union apart: a literal of one value in each."""
    return next(
        name
        for name in models[0].model_fields
        if all(name in model.model_fields and len(_tags(model, name)) == 1 for model in models)
    )


def _tags(model: type[BaseModel], name: str) -> tuple[Any, ...]:
    """The values of `model`'s field `name` where it is a `Literal`, else nothing."""
    annotation = model.model_fields[name].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
