"""A BiLSTM that labels each frame with an emotion or NULL, and an extreme learning machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from emo.models.audio.config import BiLstmNullConfig
from emo.models.audio.elm import ElmBranch, check_descriptors, utterance_statistics
from emo.models.numerics import at_least_float32


class BiLstmNull(ElmBranch):
    """Lee & Tashev 2015: a frame is labelled with an emotion or NULL, an utterance with an emotion.

    Two bidirectional LSTM layers over windows of 25 frames give each frame probabilities of the C
    emotions and of NULL (column C). The label of an utterance does not fix the labels of its
    frames. So its likelihood is the sum over all frame labels that agree with it: NULL … NULL, one
    run of the emotion, NULL … NULL. That is the CTC likelihood of the sequence [label], with NULL
    as the blank. It is computed for all classes at once (`label_likelihood`); the loss is its
    negative logarithm.

    From the publication: descriptors, window, layers, the NULL state, training by the sum over
    frame labels, statistics over frames, ELM. Ours: the frame labels that agree are those of CTC
    (the publication has a set of its own), the dropout, the ELM's size (Han's), and `stride`, which
    skips frames that windows of 25 see anyway.

    Why it may stay below the ceiling of prosody: statistics over 100 frames a second lose the order
    and spacing of the cues; in a window of 0.25 s the speaking rate shows only in the number of
    syllables that begin in it; the ELM sees four numbers a class.
    """

    config: BiLstmNullConfig

    def __init__(
        self,
        config: BiLstmNullConfig,
        classes: int,
        size: int,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_descriptors(size, config.kind)
        self.lstm = nn.LSTM(
            config.context * size,
            config.hidden,
            num_layers=config.layers,
            bidirectional=True,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.frame = nn.Linear(2 * config.hidden, classes + 1)
        self.end_in_elm(config, classes, config.kind)

    def log_likelihoods(self, audio_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """log P(class is the only emotion of the utterance), [B, C]; see the class."""
        return label_likelihood(*self.posteriors(audio_BTF, mask_BT))

    def statistics(self, audio_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """Statistics of the frames' posteriors without NULL, [B, 4C]."""
        log_BTC, mask_BT = self.posteriors(audio_BTF, mask_BT)
        return utterance_statistics(log_BTC[..., :-1].exp(), mask_BT, self.config.threshold)

    def posteriors(self, audio_BTF: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Frames' log-posteriors [B, T', C+1], NULL last, and their mask [B, T']."""
        dtype = self.frame.weight.dtype
        x_BTF = audio_BTF.to(dtype).masked_fill(~mask_BT.unsqueeze(-1), 0.0)
        stride, context = self.config.stride, self.config.context
        padded_BTF = F.pad(x_BTF, (0, 0, context // 2, context // 2))
        windows_BTD = padded_BTF.unfold(1, context, stride).flatten(2)
        mask_BT = mask_BT[:, ::stride]
        # Packing needs lengths on the CPU, for which the device is waited for once a batch. It also
        # refuses empty sequences, so a row without frames gets one frame of zeros, which is masked.
        lengths_B = mask_BT.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(
            windows_BTD, lengths_B, batch_first=True, enforce_sorted=False
        )
        states, _ = self.lstm(packed)
        states_BTH, _ = pad_packed_sequence(
            states, batch_first=True, total_length=windows_BTD.shape[1]
        )
        scores_BTC = at_least_float32(self.frame(self.dropout(states_BTH)))
        return torch.log_softmax(scores_BTC, dim=-1), mask_BT


def label_likelihood(log_BTC: Tensor, mask_BT: Tensor) -> Tensor:
    """log P([c] | frames) of CTC for every class c alone, [B, C]; the blank is the last column.

    With n_t and c_t the log-posteriors of NULL and of class c, a run from frame s up to e has
    Σ_t n_t + Σ_{s ≤ t < e} (c_t - n_t). With D the running sum of c - n (D_0 = 0), the sum over
    all runs is Σ n + log Σ_{s < e} exp(D_e - D_s): two running sums instead of one forward pass for
    each class. Frames outside the mask are ignored. An utterance without frames has likelihood 1.
    """
    valid_BT1 = mask_BT.unsqueeze(-1)
    null_BT1 = log_BTC[..., -1:].masked_fill(~valid_BT1, 0.0)
    gain_BTC = (log_BTC[..., :-1] - log_BTC[..., -1:]).masked_fill(~valid_BT1, 0.0)
    end_BTC = gain_BTC.cumsum(dim=1)  # D_1 … D_T
    begun_BTC = torch.logcumsumexp(gain_BTC - end_BTC, dim=1)  # log Σ_{s < e} exp(-D_s)
    runs_BTC = end_BTC + begun_BTC
    # The lowest finite number, not -inf: the gradient of a logsumexp over only -inf is NaN.
    runs_BTC = runs_BTC.masked_fill(~valid_BT1, torch.finfo(runs_BTC.dtype).min)
    likelihood_BC = null_BT1.sum(dim=1) + torch.logsumexp(runs_BTC, dim=1)
    return likelihood_BC.masked_fill(~mask_BT.any(dim=1, keepdim=True), 0.0)
