"""A network over the loudest segments, followed by an extreme learning machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emo.models.audio.config import DnnElmConfig
from emo.models.audio.elm import ElmBranch, check_descriptors, utterance_statistics
from emo.models.numerics import at_least_float32
from shards.extract.features.lowlevel import ENERGY


class DnnElm(ElmBranch):
    """Han et al. 2014: segments of 25 frames, a network's posteriors, statistics, an ELM.

    Only the tenth of an utterance's segments with the most energy is used, in training and later.
    Each of them has the utterance's label as target, whatever it contains. Three layers of 256 ReLU
    and a softmax give its posteriors.

    Ours: the descriptors are Lee & Tashev's (voice probability and zero crossings instead of Han's
    harmonics-to-noise ratio); a segment's energy is the mean of its frames' log energy; an
    utterance's loss is the mean over its segments, so that long ones do not count more; dropout.

    Why it stays below the ceiling of prosody: a segment lasts a quarter of a second, and the
    loudest ones contain no pause, so the speaking rate hardly shows; and statistics have no order.
    """

    config: DnnElmConfig

    def __init__(
        self,
        config: DnnElmConfig,
        classes: int,
        size: int,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_descriptors(size, config.kind)
        layers: list[nn.Module] = []
        width = config.context * size
        for _ in range(config.layers):
            layers += [nn.Linear(width, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)]
            width = config.hidden
        self.segment = nn.Sequential(*layers, nn.Linear(width, classes))
        self.end_in_elm(config, classes, config.kind)

    def log_likelihoods(self, audio_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """The classes' log-posteriors, averaged over the segments that are used, [B, C]."""
        log_BKC, chosen_BK = self.posteriors(audio_BTF, mask_BT)
        weight_BK1 = chosen_BK.unsqueeze(-1).to(log_BKC.dtype)
        return (log_BKC * weight_BK1).sum(dim=1) / weight_BK1.sum(dim=1).clamp(min=1)

    def statistics(self, audio_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """Statistics of the posteriors of the segments that are used, [B, 4C]."""
        log_BKC, chosen_BK = self.posteriors(audio_BTF, mask_BT)
        return utterance_statistics(log_BKC.exp(), chosen_BK, self.config.threshold)

    def posteriors(self, audio_BTF: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Log-posteriors of the loudest segments, [B, K, C], and which exist, bool [B, K]."""
        dtype = self.segment[0].weight.dtype
        assert isinstance(dtype, torch.dtype)
        x_BTF = audio_BTF.to(dtype).masked_fill(~mask_BT.unsqueeze(-1), 0.0)
        segments_BKD, chosen_BK = self.loudest(x_BTF, mask_BT)
        scores_BKC = at_least_float32(self.segment(segments_BKD))
        return torch.log_softmax(scores_BKC, dim=-1), chosen_BK

    def loudest(self, x_BTF: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The loudest segments, [B, K, context · F], and which of the K exist, bool [B, K].

        An utterance shorter than a segment has one, padded with the mean of the features (0).
        """
        context, stride = self.config.context, self.config.stride
        x_BTF = F.pad(x_BTF, (0, 0, 0, max(0, context - x_BTF.shape[1])))
        windows_BSFW = x_BTF.unfold(1, context, stride)
        frames_B = mask_BT.sum(dim=1)
        count_B = torch.div((frames_B - context).clamp(min=0), stride, rounding_mode="floor") + 1
        energy_BS = windows_BSFW[:, :, ENERGY].mean(dim=-1)
        there_BS = torch.arange(energy_BS.shape[1], device=x_BTF.device) < count_B[:, None]
        low = torch.finfo(energy_BS.dtype).min
        energy_BS = energy_BS.masked_fill(~there_BS, low)
        # Rounded up, so that every utterance keeps at least one segment.
        keep_B = torch.ceil(count_B * self.config.loudest).long()
        most = int(keep_B.max())
        # Stable, so that among equally loud segments (silence) the choice does not depend on the
        # number of padded ones.
        order_BK = energy_BS.argsort(dim=1, descending=True, stable=True)[:, :most]
        rows_B1 = torch.arange(len(x_BTF), device=x_BTF.device)[:, None]
        segments_BKD = windows_BSFW[rows_B1, order_BK].transpose(2, 3).flatten(2)
        chosen_BK = torch.arange(most, device=x_BTF.device) < keep_B[:, None]
        return segments_BKD, chosen_BK & mask_BT.any(dim=1, keepdim=True)
