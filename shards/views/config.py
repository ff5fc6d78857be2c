"""`ViewConfig`: the settings of a view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from shards.configfile import Config
from shards.corpora.labels import LabelSpec
from shards.views.protocols import PROTOCOLS

if TYPE_CHECKING:
    ProtocolName = str
else:
    ProtocolName = Literal[tuple(PROTOCOLS)]

Share = Annotated[float, Field(gt=0, lt=1)]
Speakers = Annotated[tuple[str, ...], Field(min_length=1)]


class ViewConfig(Config):
    """Which rows train, select and test a model; `shards.views.protocols` lists the protocols.

    `test` and `val` are shares of all turns of the label set. With `val_from_train`, validation is
    that share of the turns that are not test instead. `fold` names the session, speaker or group
    that is the test part; `folds` is the number of groups of `speaker_folds`. `test_speakers`
    names the test part of `speakers`. `val_speakers` is how many speakers validate, or who does.
    """

    protocol: ProtocolName = "random"
    labels: LabelSpec = "five"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    fold: str | None = None
    test: Share = 0.1
    val: Share = 0.2
    val_from_train: Share | None = None
    folds: Annotated[int, Field(ge=2)] = 5
    test_speakers: Speakers | None = None
    val_speakers: PositiveInt | Speakers | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> ViewConfig:
        protocol = PROTOCOLS[self.protocol]
        if self.val_from_train is None and self.test + self.val >= 1:
            raise ValueError("test and val together must stay below 1")
        if self.fold is not None and not protocol.has_folds:
            raise ValueError(f"protocol {self.protocol} has no folds; leave fold out")
        for name in ("folds", "test_speakers", "val_speakers"):
            if name not in protocol.reads and getattr(self, name) != self._default(name):
                readers = [other for other, one in PROTOCOLS.items() if name in one.reads]
                raise ValueError(
                    f"protocol {self.protocol} does not read {name}; {', '.join(readers)} "
                    f"{'does' if len(readers) == 1 else 'do'}"
                )
        if self.val_speakers is not None and self.val_from_train is not None:
            raise ValueError("set val_speakers or val_from_train, not both")
        if self.val_from_train is not None and self.protocol == "leave_one_speaker_out":
            raise ValueError(
                "leave_one_speaker_out validates on a speaker, not on val_from_train; val_speakers "
                "takes more of them"
            )
        both = set(self.test_speakers or ()) & (
            set(self.val_speakers) if isinstance(self.val_speakers, tuple) else set()
        )
        if both:
            raise ValueError(f"{', '.join(sorted(both))} is in test_speakers and in val_speakers")
        return self

    @classmethod
    def _default(cls, name: str) -> object:
        return cls.model_fields[name].default
