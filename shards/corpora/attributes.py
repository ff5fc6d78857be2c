"""Attributes of a turn, such as arousal, valence and dominance: numbers on a scale, not classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from shards.configfile import Config

# How far a value may lie outside its scale, as a share of it. IEMOCAP's valence reaches 5.5 on a
# scale of 1 to 5; a value far outside belongs to another scale or column.
SLACK = 0.25
MISSING = ("", "nan", "na", "none", "null", "n/a", "-")
NAME = r"^[a-z][a-z0-9_]*$"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a turn.

    `mean` is the release's own, or else the mean of `votes`, one a rater who gave one; both are on
    the scale from `low` to `high`, and may lie a little outside it.
    """

    name: str
    mean: float
    votes: tuple[float, ...]
    low: float
    high: float


class AttributeSource(Config):
    """Where an attribute stands in a table.

    `column` is the release's mean. `votes` is a column with all raters' values: a list, or a text
    in which `separator` stands between them. Without `column` the mean is that of the votes.
    `scale` is the least and the greatest value that a rater can give.
    """

    column: str | None = None
    votes: str | None = None
    separator: str = Field(default=";", min_length=1)
    scale: tuple[float, float]

    @model_validator(mode="after")
    def _consistent(self) -> AttributeSource:
        if self.column is None and self.votes is None:
            raise ValueError("give a column, a column of votes, or both")
        if not self.scale[0] < self.scale[1]:
            raise ValueError("scale must be [least, greatest]")
        return self

    @property
    def columns(self) -> set[str]:
        """The columns that it needs."""
        return {name for name in (self.column, self.votes) if name is not None}


def attributes_of(
    sources: Mapping[str, AttributeSource], values: Mapping[str, Any]
) -> tuple[Attribute, ...] | None:
    """The attributes of a row; one whose cells are empty is left out. None if none is left.

    Raises:
        ValueError: a value is no number, or far outside its scale; the message names the column.
    """
    found = []
    for name, source in sources.items():
        given = values.get(source.votes) if source.votes is not None else None
        cells = given if isinstance(given, list) else str(given or "").split(source.separator)
        votes = [number for cell in cells if (number := _number(source.votes, cell)) is not None]
        mean = _number(source.column, values.get(source.column)) if source.column else None
        one = attribute(name, mean, votes, source.scale)
        if one is not None:
            found.append(one)
    return tuple(found) or None


def attribute(
    name: str, mean: float | None, votes: list[float], scale: tuple[float, float]
) -> Attribute | None:
    """An attribute from what is known of it; None if nothing is.

    Raises:
        ValueError: a value is far outside `scale`.
    """
    if mean is None and votes:
        mean = math.fsum(votes) / len(votes)
    if mean is None:
        return None
    low, high = scale
    slack = SLACK * (high - low)
    for value in (mean, *votes):
        if not low - slack <= value <= high + slack:
            raise ValueError(
                f"{name} {value:g} is far outside its scale from {low:g} to {high:g}: correct the "
                "value, or `scale`"
            )
    return Attribute(name, mean, tuple(votes), low, high)


def _number(column: str | None, cell: Any) -> float | None:
    text = str("" if cell is None else cell).strip()
    if text.lower() in MISSING:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"column {column!r} holds {text!r}, which is no number") from None
    return value if math.isfinite(value) else None
