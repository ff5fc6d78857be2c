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
    """

    logits_BC: Tensor
    vector_BD: Tensor
    present_B: Tensor
