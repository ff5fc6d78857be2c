"""The common part of the classic systems: statistics of an utterance, and the machine behind them.

Both systems read 25 frames of 32 descriptors at a time (`shards.extract.features.lowlevel`), and
neither ends in a linear layer. An utterance's scores come from an extreme learning machine over
statistics of the network's posteriors for its frames or segments. So the two halves are trained
differently. The network is trained by gradients from `log_likelihoods`, without a softmax
(`ModelConfig.trained_on`). The machine is fitted in closed form to the `statistics` of the training
utterances at the end of every epoch, before validation (`emo.training.epoch_end.closed_form`); it
has no gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emo.models.audio.config import ElmBranchConfig, ElmConfig
from emo.models.branch import Branch, BranchOutput, ModelError
from shards.extract.features.lowlevel import WIDTH

STATISTICS = 4  # numbers a class: maximum, minimum, mean, fraction above a threshold
LEAST = 1e-3  # lower bound of an ELM's outputs, read as probabilities


class Elm(nn.Module):
    """Extreme learning machine: random fixed sigmoid units, a least-squares output layer.

    Huang et al. 2006, as used by Han et al. 2014. Input weights and biases are drawn once, uniform
    from -1 to 1. They are buffers, as are the fitted parts, so that checkpoints and exports contain
    them. Ours: the standardised inputs, and the ridge, which keeps the solution finite. Before the
    first fit all classes have the same score.
    """

    def __init__(self, config: ElmConfig, inputs: int, classes: int) -> None:
        super().__init__()
        self.ridge = config.ridge
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
        """The outputs of the random units, [B, hidden]."""
        dtype = self.weight.dtype
        return torch.sigmoid((x_BN.to(dtype) - self.mean) * self.scale @ self.weight + self.bias)

    def forward(self, x_BN: Tensor) -> Tensor:
        """The logarithm of the outputs, read as probabilities, [B, classes].

        Least squares on ones and zeros estimates probabilities, but may leave the range 0 to 1.
        Outputs below a thousandth (`LEAST`) are raised to it.
        """
        return torch.log((self.hidden(x_BN) @ self.output).clamp(min=LEAST))

    @torch.no_grad()
    def fit(self, x_NM: Tensor, target_NC: Tensor) -> None:
        """Set `mean`, `scale` and `output` to the solution for inputs and target distributions."""
        for name, value in self.solution(x_NM, target_NC).items():
            # In place: strategies hold references to the tensor.
            self.get_buffer(name).copy_(value)

    @torch.no_grad()
    def solution(self, x_NM: Tensor, target_NC: Tensor) -> dict[str, Tensor]:
        """The values to which `fit` sets those buffers, float64 on the CPU.

        The output weights b minimise |H b - T|² + ridge N |b|², so (HᵀH + ridge N) b = HᵀT. This is
        solved in float64 on the CPU, so that every rank gets the same bits on any device.
        """
        x_NM, target_NC = x_NM.double().cpu(), target_NC.double().cpu()
        mean_M = x_NM.mean(0)
        scale_M = 1 / x_NM.std(0, unbiased=False).clamp(min=1e-4)
        weight, bias = self.weight.double().cpu(), self.bias.double().cpu()
        h_NH = torch.sigmoid((x_NM - mean_M) * scale_M @ weight + bias)
        gram_HH = h_NH.T @ h_NH + self.ridge * len(h_NH) * torch.eye(h_NH.shape[1]).double()
        output_HC = torch.linalg.solve(gram_HH, h_NH.T @ target_NC)
        return {"mean": mean_M, "scale": scale_M, "output": output_HC}


class ElmBranch(Branch):
    """Base of the classic systems: a network, and `head`, the machine behind it.

    A subclass makes its network, then calls `end_in_elm`, and implements `log_likelihoods` and
    `statistics`.
    """

    config: ElmBranchConfig
    head: Elm

    def end_in_elm(self, config: ElmBranchConfig, classes: int, kind: str) -> None:
        """Make the last part. Call it after making the network, to keep the order of draws."""
        self.config, self.kind = config, kind
        self.width = STATISTICS * classes
        self.head = Elm(config.elm, self.width, classes)

    def log_likelihoods(self, audio_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """The output that the network is trained on: log P(class | utterance), [B, C]."""
        raise NotImplementedError

    def statistics(self, audio_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        """The machine's input for each utterance, [B, 4C]."""
        raise NotImplementedError

    def fit(self, statistics_NM: Tensor, target_NC: Tensor) -> None:
        """Fit the machine to the `statistics` and target distributions of N utterances.

        It has only buffers, which no strategy shards: nothing needs to be gathered, and ranks with
        the same inputs get the same machine.
        """
        self.head.fit(statistics_NM, target_NC)

    def forward(self, audio_BTF: Tensor, mask_BT: Tensor) -> BranchOutput:
        """Scores of `audio_BTF` (float, normalised), valid where `mask_BT` (bool) is set.

        They are the machine's log-probabilities; the statistics that they come from are the vector.
        """
        vector_BD = self.statistics(audio_BTF, mask_BT)
        return BranchOutput(self.head(vector_BD), vector_BD, mask_BT.any(dim=1))


def utterance_statistics(p_BTC: Tensor, mask_BT: Tensor, threshold: float) -> Tensor:
    """Maximum, minimum and mean of each class' posteriors, and their fraction above `threshold`.

    Taken over the places where `mask_BT` is set; [B, 4C], zeros for a row without any.
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


def check_descriptors(size: int, kind: str) -> None:
    """Raise ModelError if frames of `size` numbers are not low-level descriptors."""
    if size != WIDTH:
        raise ModelError(
            f"model.audio.kind {kind} reads {WIDTH} low-level descriptors a frame, not {size} "
            "bins: build shards with features.kinds [lld] and set data.audio: lld"
        )
