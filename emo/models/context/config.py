"""Settings of the models over dialogues. Importing this file loads no torch.

A new kind is a configuration here and in `ContextConfig`, a file beside this one, and an entry in
`emo.models.registry`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from emo.modalities import MODALITIES, ModalityName
from emo.models.parts import Dropout
from shards.configfile import Config


class AnyContextConfig(Config):
    """Settings of all context models: which vectors of each turn they read.

    `reads` chooses the branch's pooled vector, or the classes' log-probabilities. Whether the
    dataset has these vectors is checked when it is opened. `turn_dropout` is the share of turns
    whose vectors are set to 0 in training, so that the model learns to use the turns around them;
    the published models have none.

    `sees` says which turns of a dialogue a kind of model reads when it scores a turn.
    """

    sees: ClassVar[Literal["whole", "past"]]

    modalities: tuple[ModalityName, ...] = Field(min_length=1)
    reads: Literal["vector", "scores"] = "vector"
    turn_dropout: Dropout = 0.0

    @field_validator("modalities")
    @classmethod
    def _once_in_order(cls, modalities: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(modalities)) < len(modalities):
            raise ValueError("a modality is named twice")
        return tuple(name for name in MODALITIES if name in modalities)


class BcLstmConfig(AnyContextConfig):
    """bc-LSTM: reads the whole dialogue. Widths are those of a direction; `dropout` follows LSTMs.

    With `speakers` the dialogue is read once for each side, with own and others' turns apart; the
    published model does not know who speaks.
    """

    sees: ClassVar[Literal["whole", "past"]] = "whole"

    kind: Literal["bclstm"] = "bclstm"
    hidden: int = Field(300, gt=0)
    dense: int = Field(100, gt=0)
    fused: int = Field(500, gt=0)
    dropout: Dropout = 0.6
    speakers: bool = False


class IconConfig(AnyContextConfig):
    """ICON: reads only the last `past` turns before a turn, and attends to them `hops` times."""

    sees: ClassVar[Literal["whole", "past"]] = "past"

    kind: Literal["icon"] = "icon"
    width: int = Field(100, gt=0)
    past: int = Field(40, gt=0)
    hops: int = Field(3, gt=0)
    dropout: Dropout = 0.7


ContextConfig = Annotated[BcLstmConfig | IconConfig, Field(discriminator="kind")]
