"""Which samples, in which order, in which shape: the section `data` of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from emo.data.augment.config import AugmentConfig
from shards.configfile import Config
from shards.extract.augment import CLEAN, PAPER_VARIANTS, SampleVariant
from shards.extract.features import FeatureName
from shards.views.view import View, ViewConfig

NormaliseName = Literal["train", "turn", "speaker", "corpus"]
OrderName = Literal["shuffle", "windowed", "bucketed", "balanced", "dialogues"]


def _folders(raw: Any) -> Any:
    """One message about what is no such value, instead of one for each kind of value."""
    paths = raw if isinstance(raw, list | tuple | dict) else [raw]
    weights = list(raw.values()) if isinstance(raw, dict) else [1]
    numbers = all(isinstance(w, int | float) and not isinstance(w, bool) for w in weights)
    if not paths or not all(isinstance(path, str | Path) and str(path) for path in paths):
        raise ValueError("name a folder, a list of folders [A, B], or weights of folders {A: 2}")
    if not numbers or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError("the weights of folders must be numbers above 0")
    if len({str(path) for path in paths}) < len(paths):
        raise ValueError("a folder is named twice")
    return raw


# One dataset, several, or several with the weight of each (see `DataConfig`).
Shards = Annotated[Path | tuple[Path, ...] | dict[Path, float], BeforeValidator(_folders)]


def folders_of(shards: Shards) -> tuple[Path, ...]:
    """The folders that `shards` names."""
    return (shards,) if isinstance(shards, Path) else tuple(shards)


def weights_of(shards: Shards) -> list[float] | None:
    """The weights that `shards` has, in ascending order; None if it has none."""
    return sorted(shards.values()) if isinstance(shards, dict) else None


def shown(shards: Shards) -> str:
    """`shards` in a line of text."""
    return " + ".join(map(str, folders_of(shards)))


class PlanConfig(Config):
    """The order of an epoch.

    `shuffle`: uniform at random. `windowed`: shards, then blocks, then units inside a window are
    shuffled, for slow filesystems. `bucketed`: batches of similar length. `balanced`: every batch
    has about the class proportions of the whole training part; with several corpora, also those of
    each of them. `dialogues`: whole dialogues, shuffled; the global batch then counts dialogues.
    """

    order: OrderName = "shuffle"
    shards_open: PositiveInt = 8  # windowed: shards mixed with one another
    block: PositiveInt = 64  # windowed: consecutive units of a shard that are read together
    window: PositiveInt = 2048  # windowed: positions inside which units are shuffled
    pool: PositiveInt = 100  # bucketed: batches that are sorted by length together


class MixConfig(Config):
    """How much of each corpus an epoch of several holds (`emo.data.corpora.mixture`).

    By `size`: every row once. By `temperature`: in proportion to the corpora's sizes to the power
    of 1/`temperature`; 1 is `size`, and a large one gives all corpora the same share. By `shares`:
    in proportion to the weights in `data.shards`, which is the default where there are weights.
    """

    by: Literal["size", "temperature", "shares"] | None = None
    temperature: float = Field(2.0, ge=1)


class LeftOut(Config):
    """Cross-fitting: leave out the training dialogues number `fold`, `fold` + `folds`, ..."""

    fold: NonNegativeInt
    folds: int = Field(ge=2)

    @model_validator(mode="after")
    def _one_of_them(self) -> LeftOut:
        if self.fold >= self.folds:
            raise ValueError(f"folds are numbered from 0 to {self.folds - 1}, not {self.fold}")
        return self

    def rows(self, view: View) -> np.ndarray:
        """All clean rows of those dialogues, int64. Raises ViewError if the view splits one."""
        return np.concatenate(view.dialogues("train")[self.fold :: self.folds])


class AnnotationDropout(Config):
    """In every epoch, this `share` of the annotations of `classes` is left out of the targets.

    Only annotations that name these classes and no other; frequent classes, as a rule.
    """

    share: float = Field(gt=0, lt=1)
    classes: tuple[str, ...] = Field(min_length=1)


class DataConfig(Config):
    """Which samples, in which order, in which shape.

    `shards` is the folder of a dataset, a list of several, which are then trained on together, or a
    mapping from folders to weights. `audio` names the feature that the audio branch reads, and
    `normalise` says by whose mean and deviation it is scaled (`emo.data.normalise`). `frames` (for
    a waveform: samples) pads or crops every sample to one length; None pads to the longest of the
    global batch, so that results do not depend on the number of processes. With `targets: soft`,
    the targets are the annotators' votes; of an annotator who named several emotions, the first has
    the share `primary` and the others the rest (None: all the same), and `annotation_dropout`
    leaves some votes out, in training alone. `variants` are the augmentations to train on, besides
    the clean rows, and `augment` is what is done to training batches anew in every epoch. With
    `damage: skip`, a damaged sample becomes a masked row; all ranks together may skip at most the
    share `max_skipped` of the samples read. `left_out` is set by `emo features --cross-fit`.
    """

    shards: Shards
    audio: FeatureName = "logmel"
    normalise: NormaliseName = "train"
    frames: PositiveInt | None = None
    view: ViewConfig = ViewConfig()
    mix: MixConfig = MixConfig()
    plan: PlanConfig = PlanConfig()
    targets: Literal["hard", "soft"] = "hard"
    primary: float | None = Field(None, gt=0, le=1)
    annotation_dropout: AnnotationDropout | None = None
    variants: tuple[SampleVariant, ...] = (CLEAN, *PAPER_VARIANTS)
    augment: AugmentConfig = AugmentConfig()
    workers: NonNegativeInt = 1
    damage: Literal["error", "skip"] = "error"
    max_skipped: Annotated[float, Field(ge=0, le=1)] = 0.01
    left_out: LeftOut | None = None

    @property
    def mixed_by(self) -> Literal["size", "temperature", "shares"]:
        """How corpora are mixed; `size` unless something else is asked for."""
        return self.mix.by or ("shares" if isinstance(self.shards, dict) else "size")

    @model_validator(mode="after")
    def _weights_are_shares(self) -> DataConfig:
        if isinstance(self.shards, dict) != (self.mixed_by == "shares"):
            raise ValueError(
                "mix.by=shares needs the weights of the datasets, and nothing else reads them: "
                "write data.shards as {FOLDER: WEIGHT, FOLDER: WEIGHT}"
            )
        return self

    @model_validator(mode="after")
    def _votes_are_targets(self) -> DataConfig:
        if self.targets == "hard" and (self.primary is not None or self.annotation_dropout):
            raise ValueError("primary and annotation_dropout are about votes: set targets: soft")
        return self
