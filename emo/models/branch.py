"""What a branch hands to the fusion, and the errors that building a model can raise."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from shards.errors import UserError


class ModelError(UserError):
    """A model that cannot be built or fed as configured."""


class Evidence(NamedTuple):
    """One modality's view of a batch.

    Attributes:
        logits_BC: class scores, before the softmax.
        vector_BD: what the last linear layer saw.
        present_B: bool, which rows have this modality at all. The others' scores and vectors are
            finite but mean nothing; a fusion must not let them count.
        states_BTD: one vector a token or a frame, before they are pooled; None from a branch that
            has none, or was not asked.
        mask_BT: bool, which of them are valid; None as above.
    """

    logits_BC: Tensor
    vector_BD: Tensor
    present_B: Tensor
    states_BTD: Tensor | None = None
    mask_BT: Tensor | None = None

    def without(self, rows_B: Tensor) -> Evidence:
        """The same, absent from `rows_B` (bool)."""
        mask_BT = None if self.mask_BT is None else self.mask_BT & ~rows_B[:, None]
        return self._replace(present_B=self.present_B & ~rows_B, mask_BT=mask_BT)
