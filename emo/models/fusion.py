"""How the branches' evidence becomes one prediction. A modality that is absent adds nothing.

A new kind is a configuration in `emo.models.config`, a class here with `reads`, and its entry in
`FUSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emo.models.branch import Evidence
from emo.models.config import CrossAttentionConfig, GatedFusionConfig, PaperFusionConfig
from emo.models.losses import at_least_float32

Reads = Literal["logits", "vector", "states"]  # of `Evidence`


class PaperFusion(nn.Module):
    """The paper's fusion (section 5.3): class probabilities, a Linear each, summed.

    The softmax of the sum is left to the loss. Where the branches' errors are independent given the
    emotion, scores that add up are what Bayes' rule asks for.
    """

    reads: ClassVar[Reads] = "logits"

    def __init__(self, config: PaperFusionConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.linear = nn.ModuleDict({name: nn.Linear(classes, classes) for name in widths})
        if config.identity_start:
            for layer in self.linear.values():
                assert isinstance(layer, nn.Linear)
                nn.init.eye_(layer.weight)
                layer.weight.data.mul_(config.scale)
                nn.init.zeros_(layer.bias)

    def forward(self, evidence: Mapping[str, Evidence]) -> Tensor:
        """`logits_BC` from one or more branches' evidence."""
        parts = []
        for name, branch in evidence.items():
            layer = self.linear[name]
            assert isinstance(layer, nn.Linear)
            # In half precision a softmax would lose the small probabilities.
            probabilities_BC = torch.softmax(at_least_float32(branch.logits_BC), dim=-1)
            scores_BC = layer(probabilities_BC.to(layer.weight.dtype))
            parts.append(scores_BC * _column(branch.present_B, scores_BC))
        return torch.stack(parts).sum(dim=0)


class GatedFusion(nn.Module):
    """A gate for each branch, seeing all of them, weights its vector (after Arevalo et al. 2017).

    Unlike there the gates are independent and do not sum to one, so that any subset of the
    modalities, none included, gives a finite result.
    """

    reads: ClassVar[Reads] = "vector"

    def __init__(self, config: GatedFusionConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.widths = dict(widths)
        both, hidden = sum(widths.values()), config.hidden
        self.value = nn.ModuleDict({name: nn.Linear(n, hidden) for name, n in widths.items()})
        self.gate = nn.ModuleDict({name: nn.Linear(both, hidden) for name in widths})
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(hidden, classes)

    def forward(self, evidence: Mapping[str, Evidence]) -> Tensor:
        """`logits_BC` from one or more branches' evidence."""
        dtype = self.head.weight.dtype
        given = next(iter(evidence.values())).vector_BD
        vectors = {}
        for name, width in self.widths.items():
            if name in evidence:
                vector_BD = evidence[name].vector_BD.to(dtype)
                vectors[name] = vector_BD * _column(evidence[name].present_B, vector_BD)
            else:
                vectors[name] = given.new_zeros(given.shape[0], width, dtype=dtype)
        all_BD = torch.cat(list(vectors.values()), dim=1)
        parts = []
        for name, branch in evidence.items():
            value_BD = torch.tanh(self.value[name](vectors[name]))
            gate_BD = torch.sigmoid(self.gate[name](all_BD))
            parts.append(gate_BD * value_BD * _column(branch.present_B, value_BD))
        return self.head(self.dropout(torch.stack(parts).sum(dim=0)))


class CrossAttentionFusion(nn.Module):
    """Every token looks for the frames that concern it, every frame for the tokens.

    The crossmodal attention of Tsai et al. 2019 ("Multimodal transformer for unaligned multimodal
    language sequences"), one block a direction: what attention finds is added to the sequence and
    normalised; valid places are averaged; a linear layer each, summed. Unlike there, no further
    self-attention: the branches' own encoders have seen to that.
    """

    reads: ClassVar[Reads] = "states"

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
        self.head = nn.Linear(hidden, classes)

    def forward(self, evidence: Mapping[str, Evidence]) -> Tensor:
        """`logits_BC` from one or more branches' evidence."""
        dtype = self.head.weight.dtype
        states, masks = {}, {}
        for name, branch in evidence.items():
            assert branch.states_BTD is not None
            assert branch.mask_BT is not None
            states[name] = self.inner[name](branch.states_BTD.to(dtype))
            masks[name] = branch.mask_BT
        parts = []
        for name, mask_BT in masks.items():
            x_BTD = states[name]
            for other in masks.keys() - {name}:
                x_BTD = x_BTD + self.attend[name](x_BTD, states[other], masks[other])
            x_BTD = self.norm[name](x_BTD) * mask_BT.unsqueeze(-1).to(dtype)
            count_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1).to(dtype)
            joined_BD = self.join[name](x_BTD.sum(dim=1) / count_B1)
            parts.append(joined_BD * _column(mask_BT.any(dim=1), joined_BD))
        return self.head(self.dropout(F.gelu(torch.stack(parts).sum(dim=0))))


class CrossAttention(nn.Module):
    """Queries of one sequence over another (Vaswani et al. 2017), `heads` side by side.

    Of linear layers that are called as such: `nn.MultiheadAttention` reads the weights of a child
    that it does not call, which ZeRO-3 has not gathered.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, other_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """What each place of `x_BTD` finds in `other_BSD`, where `mask_BS` is set: [B, T, D].

        Zero in rows where nothing is set.
        """
        some_B = mask_BS.any(dim=1)
        attended_BS = mask_BS.clone()
        attended_BS[:, 0] |= ~some_B  # attention over nothing at all is not a number
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, x_BTD), (self.key, other_BSD), (self.value, other_BSD))
        )
        found = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attended_BS[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        found_BTD = self.out(found.transpose(1, 2).flatten(2))
        return found_BTD * some_B[:, None, None].to(found_BTD.dtype)


FUSIONS: dict[str, type[PaperFusion] | type[GatedFusion] | type[CrossAttentionFusion]] = {
    "paper": PaperFusion,
    "gated": GatedFusion,
    "cross_attention": CrossAttentionFusion,
}


def drop_modalities(evidence: Mapping[str, Evidence], share: float) -> dict[str, Evidence]:
    """`evidence`, where on average a `share` of the rows that have both modalities has lost one.

    Which rows, and which of the two, comes from torch's generator; either has the same chance.
    """
    if len(evidence) < 2:
        return dict(evidence)
    (first, one), (second, two) = evidence.items()
    both_B = one.present_B & two.present_B
    chance_B = torch.rand(len(both_B), device=both_B.device)
    return {
        first: one.without(both_B & (chance_B < share / 2)),
        second: two.without(both_B & (chance_B >= share / 2) & (chance_B < share)),
    }


def build_fusion(config: Any, classes: int, widths: Mapping[str, int]) -> nn.Module:
    """The fusion of `config.kind` over branches with these `widths` of what it `reads`."""
    return FUSIONS[config.kind](config, classes, widths)


def _column(present_B: Tensor, like: Tensor) -> Tensor:
    return present_B.unsqueeze(-1).to(like.dtype)
