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
    """What context models share: which vectors of each turn they read.

    `reads` takes the branch's pooled vector, or its classes' log-probabilities. Whether the vectors
    of all modalities are there is seen when the data is opened. `turn_dropout` silences whole turns
    in training, so that others must speak for them; the published models have none.

    A kind's `sees` says what it knows of a dialogue when it scores a turn.
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
    """bc-LSTM: both sides of the dialogue. Widths are a direction's; `dropout` acts behind LSTMs.

    `speakers` reads the dialogue once for each side, own turns apart from the others'; the
    published model is not told who speaks.
    """

    sees: ClassVar[Literal["whole", "past"]] = "whole"

    kind: Literal["bclstm"] = "bclstm"
    hidden: int = Field(300, gt=0)
    dense: int = Field(100, gt=0)
    fused: int = Field(500, gt=0)
    dropout: Dropout = 0.6
    speakers: bool = False


class IconConfig(AnyContextConfig):
    """ICON: the past of the dialogue alone, at most `past` turns, attended to `hops` times."""

    sees: ClassVar[Literal["whole", "past"]] = "past"

    kind: Literal["icon"] = "icon"
    width: int = Field(100, gt=0)
    past: int = Field(40, gt=0)
    hops: int = Field(3, gt=0)
    dropout: Dropout = 0.7


ContextConfig = Annotated[BcLstmConfig | IconConfig, Field(discriminator="kind")]
