"""Settings of the fusions. Importing this file loads neither torch nor transformers.

A new kind is a configuration here and in `FusionConfig`, a file beside this one, and an entry in
`emo.models.registry`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from emo.models.parts import Dropout, check_heads
from shards.configfile import Config

Reads = Literal["logits", "vector", "states"]  # which part of a branch's output


class AnyFusionConfig(Config):
    """Settings of all fusions; `reads` says which part of the branches' outputs a kind reads.

    `modality_dropout` is the share of training rows that lose one of their modalities, chosen at
    random, so that the fusion learns to work with the others.
    """

    reads: ClassVar[Reads]

    modality_dropout: Dropout = 0.0


class PaperFusionConfig(AnyFusionConfig):
    """Each branch's class probabilities through a linear layer of its own, summed (section 5.3).

    With `identity_start` the layers start as `scale` times the identity without bias, so that even
    the first prediction combines the branches; otherwise they start at random.
    """

    reads: ClassVar[Reads] = "logits"

    kind: Literal["paper"] = "paper"
    identity_start: bool = False
    scale: float = Field(4.0, gt=0)


class GatedFusionConfig(AnyFusionConfig):
    """The tanh of each branch's vector, weighted by a gate that reads all branches."""

    reads: ClassVar[Reads] = "vector"

    kind: Literal["gated"]
    hidden: int = Field(64, gt=0)
    dropout: Dropout = 0.1


class CrossAttentionConfig(AnyFusionConfig):
    """Tokens attend to frames and frames to tokens (`hidden` wide, `heads` heads), then means."""

    reads: ClassVar[Reads] = "states"

    kind: Literal["cross_attention"]
    hidden: int = Field(64, gt=0)
    heads: int = Field(4, gt=0)
    dropout: Dropout = 0.1

    @model_validator(mode="after")
    def _heads_divide_hidden(self) -> CrossAttentionConfig:
        check_heads(self.hidden, self.heads)
        return self


FusionConfig = Annotated[
    PaperFusionConfig | GatedFusionConfig | CrossAttentionConfig, Field(discriminator="kind")
]
