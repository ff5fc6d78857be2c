"""Views: protocols as filters over the rows of a dataset; shards are never rewritten for one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, model_validator

from shards.configfile import Config

Share = Annotated[float, Field(gt=0, lt=1)]

Protocol = Literal[
    "random",
    "random_dialogues",
    "leave_one_session_out",
    "leave_one_speaker_out",
    "official",
    "script_disjoint",
]


class ViewConfig(Config):
    """Which rows train, select and test a model.

    `test` and `val` are shares of the whole, counted in utterances of the label set.
    `val_from_train` instead draws the validation part as a share of what is not test. `fold` names
    the session or speaker left out.
    """

    protocol: Protocol = "random"
    labels: str | dict[str, tuple[str, ...]] = "five"
    seed: NonNegativeInt = 1
    fold: str | None = None
    test: Share = 0.1
    val: Share = 0.2
    val_from_train: Share | None = None

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> ViewConfig:
        if self.val_from_train is None and self.test + self.val >= 1:
            raise ValueError("test and val together must stay below 1")
        return self
