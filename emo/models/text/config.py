"""Settings of the text branch. Importing this file loads neither torch nor transformers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from emo.models.parts import (
    BranchConfig,
    Dropout,
    LoraConfig,
    PoolingName,
    check_heads,
    check_tuning,
)
from shards.configfile import Config

SOURCES = ("encoder", "build")  # where an encoder may come from: keys of `TextBranchConfig`


class SmallBertConfig(Config):
    """A BERT of these sizes with random weights; the vocabulary is the dataset's."""

    hidden: int = Field(128, gt=0)
    layers: int = Field(2, gt=0)
    heads: int = Field(4, gt=0)
    intermediate: int = Field(256, gt=0)
    positions: int = Field(128, gt=1, description="longest line in tokens, special ones included")
    dropout: Dropout = 0.1

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> SmallBertConfig:
        check_heads(self.hidden, self.heads)
        return self


class TextBranchConfig(BranchConfig):
    """Text: an encoder over word pieces, pooled to one vector, dropout, one linear layer.

    Exactly one of `encoder` (a name on the Hugging Face hub, or a folder) and `build` is set.
    `pooling` takes the first position's vector (cls), or one of `emo.models.pooling` over a line's
    word pieces. `layers` are read as `last`, or as a learnt weighting of all. `tune` says whether
    the encoder is trained (everything) or only what stands behind it (nothing); the lowest
    `frozen_layers` are left as they are. `lora` trains adapters beside an encoder of which nothing
    is tuned.
    """

    encoder: str | None = None
    build: SmallBertConfig | None = None
    pooling: PoolingName | Literal["cls"] = "cls"
    layers: Literal["last", "weighted"] = "last"
    tune: Literal["nothing", "everything"] = "everything"
    frozen_layers: int = Field(0, ge=0)
    lora: LoraConfig | None = None
    dropout: Dropout = 0.1
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> TextBranchConfig:
        if sum(getattr(self, source) is not None for source in SOURCES) != 1:
            raise ValueError("set either encoder (a hub name or a folder) or build (its sizes)")
        check_tuning(self.tune, self.frozen_layers, self.lora)
        return self

    @property
    def kind(self) -> str:
        """Which of `SOURCES` is set."""
        return next(source for source in SOURCES if getattr(self, source) is not None)
