"""YAML of configurations: where a setting is a text, it is the text that was written.

YAML takes 03 for 3, `no` for False, 1e3 for 1000 and 2020-01-01 for a date. Speaker 03 is not
speaker 3. Which settings are texts is known from the model that the file is read for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

MOST_VALUES = 100_000  # a few lines with aliases of aliases could ask for all memory
DEEPEST = 100  # mappings and lists inside one another

_TEXT = "tag:yaml.org,2002:str"
# Numbers that YAML 1.1 reads in its own way: 010 is 8, 1:30 is 90, 1_0 is 10.
_ODD_NUMBER = re.compile(r"[-+]?0[0-7]{2,}|.*[:_].*|[-+]?0[xob].*")
_NOT_TEXT = ("bool", "int", "float", "timestamp", "value")  # what YAML sees in a plain word


def read(
    text: str,
    kind: type[BaseModel] | None = None,
    path: Sequence[str] = (),
    loader: type[yaml.SafeLoader] = yaml.SafeLoader,
) -> Any:
    """The value that `text` is, for the setting at `path` of a `kind`; keys are texts.

    Raises:
        yaml.YAMLError: it is no YAML, has a key twice, or is nested too deeply or without end.
    """
    try:
        one = loader(text)
        node = one.get_single_node()
        if node is None:
            return None
        _keep_texts(node, kind, tuple(path))
        return one.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    # PyYAML lets pass what int(), float() and date() say of a word that looks like one.
    except (ValueError, TypeError, AttributeError, OverflowError, LookupError) as error:
        raise yaml.YAMLError(str(error)) from None


def _keep_texts(root: yaml.Node, kind: type[BaseModel] | None, path: tuple[str, ...]) -> None:
    waiting, count = [(root, path)], 0
    while waiting:
        node, place = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise yaml.YAMLError(f"it has more than {MOST_VALUES} values")
        if len(place) > DEEPEST:  # also an alias inside of what it stands for
            raise yaml.YAMLError("it is nested too deeply")
        if isinstance(node, yaml.MappingNode):
            waiting += [(value, (*place, *key)) for key, value in _entries(node)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(value, (*place, "")) for value in node.value]
        elif isinstance(node, yaml.ScalarNode) and kind is not None:
            sort = node.tag.rpartition(":")[2]
            if node.style is None and sort in _NOT_TEXT:
                if _is_text(kind, place):
                    node.tag = _TEXT
                elif sort in ("int", "float") and _ODD_NUMBER.fullmatch(node.value):
                    raise yaml.YAMLError(
                        f"{node.value} is another number in YAML than it seems (010 is 8, 1:30 is "
                        f"90): write it in plain decimals{node.start_mark}"
                    )


def _entries(node: yaml.MappingNode) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """What a key adds to the path (nothing, if another mapping is merged in), and the value."""
    seen = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.YAMLError(f"a key is a list or a mapping{key.start_mark}")
        if key.tag.endswith(":merge"):
            yield (), value
            continue
        key.tag = _TEXT
        if key.value in seen:
            raise yaml.YAMLError(f"the key {key.value!r} stands twice{key.start_mark}")
        seen.add(key.value)
        yield (key.value,), value


def _is_text(kind: type[BaseModel], path: Sequence[str]) -> bool:
    """Whether the value at `path` of a `kind` is a text or a path and can be no number."""
    found = set(types_at(kind, path))
    if any(issubclass(one, BaseModel) and _takes_numbers_as_text(one) for one in found):
        return True
    return bool(found & {str, Path}) and not found & {int, float, bool}


def _takes_numbers_as_text(kind: type[BaseModel]) -> bool:
    return bool(kind.model_config.get("coerce_numbers_to_str"))


def types_at(annotation: Any, path: Sequence[str]) -> Iterator[type]:
    """The types, unions taken apart, that may stand at `path` below `annotation`."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and path:
        if path[0] in annotation.model_fields:
            yield from types_at(annotation.model_fields[path[0]].annotation, path[1:])
    elif origin is dict and path:
        yield from types_at(get_args(annotation)[1], path[1:])
    elif origin in (tuple, list) and path:
        for inner in get_args(annotation):
            yield from types_at(inner, path[1:])
    elif origin in (Annotated, Union, UnionType):
        for inner in get_args(annotation):
            yield from types_at(inner, path)
    elif not path and origin is None and isinstance(annotation, type):
        yield annotation
