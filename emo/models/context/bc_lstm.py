"""bc-LSTM: a model over dialogues that reads the turns before and after each turn."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from emo.models.context.config import BcLstmConfig


class BcLstm(nn.Module):
    """Bidirectional contextual LSTM (Poria et al. 2017), hierarchical.

    Level 1, for each modality: a bidirectional LSTM over the dialogue, then a dense layer with
    tanh. Level 2, for several modalities: a bidirectional LSTM over their concatenated outputs,
    then a dense layer with ReLU. A linear layer scores each turn. Both levels are trained together
    here; the published code trains level 1 first. In the published code the second LSTM does not
    read the dialogue in reverse; here it does.

    The published model does not know who speaks. With `speakers`, the model reads the dialogue once
    for each side, with the same weights: the side's own turns and the others' are in separate
    columns, and one more column says which of the two a turn is. The scores of a turn come from the
    reading of its own side.
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
        """`logits_DTC` of one reading; `mine_DT1` bool marks the turns of the side that reads."""
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
    """Float [D, T, 2W + 1]: own turns, others' turns (0 elsewhere), and 1 where the turn is own."""
    if mine_DT1 is None:
        return x_DTW
    mine = mine_DT1.to(x_DTW.dtype)
    return torch.cat([x_DTW * mine, x_DTW * (1 - mine), mine], dim=-1)


class TwoWayLstm(nn.Module):
    """A bidirectional LSTM over sequences of different lengths, unaffected by padding.

    The second direction reads each sequence reversed within its own length. Unlike packed
    sequences, this needs no lengths on the CPU, and an empty sequence is no special case.
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
    """Each sequence reversed within its own length; the padding after it stays where it is."""
    place_T = torch.arange(x_DTW.shape[1], device=x_DTW.device)
    mirrored_DT = lengths_D[:, None] - 1 - place_T
    source_DT = torch.where(mirrored_DT >= 0, mirrored_DT, place_T)
    return x_DTW.gather(1, source_DT.unsqueeze(-1).expand_as(x_DTW))
