"""Models over dialogues: bc-LSTM (both sides of a turn) and ICON (its past alone).

They read one vector a turn and modality, written before by trained branches. A batch is D dialogues
of up to T turns; valid turns come first. Scores come flattened, [D·T, C], row by row: the loop that
trains on utterances then trains on turns, with padding and turns outside the label set as rows that
are not valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from emo.models.branch import ModelError
from emo.models.config import BcLstmConfig, IconConfig, ModelConfig


class ContextModel(nn.Module):
    """Dialogues to class scores, through the one child `context`.

    Args:
        config: its `context` is set.
        classes: how many scores.
        widths: of each modality's vectors.
    """

    def __init__(self, config: ModelConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        chosen = config.context
        assert chosen is not None
        missing = [name for name in chosen.modalities if name not in widths]
        if missing:
            raise ModelError(f"there are no vectors of {' and '.join(missing)}")
        self.config, self.classes = config, classes
        self.widths: dict[str, int] = {name: widths[name] for name in chosen.modalities}
        self.branches = chosen.modalities
        self.turn_dropout = chosen.turn_dropout
        self.context: BcLstm | Icon
        if isinstance(chosen, IconConfig):
            self.context = Icon(chosen, classes, sum(self.widths.values()))
        else:
            self.context = BcLstm(chosen, classes, self.widths)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`logits_NC` of the N = D·T places of a batch.

        Reads per modality `text` or `audio` float [D,T,W], `turn_mask` bool [D,T] (valid turns come
        first) and `speaker` int64 [D,T], any numbers that tell a dialogue's speakers apart. Scores
        of padding are finite and mean nothing.
        """
        dtype = next(self.parameters()).dtype
        mask_DT = heard_DT = batch["turn_mask"]
        if self.training and self.turn_dropout:
            heard_DT = mask_DT & (torch.rand(mask_DT.shape, device=mask_DT.device)
                                  >= self.turn_dropout)  # fmt: skip
        vectors = {
            # Whatever stands in the padding, even NaN, must not get into a sum.
            name: batch[name].to(dtype).masked_fill(~heard_DT.unsqueeze(-1), 0.0)
            for name in self.widths
        }
        logits_DTC = self.context(vectors, mask_DT, batch["speaker"])
        return logits_DTC.flatten(0, 1)

    def describe(self) -> dict[str, Any]:
        """Plain JSON from which `emo.models.model.rebuild` makes this model again."""
        return {
            "model": self.config.model_dump(mode="json"),
            "classes": self.classes,
            "widths": self.widths,
        }


