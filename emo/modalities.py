"""The modalities that a model may read: one table, which batches, models and evaluation follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from shards.errors import suggestion


@dataclass(frozen=True)
class Modality:
    """One kind of input.

    Attributes:
        name: of the modality, and of its branch in models and configurations.
        values: key of the padded values in a batch.
        mask: key of the bool mask in a batch, set where there are values.
        size: key in a model's description: how many entries the tokenizer has, or how many numbers
            a frame.
        architecture: key in a model's description: what its pretrained encoder looks like.
    """

    name: str
    values: str
    mask: str
    size: str
    architecture: str

    @property
    def keys(self) -> tuple[str, str]:
        """Both keys in a batch, in the order in which a branch takes them."""
        return self.values, self.mask


# Where a model has several, this is their order. The last two columns are names that descriptions
# of trained models hold: renaming one would make those unreadable.
MODALITIES = {
    one.name: one
    for one in (
        Modality("text", "tokens", "token_mask", size="vocabulary", architecture="architecture"),
        Modality("audio", "audio", "audio_mask", size="features", architecture="speech"),
    )
}


def _known(name: str) -> str:
    if name not in MODALITIES:
        raise ValueError(
            f"there is no modality {name!r}{suggestion(name, MODALITIES)}; "
            f"known are {', '.join(MODALITIES)}"
        )
    return name


ModalityName = Annotated[str, AfterValidator(_known)]
