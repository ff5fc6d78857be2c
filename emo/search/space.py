"""The space of a sweep: which settings are tried, in which ranges, and how. Imports no optuna."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from emo.config import ExperimentConfig
from shards import configfile
from shards.configfile import Config, ConfigError, all_keys
from shards.errors import nearest


class Range(Config):
    """Where the values of one setting come from: exactly one of four.

    `uniform` and `log` are bounds of real numbers, the second on a logarithmic scale; `integer` are
    bounds of whole numbers, both included; `choice` is a list of values of any kind.
    """

    uniform: tuple[float, float] | None = None
    log: tuple[float, float] | None = None
    integer: tuple[int, int] | None = None
    choice: tuple[Any, ...] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_of_four(self) -> Range:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of uniform, log, integer and choice")
        if given != ["choice"]:
            low, high = getattr(self, given[0])
            if low > high:
                raise ValueError(f"{given[0]}: {low} is above {high}")
            if given == ["log"] and low <= 0:
                raise ValueError("log: both bounds must be above 0")
        return self

    def extremes(self) -> tuple[Any, ...]:
        """Values that must all be valid: every choice, or both bounds."""
        for values in (self.choice, self.uniform, self.log, self.integer):
            if values is not None:
                return tuple(values)
        raise AssertionError("one of four is set")


class PruningConfig(Config):
    """A trial whose validation is below the median of the others' at the same epoch is stopped.

    Not before `trials` trials are complete, and not in its first `epochs` epochs.
    """

    trials: PositiveInt = 4
    epochs: int = Field(2, ge=0)


class SpaceConfig(Config):
    """A sweep: `trials` trainings with settings from `space`, by dotted key.

    `sampler` is Optuna's tree-structured Parzen estimator, which learns from the trials before, or
    draws at random. `pruning` None trains every trial to its end.
    """

    trials: PositiveInt
    seed: int = Field(1, ge=0)
    sampler: Literal["tpe", "random"] = "tpe"
    pruning: PruningConfig | None = PruningConfig()
    space: dict[str, Range] = Field(min_length=1)

    @model_validator(mode="after")
    def _keys_are_settings(self) -> SpaceConfig:
        known = {".".join(key) for key in all_keys(ExperimentConfig)}
        for key in self.space:
            if key.split(".")[0] in ("run", "resume", "name"):
                raise ValueError(f"{key} belongs to the sweep itself, not to its space")
            # Below a mapping with names of its own (optim.groups) any key may stand.
            if key not in known and not key.startswith("optim.groups."):
                hint = nearest(key, known, 0.7)
                raise ValueError(
                    f"space: there is no setting {key}" + (f": did you mean {hint}?" * bool(hint))
                )
        return self


def check(path: Path, overrides: list[str], space: SpaceConfig) -> None:
    """Raise ConfigError if a bound or a choice makes an invalid experiment; lists all of them."""
    problems = []
    for key, values in space.space.items():
        for value in values.extremes():
            try:
                configfile.load(ExperimentConfig, path, [*overrides, setting(key, value)])
            except ConfigError as error:
                problems.append(f"{key}={value}: {error}".replace("\n", "\n    "))
    if problems:
        raise ConfigError("the space holds values that cannot be:\n  " + "\n  ".join(problems))


def setting(key: str, value: Any) -> str:
    """`value` of `key` as an override; JSON is YAML, whatever the value is."""
    return f"{key}={json.dumps(value)}"


def drawn(trial: Any, space: Mapping[str, Range], before: Callable[[int], None]) -> Iterator[str]:
    """The overrides of an Optuna trial; `before` is called with the place of each before its draw.

    A value that the trial has already is not drawn again.
    """
    for place, (key, values) in enumerate(space.items()):
        before(place)
        if values.choice is not None:
            texts = [json.dumps(value) for value in values.choice]  # Optuna stores only plain ones
            yield f"{key}={trial.suggest_categorical(key, texts)}"
        elif values.integer is not None:
            yield setting(key, trial.suggest_int(key, *values.integer))
        else:
            bounds = values.log or values.uniform
            assert bounds is not None
            yield setting(key, trial.suggest_float(key, *bounds, log=values.log is not None))
