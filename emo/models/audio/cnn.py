"""The audio branch: a VGG-like CNN over a spectrogram, trained from scratch.

Paper, section 5.2: five convolutions with max pooling, two linear layers, LeakyReLU, dropout. Its
widths and kernels are not stated. There is no batch normalisation, because a batch that is split
over ranks would give other results. The scores of a clip do not depend on the batch's padding.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from emo.models.audio.config import CnnConfig
from emo.models.branch import Branch, BranchOutput
from emo.models.numerics import wide
from emo.models.pooling import make_pooling


class Cnn(Branch):
    """Spectrograms to class scores.

    Args:
        config: its settings.
        classes: how many scores.
        size: bins a frame (mels or coefficients).
    """

    behind: ClassVar = {"logits": (), "vector": ("head",), "states": ("pool", "hidden", "head")}

    def __init__(
        self,
        config: CnnConfig,
        classes: int,
        size: int,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.kind = config.kind
        self.config = config
        blocks, width, bins = [], 1, size
        for channels in config.channels:
            blocks.append(ConvolutionBlock(width, channels, config.kernel, config.slope))
            width, bins = channels, (bins + 1) // 2
        self.blocks = nn.ModuleList(blocks)
        if config.pooling in OF_MAPS:
            pooled = width * bins * len(OF_MAPS[config.pooling])
        else:
            self.pool = make_pooling(config.pooling, width * bins, "model.audio.pooling")
            pooled = self.pool.width
        self.hidden = nn.Linear(pooled, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, classes)
        self.width = config.hidden
        self.states_width = width * bins
        _start(self.hidden, config.slope)
        # Small initial scores: training starts at the loss of a uniform guess, not above it.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, audio_BTF: Tensor, mask_BT: Tensor) -> BranchOutput:
        """Scores of `audio_BTF` (float, normalised), valid where `mask_BT` (bool) is set.

        Valid frames come first in every row; there may be any number of them, also none.
        """
        present_B = mask_BT.any(dim=1)
        dtype = self.hidden.weight.dtype  # half precision under DeepSpeed, float64 in tests
        x_BTF = audio_BTF.to(dtype).masked_fill(~mask_BT.unsqueeze(-1), 0.0)
        if self.config.channels_last:
            # Adding the one channel at the end and moving it gives the strides of channels-last;
            # oneDNN and cuDNN then keep that layout through all blocks.
            x_BCTF = x_BTF.unsqueeze(-1).permute(0, 3, 1, 2)
        else:
            x_BCTF = x_BTF.unsqueeze(1)
        for block in self.blocks:
            if self.config.activation_checkpointing and self.training:
                x_BCTF = checkpoint(block, x_BCTF, mask_BT, use_reentrant=False)
            else:
                x_BCTF = block(x_BCTF, mask_BT)
            mask_BT = halve(mask_BT)
        states_BTD = x_BCTF.transpose(1, 2).flatten(2)
        if self.config.pooling in OF_MAPS:
            pooled = [pool(x_BCTF, mask_BT).flatten(1) for pool in OF_MAPS[self.config.pooling]]
            pooled_BD = torch.cat(pooled, dim=1)
        else:
            pooled_BD = self.pool(states_BTD, mask_BT)
        if self.config.pooled_dropout:
            pooled_BD = F.dropout(pooled_BD, self.config.pooled_dropout, self.training)
        hidden_BD = F.leaky_relu(self.hidden(pooled_BD), self.config.slope)
        vector_BD = self.dropout(hidden_BD)
        return BranchOutput(self.head(vector_BD), vector_BD, present_B, states_BTD, mask_BT)


def mean_of_frames(x_BCTF: Tensor, mask_BT: Tensor) -> Tensor:
    """[B, C, F]; frames outside the mask are zero, so they add nothing."""
    sum_BCF = x_BCTF.sum(dim=2, dtype=wide(x_BCTF.dtype))
    count_B11 = mask_BT.sum(dim=1).clamp(min=1).to(sum_BCF.dtype)[:, None, None]
    return (sum_BCF / count_B11).to(x_BCTF.dtype)


def maximum_of_frames(x_BCTF: Tensor, mask_BT: Tensor) -> Tensor:
    """[B, C, F]; zero in rows without a frame."""
    # All valid frames may be negative: the zeros of the padding must not win the maximum.
    low = torch.finfo(x_BCTF.dtype).min
    highest_BCF = x_BCTF.masked_fill(~mask_BT[:, None, :, None], low).amax(dim=2)
    return highest_BCF.masked_fill(~mask_BT.any(dim=1)[:, None, None], 0.0)


# Poolings of the feature maps as they are, by the name in the configuration; results are
# concatenated. All others (`emo.models.pooling`) read one vector a frame.
OF_MAPS = {
    "mean": (mean_of_frames,),
    "mean_max": (mean_of_frames, maximum_of_frames),
}


class ConvolutionBlock(nn.Module):
    """Convolution, max pooling by 2 in time and frequency, LeakyReLU. Odd ends are kept."""

    def __init__(self, inputs: int, outputs: int, kernel: int, slope: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.slope = slope
        _start(self.convolution, slope)

    def forward(self, x_BCTF: Tensor, mask_BT: Tensor) -> Tensor:
        """Half the frames and bins; frames outside the (halved) mask are zero in and out."""
        x_BCTF = self.convolution(x_BCTF)
        # The last window may hold a valid frame and a frame of padding, which must not win the
        # maximum: if the batch ended here, `ceil_mode` would take the valid frame alone. A penalty
        # that is added in place and broadcast costs nothing in the backward pass; -3e4 fits into
        # float16.
        penalty_BT = torch.zeros_like(mask_BT, dtype=x_BCTF.dtype).masked_fill_(~mask_BT, -3e4)
        x_BCTF = x_BCTF.add_(penalty_BT[:, None, :, None])
        x_BCTF = F.max_pool2d(x_BCTF, 2, ceil_mode=True)
        # LeakyReLU is monotonic: after the maximum it gives the same, on a quarter of the values.
        x_BCTF = F.leaky_relu(x_BCTF, self.slope)
        return x_BCTF * halve(mask_BT)[:, None, :, None].to(x_BCTF.dtype)


def halve(mask_BT: Tensor) -> Tensor:
    """The mask of pairs of frames: valid if the first frame is, since valid frames come first."""
    return mask_BT[:, ::2]


def _start(layer: nn.Conv2d | nn.Linear, slope: float) -> None:
    """Weights that keep the signal's size through LeakyReLU (He et al. 2015), no bias."""
    nn.init.kaiming_normal_(layer.weight, a=slope, nonlinearity="leaky_relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
