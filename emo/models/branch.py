"""The base of all branches: from one modality to class scores, and to what a fusion may read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from emo.mixing import mix
from emo.models.fusion.config import Reads
from shards.errors import UserError

# The outputs of a model, chosen by the second argument of `forward`. It is an argument, not a
# method of its own, because strategies wrap `forward` only: there they gather weights that are
# sharded over ranks. All models give "scores". Those that end in an extreme learning machine are
# trained on "log_likelihoods" of the classes, and their machine is fitted to "statistics". "parts"
# is a dictionary, for losses that read more than the scores: "scores", "vector" [B, D], the input
# of the last linear layer, and "attributes" [B, A] of a model that predicts them. "all" is the
# scores and the attributes side by side, [B, C + A], for evaluation.
Output = Literal["scores", "log_likelihoods", "statistics", "parts", "all"]


class ModelError(UserError):
    """A model that cannot be built or fed as configured."""


class BranchOutput(NamedTuple):
    """The output of one branch for a batch.

    Attributes:
        logits_BC: class scores, before the softmax.
        vector_BD: the input of the last linear layer.
        present_B: bool, which rows have this modality at all. The scores and vectors of the other
            rows are finite but meaningless; a fusion must ignore them.
        states_BTD: one vector for each token or frame, before pooling; None from a branch that has
            none, or was not asked for them.
        mask_BT: bool, which states are valid; None as above.
    """

    logits_BC: Tensor
    vector_BD: Tensor
    present_B: Tensor
    states_BTD: Tensor | None = None
    mask_BT: Tensor | None = None

    def mixed(self, weight_B: Tensor, partner_B: Tensor) -> BranchOutput:
        """Manifold mixup: `weight` of each row's own output, the rest its partner's; no states.

        Mixing the input of a linear layer mixes its output alike: no layer is computed anew. A row
        keeps its own output where one of the two lacks the modality.
        """
        both_B = self.present_B & self.present_B[partner_B]
        weight_B = torch.where(both_B, weight_B, torch.ones_like(weight_B))
        logits_BC, vector_BD = (
            mix(x, weight_B, partner_B) for x in (self.logits_BC, self.vector_BD)
        )
        return BranchOutput(logits_BC, vector_BD, self.present_B)

    def without(self, rows_B: Tensor) -> BranchOutput:
        """The same output, but with the modality missing in `rows_B` (bool)."""
        mask_BT = None if self.mask_BT is None else self.mask_BT & ~rows_B[:, None]
        return self._replace(present_B=self.present_B & ~rows_B, mask_BT=mask_BT)


class Fused(NamedTuple):
    """The output of a fusion: class scores, and the input of its last linear layer."""

    logits_BC: Tensor
    vector_BD: Tensor


class Branch(nn.Module):
    """Base of all branches. Each is made as `Kind(config, classes, size, architecture)`.

    `size` is the number of entries in the tokenizer, or of values in a frame. `architecture` is the
    result of `describe`, to build a pretrained encoder without reading its weights. A branch
    ignores arguments that it does not need.

    Attributes:
        kind: its name in reports: an encoder's architecture, or the kind of its configuration.
        width: of `vector_BD`.
        states_width: of `states_BTD`; 0 without them.
        behind: by the part that a fusion reads, the layers after it, which are then unused.
    """

    kind: str
    width: int
    states_width: int = 0
    behind: ClassVar[Mapping[Reads, tuple[str, ...]]] = {
        "logits": (),
        "vector": ("head",),
        "states": ("pool", "head"),
    }

    def serve(self, reads: Reads) -> None:
        """Prepare for a fusion that reads only this part of the output."""
        present = dict(self.named_children())
        for name in (one for one in self.behind[reads] if one in present):
            # Nothing uses the output of these layers, so they would get no gradient, for which DDP
            # would wait for ever.
            present[name].requires_grad_(False)

    def check_length(self, length: int) -> None:
        """Raise ModelError if an input of so many tokens or frames is too long.

        Called before training with the longest input of the dataset. By default any length fits.
        """

    def describe(self) -> dict[str, Any] | None:
        """The architecture of a pretrained encoder as plain JSON; None without one."""
        return None


def column(present_B: Tensor, like: Tensor) -> Tensor:
    """`present_B` as a factor of 0 or 1, [B, 1], in the dtype of `like`."""
    return present_B.unsqueeze(-1).to(like.dtype)
