"""`ShardConfig`: everything that the preprocessing job is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from shards.configfile import Config
from shards.corpora.labels import LabelSpec
from shards.corpora.read import CorpusConfig
from shards.extract.audio import AudioConfig
from shards.extract.augment import AugmentConfig
from shards.extract.features import FEATURES, FeatureConfig
from shards.extract.text import TextConfig
from shards.views.view import ViewConfig

# The settings of schema version 1. They are in every dataset's digest, whatever their value. Never
# add to this list, and never take from it: either would change the digests of datasets that exist,
# and `emo-shards build` would then refuse their folders as those of another build.
FIRST_SETTINGS = frozenset(
    [
        "labels",
        "seed",
        "output.utterances_per_shard",
        "output.incomplete",
        "audio.sample_rate",
        "audio.min_seconds",
        "audio.silence_dbfs",
        "audio.min_snr",
        "audio.low_snr",
        "augment.variants",
        "augment.noise_snr",
        "augment.pitch_semitones",
        "augment.stretch_rate",
        "augment.shift_share",
        "features.kinds",
        "features.n_fft",
        "features.hop",
        "features.mels",
        "features.coefficients",
        "features.fmin",
        "features.fmax",
        "features.lowlevel.pitch",
        "features.lowlevel.window",
        "features.lowlevel.hop",
        "features.lowlevel.fmin",
        "features.lowlevel.fmax",
        "features.lowlevel.mels",
        "text.tokenizer",
        "text.max_tokens",
        "text.learn.vocab_size",
        "text.learn.lowercase",
        "text.learn.min_frequency",
        "vocabulary_view.protocol",
        "vocabulary_view.labels",
        "vocabulary_view.seed",
        "vocabulary_view.fold",
        "vocabulary_view.test",
        "vocabulary_view.val",
        "vocabulary_view.val_from_train",
    ]
)
_FIRST_SECTIONS = frozenset(
    ".".join(parts[:depth])
    for parts in (path.split(".") for path in FIRST_SETTINGS)
    for depth in range(1, len(parts) + 1)
)


class OutputConfig(Config):
    """Where the shards go and how they are cut.

    `max_rejected` bounds the share of turns that may be turned away (bad audio, empty text);
    `incomplete` says what happens to a turn that lacks one of the configured modalities: rejected,
    or kept with what it has. With `update`, a finished dataset whose corpus has changed is brought
    up to date: only what is different is done again.
    """

    folder: Path
    utterances_per_shard: int = Field(default=64, ge=1)
    max_rejected: float = Field(default=0.05, ge=0, le=1)
    incomplete: Literal["reject", "keep"] = "reject"
    update: bool = False


class ShardConfig(Config):
    """One dataset: a corpus and what is made of it.

    `features: null` makes a text-only dataset, `text: null` an audio-only one. Variants are made
    for turns whose label is in `labels`; every turn is there clean, since context models need the
    turns without a majority too. A vocabulary (`text.learn`) is learnt from the training texts of
    `vocabulary_view` alone, whose labels are those of the build if it names none.
    """

    corpus: CorpusConfig
    labels: LabelSpec = "five"
    audio: AudioConfig = AudioConfig()
    augment: AugmentConfig = AugmentConfig()
    features: FeatureConfig | None = FeatureConfig()
    text: TextConfig | None
    vocabulary_view: ViewConfig = ViewConfig()
    seed: int = Field(default=1, ge=0)
    output: OutputConfig

    @model_validator(mode="after")
    def _makes_something(self) -> ShardConfig:
        if self.features is None and self.text is None:
            raise ValueError("features and text are both null: there is nothing to write")
        kinds = self.features.kinds if self.features else ()
        if kinds and self.augment.variants and all(FEATURES[kind].clean_only for kind in kinds):
            raise ValueError(
                f"features.kinds [{', '.join(kinds)}] is made of clean turns: set "
                "augment.variants: []"
            )
        return self

    @property
    def learning_view(self) -> ViewConfig:
        """The view whose training texts a vocabulary is learnt from, labels and all.

        The labels that it takes from the build are in no digest: those of older datasets stay. A
        folder keeps the vocabulary that it has.
        """
        view = self.vocabulary_view
        if "labels" in view.model_fields_set:
            return view
        return view.model_copy(update={"labels": self.labels})

    @property
    def max_unknown(self) -> float | None:
        """`text.max_unknown`; None without text."""
        return None if self.text is None else self.text.max_unknown

    def settings(self) -> dict[str, Any]:
        """All that decides the bytes of the shards besides the corpus' content.

        Paths are left out (a dataset and its corpus may be moved), and so are limits. A setting
        that did not exist in schema version 1 is there only where it is not at its default: so it
        can be added without making every older dataset one of other settings.
        """
        chosen = self.model_dump(mode="json", exclude={"corpus", "output"})
        _drop_later_defaults(self, chosen, "")
        if self.features is None:
            del chosen["audio"], chosen["augment"]
        if self.text is None or self.text.learn is None:
            del chosen["vocabulary_view"]
        if self.text is not None:
            chosen["text"].pop("max_unknown", None)
        chosen["output"] = self.output.model_dump(include={"utterances_per_shard", "incomplete"})
        return chosen


def _drop_later_defaults(config: Config, dumped: dict[str, Any], above: str) -> None:
    """Take from `dumped`, made of `config`, the later settings that are at their defaults."""
    for name, field in type(config).model_fields.items():
        value, path = getattr(config, name), above + name
        if name not in dumped:
            continue
        if path not in _FIRST_SECTIONS and value == field.get_default(call_default_factory=True):
            del dumped[name]
        elif isinstance(value, Config):
            _drop_later_defaults(value, dumped[name], f"{path}.")
