"""`ShardConfig`: everything that the preprocessing job is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from shards.configfile import Config
from shards.corpora.labels import label_set
from shards.corpora.read import CorpusConfig
from shards.extract.audio import AudioConfig
from shards.extract.augment import AugmentConfig
from shards.extract.features import FEATURES, FeatureConfig
from shards.extract.text import TextConfig
from shards.views.view import ViewConfig


class OutputConfig(Config):
    """Where the shards go and how they are cut.

    `max_rejected` bounds the share of turns that may be turned away (bad audio, empty text);
    `incomplete` says what happens to a turn that lacks one of the configured modalities: rejected,
    or kept with what it has.
    """

    folder: Path
    utterances_per_shard: int = Field(default=64, ge=1)
    max_rejected: float = Field(default=0.05, ge=0, le=1)
    incomplete: Literal["reject", "keep"] = "reject"


class ShardConfig(Config):
    """One dataset: a corpus and what is made of it.

    `features: null` makes a text-only dataset, `text: null` an audio-only one. Variants are made
    for turns whose label is in `labels`; every turn is there clean, since context models need the
    turns without a majority too. A vocabulary (`text.learn`) is learnt from the training texts of
    `vocabulary_view` alone.
    """

    corpus: CorpusConfig
    labels: str | dict[str, tuple[str, ...]] = "five"
    audio: AudioConfig = AudioConfig()
    augment: AugmentConfig = AugmentConfig()
    features: FeatureConfig | None = FeatureConfig()
    text: TextConfig | None
    vocabulary_view: ViewConfig = ViewConfig()
    seed: int = Field(default=1, ge=0)
    output: OutputConfig

    @field_validator("labels")
    @classmethod
    def _known_labels(cls, spec: Any) -> Any:
        label_set(spec)
        return spec

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

    def settings(self) -> dict[str, Any]:
        """All that decides the bytes of the shards besides the corpus' content.

        Paths are left out (a dataset and its corpus may be moved), and so are limits.
        """
        chosen = self.model_dump(mode="json", exclude={"corpus", "output"})
        if self.features is None:
            del chosen["audio"], chosen["augment"]
        if self.text is None or self.text.learn is None:
            del chosen["vocabulary_view"]
        chosen["output"] = self.output.model_dump(include={"utterances_per_shard", "incomplete"})
        return chosen
