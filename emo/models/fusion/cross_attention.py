"""Cross-attention: tokens attend to frames, and frames to tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emo.models.branch import BranchOutput, Fused, column
from emo.models.fusion.config import CrossAttentionConfig
from emo.models.numerics import mean_valid


class CrossAttentionFusion(nn.Module):
    """Every token attends to the frames, and every frame to the tokens.

    The crossmodal attention of Tsai et al. 2019 ("Multimodal transformer for unaligned multimodal
    language sequences"), with one block for each direction. The result of attention is added to the
    sequence and normalised; valid places are averaged; each mean goes through a linear layer; these
    are summed. Unlike there, no self-attention follows: the branches' encoders already have it.
    """

    def __init__(
        self, config: CrossAttentionConfig, classes: int, widths: Mapping[str, int]
    ) -> None:
        super().__init__()
        hidden = config.hidden
        self.inner = nn.ModuleDict({name: nn.Linear(n, hidden) for name, n in widths.items()})
        self.attend = nn.ModuleDict(
            {name: CrossAttention(hidden, config.heads, config.dropout) for name in widths}
        )
        self.norm = nn.ModuleDict({name: nn.LayerNorm(hidden) for name in widths})
        self.join = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in widths})
        self.dropout = nn.Dropout(config.dropout)
        self.width = hidden  # of the vector
        self.head = nn.Linear(hidden, classes)

    def forward(self, outputs: Mapping[str, BranchOutput]) -> Fused:
        """Scores from one or more branches' outputs, and the vector behind them."""
        dtype = self.head.weight.dtype
        states, masks = {}, {}
        for name, branch in outputs.items():
            assert branch.states_BTD is not None
            assert branch.mask_BT is not None
            states[name] = self.inner[name](branch.states_BTD.to(dtype))
            masks[name] = branch.mask_BT
        parts = []
        for name, mask_BT in masks.items():
            x_BTD = states[name]
            # In the same order on every rank: under ZeRO-3 and FSDP each call is a collective.
            for other in (one for one in masks if one != name):
                x_BTD = x_BTD + self.attend[name](x_BTD, states[other], masks[other])
            joined_BD = self.join[name](mean_valid(self.norm[name](x_BTD), mask_BT))
            parts.append(joined_BD * column(mask_BT.any(dim=1), joined_BD))
        vector_BD = self.dropout(F.gelu(torch.stack(parts).sum(dim=0)))
        return Fused(self.head(vector_BD), vector_BD)


class CrossAttention(nn.Module):
    """Attention of one sequence to another (Vaswani et al. 2017), with `heads` heads.

    Its linear layers are called one by one. `nn.MultiheadAttention` reads the weights of a child
    without calling it, but ZeRO-3 gathers weights only when a module is called.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, other_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """What each place of `x_BTD` reads from the valid places of `other_BSD`, [B, T, D].

        Zero in rows of `other_BSD` that have none.
        """
        some_B = mask_BS.any(dim=1)
        attended_BS = mask_BS.clone()
        # Attention over no place at all is NaN, also in the gradient, where masking the result does
        # not help. So such rows attend to one place, and are multiplied by 0 at the end.
        attended_BS[:, 0] |= ~some_B
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, x_BTD), (self.key, other_BSD), (self.value, other_BSD))
        )
        heard_BHTD = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attended_BS[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        heard_BTD = self.out(heard_BHTD.transpose(1, 2).flatten(2))
        return heard_BTD * some_B[:, None, None].to(heard_BTD.dtype)
