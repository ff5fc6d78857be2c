"""Classic audio systems over low-level descriptors: a BiLSTM with a NULL state, and DNN-ELM.

Both see 25 frames of 32 descriptors at a time (`shards.extract.features`), and neither ends in a
linear layer: the utterance's scores come from an extreme learning machine over statistics of what
the network said of its frames or segments. So they are trained in two ways at once. The network
learns by gradients, from scores that are log-likelihoods of the utterance's label and that no
softmax follows (`ModelConfig.normalised` tells the loss). The ELM is fitted in closed form to the
training utterances at every epoch's end, before validation (`emo.training.closed_form`), and takes
no part in training: a branch in training mode gives the network's log-likelihoods, in evaluation
mode the ELM's scores. Before the first fit those are all alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from emo.models.branch import Evidence, ModelError
from emo.models.config import BiLstmNullConfig, DnnElmConfig, ElmConfig
from emo.models.losses import at_least_float32
from shards.extract.features.lowlevel import ENERGY, WIDTH

STATISTICS = 4  # numbers a class: maximum, minimum, mean, fraction above a threshold
LEAST = 1e-3  # what an ELM's output counts for at least, as a probability


class Elm(nn.Module):
    """Extreme learning machine: random fixed sigmoid units, a least-squares output layer.

    Huang et al. 2006, as Han et al. 2014 use it. Input weights and biases are drawn once, uniformly
    from -1 to 1, and are buffers, as are the fitted parts, so that checkpoints and exports hold
    them. Ours: inputs are standardised, and the ridge that keeps the solution finite.
    """

    def __init__(self, config: ElmConfig, inputs: int, classes: int) -> None:
        super().__init__()
        self.ridge = config.ridge
        self.open = False  # while it is fitted, the statistics themselves are let through
        self.weight: Tensor
        self.bias: Tensor
        self.mean: Tensor
        self.scale: Tensor
        self.output: Tensor
        self.register_buffer("weight", torch.empty(inputs, config.hidden).uniform_(-1, 1))
        self.register_buffer("bias", torch.empty(config.hidden).uniform_(-1, 1))
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.register_buffer("output", torch.full((config.hidden, classes), 1 / config.hidden))

    def hidden(self, x_BN: Tensor) -> Tensor:
        """The random units' answers, [B, hidden]."""
        dtype = self.weight.dtype
        return torch.sigmoid((x_BN.to(dtype) - self.mean) * self.scale @ self.weight + self.bias)

    def forward(self, x_BN: Tensor) -> Tensor:
        """Logarithms of the outputs as probabilities, [B, classes]; `x_BN` itself while `open`.

        Least squares on ones and zeros estimates probabilities, but may leave 0 to 1: what is less
        than a thousandth counts as one.
        """
        if self.open:
            return x_BN
        return torch.log((self.hidden(x_BN) @ self.output).clamp(min=LEAST))

    @torch.no_grad()
    def fit(self, x_NM: Tensor, target_NC: Tensor) -> dict[str, Tensor]:
        """New `mean`, `scale` and `output`, as values of those buffers; nothing is changed here.

        The output weights b minimise |H b - T|² + ridge N |b|², so (HᵀH + ridge N) b = HᵀT, solved
        in float64 on the CPU.
        """
        x_NM, target_NC = x_NM.double().cpu(), target_NC.double().cpu()
        mean_M = x_NM.mean(0)
        scale_M = 1 / x_NM.std(0, unbiased=False).clamp(min=1e-4)
        weight, bias = self.weight.double().cpu(), self.bias.double().cpu()
        h_NH = torch.sigmoid((x_NM - mean_M) * scale_M @ weight + bias)
        gram_HH = h_NH.T @ h_NH + self.ridge * len(h_NH) * torch.eye(h_NH.shape[1]).double()
        output_HC = torch.linalg.solve(gram_HH, h_NH.T @ target_NC)
        return {"mean": mean_M, "scale": scale_M, "output": output_HC}


