"""ICON: a model over dialogues that reads only the turns before each turn."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from emo.models.context.config import IconConfig


class Icon(nn.Module):
    """Interactive conversational memory network (Hazarika et al. 2018).

    For each turn, the query comes from its own vector. One GRU reads the past turns of its speaker,
    another those of everybody else; each keeps its state during turns that it does not read. The
    tanh of their sum goes through a third GRU, which makes the memories. The query attends to the
    memories, and the result is added to it. Further hops do so with new memories, which a fourth
    GRU, shared by these hops, makes of the previous ones. Only the last `past` turns are read. The
    modalities' vectors are concatenated.

    The publication has dialogues of two speakers; with more, all others count as one. We assume
    that the dropout of the published code acts on the GRUs' outputs.
    """

    def __init__(self, config: IconConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        inputs = sum(widths.values())
        self.past, self.hops = config.past, config.hops
        width = config.width
        self.query = nn.Linear(inputs, width)
        self.own = nn.GRU(inputs, width, batch_first=True)
        self.other = nn.GRU(inputs, width, batch_first=True)
        self.memory = nn.GRU(width, width, batch_first=True)
        if config.hops > 1:
            self.deeper = nn.GRU(width, width, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, vectors: Mapping[str, Tensor], mask_DT: Tensor, speaker_DT: Tensor) -> Tensor:
        """`logits_DTC` from each modality's vectors [D,T,W]."""
        x_DTW = torch.cat(list(vectors.values()), dim=-1)
        past_NKW, mask_NK, same_NK = histories(x_DTW, mask_DT, speaker_DT, self.past)
        query_NH = torch.tanh(self.query(x_DTW.flatten(0, 1)))
        own_NKH = self.dropout(carried(self.own, past_NKW, same_NK & mask_NK))
        other_NKH = self.dropout(carried(self.other, past_NKW, ~same_NK & mask_NK))
        memory_NKH = torch.tanh(own_NKH + other_NKH)
        for hop in range(self.hops):
            memory_NKH, _ = (self.deeper if hop else self.memory)(memory_NKH)
            memory_NKH = self.dropout(memory_NKH)
            recalled_NH, _ = attend(query_NH, memory_NKH, mask_NK)
            query_NH = torch.tanh(query_NH + recalled_NH)
        return self.head(query_NH).unflatten(0, mask_DT.shape)


def histories(
    x_DTW: Tensor, mask_DT: Tensor, speaker_DT: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The K = min(most, T-1) turns before each of the N = D·T turns, oldest first.

    Returns:
        Float [N, K, W], zero where there is no such turn; bool [N, K], where there is one (these
        come first); bool [N, K], whether it is by the same speaker.
    """
    turns = x_DTW.shape[1]
    length = max(1, min(most, turns - 1))
    now_T = torch.arange(turns, device=x_DTW.device)
    first_T = (now_T - length).clamp(min=0)
    place_TK = first_T[:, None] + torch.arange(length, device=x_DTW.device)
    before_TK = place_TK < now_T[:, None]
    place_TK = place_TK.clamp(max=turns - 1)
    mask_DTK = before_TK & mask_DT[:, place_TK] & mask_DT[:, :, None]
    same_DTK = speaker_DT[:, place_TK] == speaker_DT[:, :, None]
    past_DTKW = x_DTW[:, place_TK].masked_fill(~mask_DTK.unsqueeze(-1), 0.0)
    return past_DTKW.flatten(0, 1), mask_DTK.flatten(0, 1), same_DTK.flatten(0, 1)


def carried(gru: nn.GRU, x_NKW: Tensor, takes_NK: Tensor) -> Tensor:
    """The state [N, K, H] of `gru` (batch first) after each place; it reads only where `takes_NK`.

    The turns that it reads are moved to the front, so that one call reads only them. Each place
    then gets the state after the last turn read so far; before the first, zeros.
    """
    # Stable: the turns that are read keep their order.
    order_NK = torch.argsort((~takes_NK).to(torch.int8), dim=1, stable=True)
    states_NKH, _ = gru(x_NKW.gather(1, order_NK.unsqueeze(-1).expand_as(x_NKW)))
    count_NK = takes_NK.cumsum(dim=1)
    last_NK1 = (count_NK - 1).clamp(min=0).unsqueeze(-1)
    state_NKH = states_NKH.gather(1, last_NK1.expand(-1, -1, states_NKH.shape[-1]))
    return state_NKH.masked_fill((count_NK == 0).unsqueeze(-1), 0.0)


def attend(query_NH: Tensor, memory_NKH: Tensor, mask_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The memories weighted by softmax(query · memory) over the mask, and the weights.

    Float [N, H] and [N, K]; both are zero for a turn without memories.
    """
    scores_NK = torch.einsum("nh,nkh->nk", query_NH, memory_NKH)
    # The lowest finite number, not -inf, with which a row without memories would be NaN. Whatever
    # weights the softmax gives such a row are then multiplied by 0.
    scores_NK = scores_NK.masked_fill(~mask_NK, torch.finfo(scores_NK.dtype).min)
    weights_NK = torch.softmax(scores_NK, dim=-1) * mask_NK
    return torch.einsum("nk,nkh->nh", weights_NK, memory_NKH), weights_NK
