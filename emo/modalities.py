"""The modalities that a model may read, and under which keys a batch holds them.

One list: batches, models, fusions and evaluation without a modality all follow it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One kind of input: its name (that of its branch) and its keys in a batch."""

    name: str
    values: str  # key of the padded values
    mask: str  # key of the bool mask of what is there

    @property
    def keys(self) -> tuple[str, str]:
        return self.values, self.mask


MODALITIES = {
    one.name: one
    for one in (
        Modality("text", values="tokens", mask="token_mask"),
        Modality("audio", values="audio", mask="audio_mask"),
    )
}
