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
    """What fusions share; `reads` says which part of the branches' output a kind takes.

    `modality_dropout` is the share of training rows that lose one of their modalities, each with
    the same chance, so that the fusion learns to do with the others.
    """

    reads: ClassVar[Reads]

    modality_dropout: Dropout = 0.0


class PaperFusionConfig(AnyFusionConfig):
    """Each branch's class probabilities through a linear layer of its own, summed (section 5.3).

    `identity_start` begins with `scale` times the identity and no bias, so that the very first
    prediction already is the branches' common one; otherwise the layers start at random.
    """

    reads: ClassVar[Reads] = "logits"

    kind: Literal["paper"] = "paper"
    identity_start: bool = False
    scale: float = Field(4.0, gt=0)


class GatedFusionConfig(AnyFusionConfig):
    """Each branch's vector, squeezed by tanh and weighted by a gate that sees every branch."""

    reads: ClassVar[Reads] = "vector"

    kind: Literal["gated"]
    hidden: int = Field(64, gt=0)
    dropout: Dropout = 0.1


class CrossAttentionConfig(AnyFusionConfig):
    """Tokens attend to frames and frames to tokens, `hidden` wide, in `heads`; then both means."""

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