class BiLstmNull(nn.Module):
    """Lee & Tashev 2015: every frame says an emotion or NULL, an utterance says one emotion.

    Two bidirectional LSTM layers over windows of 25 frames give each frame probabilities of the C
    emotions and of NULL (column C). An utterance's label leaves its frames' labels open, so its
    likelihood sums over all of theirs that say it: NULL … NULL, one run of the emotion, NULL …
    NULL. That is the CTC likelihood of the sequence [label] with NULL as the blank, computed here
    for all classes at once (`label_likelihood`), and -log of it is the loss.

    From the publication: descriptors, window, layers, the NULL state, training by the sum over
    frame labels, statistics over frames, ELM. Ours: that CTC's topology says which frame labels
    fit (they keep the sum exact where the publication has its own set of sequences), the dropout,
    the ELM's size (Han's), and `stride`, which leaves out frames that windows of 25 see anyway.

    Why it may stay below what prosody tells: statistics of 100 frames a second lose the order and
    spacing of the cues; the speaking rate shows in a window of 0.25 s only as how many syllables
    begin in it; the ELM sees four numbers a class.
    """

    def __init__(self, config: BiLstmNullConfig, classes: int, features: int) -> None:
        super().__init__()
        _check_width(features, config.kind)
        self.config, self.classes = config, classes
        self.lstm = nn.LSTM(
            config.context * features,
            config.hidden,
            num_layers=config.layers,
            bidirectional=True,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.frame = nn.Linear(2 * config.hidden, classes + 1)
        self.head = Elm(config.elm, STATISTICS * classes, classes)
        self.width = STATISTICS * classes

    def forward(self, audio_BTF: Tensor, mask_BT: Tensor) -> Evidence:
        """Scores of `audio_BTF` (float, normalised), valid where `mask_BT` (bool) is set.

        Training: log-likelihoods of each class (see above). Evaluation: the ELM's log-probabilities
        from statistics of the frames' posteriors, which are the vector.
        """
        present_B = mask_BT.any(dim=1)
        log_BTC, mask_BT = self.posteriors(audio_BTF, mask_BT)
        likelihood_BC = label_likelihood(log_BTC, mask_BT)
        vector_BD = utterance_statistics(log_BTC[..., :-1].exp(), mask_BT, self.config.threshold)
        scores_BC = likelihood_BC if self.training else self.head(vector_BD)
        return Evidence(scores_BC, vector_BD, present_B)

    def posteriors(self, audio_BTF: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Frames' log-posteriors [B, T', C+1], NULL last, and their mask [B, T']."""
        dtype = self.frame.weight.dtype
        x_BTF = audio_BTF.to(dtype).masked_fill(~mask_BT.unsqueeze(-1), 0.0)
        stride, context = self.config.stride, self.config.context
        padded_BTF = F.pad(x_BTF, (0, 0, context // 2, context // 2))
        windows_BTD = padded_BTF.unfold(1, context, stride).flatten(2)
        mask_BT = mask_BT[:, ::stride]
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
    all runs is Σ n + log Σ_{s < e} exp(D_e - D_s): two running sums instead of a forward pass a
    class. Frames outside the mask say nothing. An utterance without frames has likelihood 1.
    """
    valid_BT1 = mask_BT.unsqueeze(-1)
    null_BT1 = log_BTC[..., -1:].masked_fill(~valid_BT1, 0.0)
    gain_BTC = (log_BTC[..., :-1] - log_BTC[..., -1:]).masked_fill(~valid_BT1, 0.0)
    end_BTC = gain_BTC.cumsum(dim=1)  # D_1 … D_T
    begun_BTC = torch.logcumsumexp(gain_BTC - end_BTC, dim=1)  # log Σ_{s < e} exp(-D_s)
    runs_BTC = end_BTC + begun_BTC
    runs_BTC = runs_BTC.masked_fill(~valid_BT1, torch.finfo(runs_BTC.dtype).min)
    found_BC = null_BT1.sum(dim=1) + torch.logsumexp(runs_BTC, dim=1)
    return found_BC.masked_fill(~mask_BT.any(dim=1, keepdim=True), 0.0)


class DnnElm(nn.Module):
    """Han et al. 2014: segments of 25 frames, a network's posteriors, statistics, an ELM.

    Only the tenth of an utterance's segments with the most energy counts, in training and after.
    Each of them is taught the utterance's label, whatever is heard in it; three layers of 256 ReLU
    and a softmax give its posteriors.

    Ours: descriptors are Lee & Tashev's (voice probability and zero crossings stand where Han has
    the harmonics-to-noise ratio); a segment's energy is the mean of its frames' log energy; an
    utterance's loss is the mean over its segments, so that long ones do not count more; dropout.

    Why it stays below what prosody tells: a segment lasts a quarter of a second, and the loudest
    ones hold no pause, so the speaking rate hardly shows; and its statistics know no order.
    """

    def __init__(self, config: DnnElmConfig, classes: int, features: int) -> None:
        super().__init__()
        _check_width(features, config.kind)
        self.config, self.classes = config, classes
        layers: list[nn.Module] = []
        width = config.context * features
        for _ in range(config.layers):
            layers += [nn.Linear(width, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)]
            width = config.hidden
        self.segment = nn.Sequential(*layers, nn.Linear(width, classes))
        self.head = Elm(config.elm, STATISTICS * classes, classes)
        self.width = STATISTICS * classes

    def forward(self, audio_BTF: Tensor, mask_BT: Tensor) -> Evidence:
        """Scores of `audio_BTF` (float, normalised), valid where `mask_BT` (bool) is set.

        Training: the chosen segments' mean log-posteriors. Evaluation: the ELM's log-probabilities
        from statistics of those posteriors, which are the vector.
        """
        dtype = self.segment[0].weight.dtype
        assert isinstance(dtype, torch.dtype)
        x_BTF = audio_BTF.to(dtype).masked_fill(~mask_BT.unsqueeze(-1), 0.0)
        segments_BKD, chosen_BK = self.loudest(x_BTF, mask_BT)
        log_BKC = torch.log_softmax(at_least_float32(self.segment(segments_BKD)), dim=-1)
        vector_BD = utterance_statistics(log_BKC.exp(), chosen_BK, self.config.threshold)
        if self.training:
            weight_BK1 = chosen_BK.unsqueeze(-1).to(log_BKC.dtype)
            scores_BC = (log_BKC * weight_BK1).sum(dim=1) / weight_BK1.sum(dim=1).clamp(min=1)
        else:
            scores_BC = self.head(vector_BD)
        return Evidence(scores_BC, vector_BD, mask_BT.any(dim=1))

    def loudest(self, x_BTF: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The segments that count, [B, K, context · F], and which of the K there are, bool [B, K].

        An utterance shorter than a segment has one, filled up with the mean of the features (0).
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
        keep_B = torch.ceil(count_B * self.config.loudest).long()
        most = int(keep_B.max())
        order_BK = energy_BS.argsort(dim=1, descending=True, stable=True)[:, :most]
        rows_B1 = torch.arange(len(x_BTF), device=x_BTF.device)[:, None]
        segments_BKD = windows_BSFW[rows_B1, order_BK].transpose(2, 3).flatten(2)
        chosen_BK = torch.arange(most, device=x_BTF.device) < keep_B[:, None]
        return segments_BKD, chosen_BK & mask_BT.any(dim=1, keepdim=True)


def utterance_statistics(p_BTC: Tensor, mask_BT: Tensor, threshold: float) -> Tensor:
    """Maximum, minimum, mean of each class' posteriors and their fraction above `threshold`.

    Over the places that `mask_BT` has; [B, 4C], zeros for a row without any.
    """
    mask_BT1 = mask_BT.unsqueeze(-1)
    count_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1).to(p_BTC.dtype)
    parts = (
        p_BTC.masked_fill(~mask_BT1, 0.0).amax(dim=1),
        p_BTC.masked_fill(~mask_BT1, 1.0).amin(dim=1),
        p_BTC.masked_fill(~mask_BT1, 0.0).sum(dim=1) / count_B1,
        ((p_BTC > threshold) & mask_BT1).sum(dim=1).to(p_BTC.dtype) / count_B1,
    )
    return torch.cat(parts, dim=1).masked_fill(~mask_BT.any(dim=1, keepdim=True), 0.0)


def _check_width(features: int, kind: str) -> None:
    if features != WIDTH:
        raise ModelError(
            f"model.audio.kind {kind} reads {WIDTH} low-level descriptors a frame, not {features} "
            "bins: build shards with features.kinds [lld] and set data.audio: lld"
        )