class BcLstm(nn.Module):
    """Bidirectional contextual LSTM (Poria et al. 2017), hierarchical.

    Level 1, a modality: bidirectional LSTM over the dialogue, dense with tanh. Level 2, where there
    are several: their outputs side by side, bidirectional LSTM, dense with ReLU. A linear layer
    scores each turn. Both levels are trained at once here; the published code trains level 1 first.
    Its backward pass is not reversed; this one is.

    Published, it is not told who speaks. With `speakers` it reads the dialogue once for each side:
    what that side says in places of their own, what the others say in other places, and whose turn
    it is; a turn takes its scores from its own side's reading. The weights are the same ones, so
    what is learnt of one speaker holds for all.
    """

    def __init__(self, config: BcLstmConfig, classes: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.tells_speakers = config.speakers
        self.lstm = nn.ModuleDict(
            {name: TwoWayLstm(self._told(width), config.hidden) for name, width in widths.items()}
        )
        self.dense = nn.ModuleDict(
            {name: nn.Linear(2 * config.hidden, config.dense) for name in widths}
        )
        self.dropout = nn.Dropout(config.dropout)
        self.fuses = len(widths) > 1
        if self.fuses:
            self.fused_lstm = TwoWayLstm(self._told(len(widths) * config.dense), config.hidden)
            self.fused_dense = nn.Linear(2 * config.hidden, config.fused)
        self.head = nn.Linear(config.fused if self.fuses else config.dense, classes)

    def forward(self, vectors: Mapping[str, Tensor], mask_DT: Tensor, speaker_DT: Tensor) -> Tensor:
        """`logits_DTC` from each modality's vectors [D,T,W]."""
        lengths_D = mask_DT.sum(dim=1)
        if not self.tells_speakers:
            return self.read(vectors, lengths_D, None)
        first_DT1 = (speaker_DT == speaker_DT[:, :1]).unsqueeze(-1)
        both = {name: torch.cat([x_DTW, x_DTW]) for name, x_DTW in vectors.items()}
        mine = torch.cat([first_DT1, ~first_DT1])
        ours_DTC, theirs_DTC = self.read(both, lengths_D.repeat(2), mine).chunk(2)
        return torch.where(first_DT1, ours_DTC, theirs_DTC)

    def read(
        self, vectors: Mapping[str, Tensor], lengths_D: Tensor, mine_DT1: Tensor | None
    ) -> Tensor:
        """`logits_DTC` of one reading; `mine_DT1` bool, the turns of the side that reads."""
        parts = []
        for name, x_DTW in vectors.items():
            x_DTH = self.lstm[name](_sided(x_DTW, mine_DT1), lengths_D)
            parts.append(torch.tanh(self.dense[name](self.dropout(x_DTH))))
        x_DTH = torch.cat(parts, dim=-1)
        if self.fuses:
            x_DTH = self.fused_lstm(_sided(x_DTH, mine_DT1), lengths_D)
            x_DTH = torch.relu(self.fused_dense(self.dropout(x_DTH)))
        return self.head(self.dropout(x_DTH))

    def _told(self, width: int) -> int:
        return 2 * width + 1 if self.tells_speakers else width


def _sided(x_DTW: Tensor, mine_DT1: Tensor | None) -> Tensor:
    """Float [D, T, 2W + 1]: `x` where it is mine, `x` where it is not, and which it is."""
    if mine_DT1 is None:
        return x_DTW
    mine = mine_DT1.to(x_DTW.dtype)
    return torch.cat([x_DTW * mine, x_DTW * (1 - mine), mine], dim=-1)


class TwoWayLstm(nn.Module):
    """A bidirectional LSTM over sequences of unlike lengths; padding behind them reaches nothing.

    The second direction runs over each sequence turned round in its own length. So no lengths have
    to come to the CPU, as packed sequences want, and an empty sequence is no special case.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.forth = nn.LSTM(inputs, hidden, batch_first=True)
        self.back = nn.LSTM(inputs, hidden, batch_first=True)

    def forward(self, x_DTW: Tensor, lengths_D: Tensor) -> Tensor:
        """Float [D, T, 2·hidden]."""
        forth_DTH, _ = self.forth(x_DTW)
        back_DTH, _ = self.back(turned(x_DTW, lengths_D))
        return torch.cat([forth_DTH, turned(back_DTH, lengths_D)], dim=-1)


def turned(x_DTW: Tensor, lengths_D: Tensor) -> Tensor:
    """Each sequence in reverse, in place within its length; what stands behind it stays."""
    place_T = torch.arange(x_DTW.shape[1], device=x_DTW.device)
    mirrored_DT = lengths_D[:, None] - 1 - place_T
    source_DT = torch.where(mirrored_DT >= 0, mirrored_DT, place_T)
    return x_DTW.gather(1, source_DT.unsqueeze(-1).expand_as(x_DTW))


class Icon(nn.Module):
    """Interactive conversational memory network (Hazarika et al. 2018).

    For each turn: a query from its own vector; one GRU over the past turns of its speaker, one over
    those of everybody else, each keeping its state over turns that are not its own; the tanh of
    their sum goes through a GRU that makes the memories. The query attends to them and takes what
    it finds along. Further hops read memories that a second GRU, shared by these hops, makes of the
    previous ones. Only the last `past` turns count. The modalities' vectors stand side by side.

    The paper's third parties are for dialogues of two; with more speakers, the others count as one.
    That the dropout of the published code acts on the GRUs' outputs is an assumption.
    """

    def __init__(self, config: IconConfig, classes: int, inputs: int) -> None:
        super().__init__()
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
            found_NH, _ = attend(query_NH, memory_NKH, mask_NK)
            query_NH = torch.tanh(query_NH + found_NH)
        return self.head(query_NH).unflatten(0, mask_DT.shape)


def histories(
    x_DTW: Tensor, mask_DT: Tensor, speaker_DT: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What came before each of the N = D·T turns: its last K = min(most, T-1) turns, oldest first.

    Returns:
        Float [N, K, W], zero where there is no such turn; bool [N, K], where there is (these come
        first); bool [N, K], whether the turn's own speaker said it.
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
    """The state [N, K, H] of `gru` (batch first) after each place, moved only where it takes.

    The turns that it takes are brought to the front, so that one call runs over them alone; each
    place then looks up the state after the last of them. Before the first, the state is zero.
    """
    order_NK = torch.argsort((~takes_NK).to(torch.int8), dim=1, stable=True)
    states_NKH, _ = gru(x_NKW.gather(1, order_NK.unsqueeze(-1).expand_as(x_NKW)))
    count_NK = takes_NK.cumsum(dim=1)
    last_NK1 = (count_NK - 1).clamp(min=0).unsqueeze(-1)
    found_NKH = states_NKH.gather(1, last_NK1.expand(-1, -1, states_NKH.shape[-1]))
    return found_NKH.masked_fill((count_NK == 0).unsqueeze(-1), 0.0)


def attend(query_NH: Tensor, memory_NKH: Tensor, mask_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The memories weighted by softmax(query · memory) over the mask, and the weights.

    Float [N, H] and [N, K]; both are zero where nothing is remembered.
    """
    scores_NK = torch.einsum("nh,nkh->nk", query_NH, memory_NKH)
    scores_NK = scores_NK.masked_fill(~mask_NK, torch.finfo(scores_NK.dtype).min)
    weights_NK = torch.softmax(scores_NK, dim=-1) * mask_NK
    return torch.einsum("nk,nkh->nh", weights_NK, memory_NKH), weights_NK
