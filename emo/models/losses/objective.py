"""What a run minimises: the loss of the scores, and the terms beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from emo.models.attributes.config import AttributesConfig
from emo.models.branch import Output
from emo.models.losses.adjustment import adjustment
from emo.models.losses.concordance import concordance_loss
from emo.models.losses.config import AnyLossConfig, CrossEntropyConfig
from emo.models.losses.contrastive import contrastive
from emo.models.losses.cross_entropy import cleared, cross_entropy
from emo.models.losses.focal import focal
from emo.models.losses.kl import kl
from emo.models.losses.weights import check_counts, class_weights, taught_prior

# The function behind each `kind`, called with log-probabilities [B, C], targets [B, C] and the
# kind's settings. It gives each class' term [B, C]; where the target is 0, term and gradient are
# exactly 0.
LOSSES: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "cross_entropy": cross_entropy,
    "kl": kl,
    "focal": focal,
}

# The score of a class that a row cannot have. Its probability is exactly 0; and a target of 0 times
# the logarithm is 0, where that of minus infinity would be NaN.
NEVER = -1e4
MASS_UNIT = 2**-24  # weights of turns are summed over ranks as integers of this unit, exactly


@dataclass(frozen=True)
class WholeBatchTerm:
    """A term that is no sum over turns: it needs all turns of the global batch at once.

    Attributes:
        reads: the key in the model's output "parts" that it reads.
        weight: its factor beside the loss of the scores.
        function: from that part of G valid turns [G, ...] and what they should be, in float64, to
            a scalar: the term's mean over the global batch.
        against: what they should be: "target" [G, C], or "attributes" [G, A], NaN where unknown.
    """

    reads: str
    weight: float
    function: Callable[[Tensor, Tensor], Tensor]
    against: Literal["target", "attributes"] = "target"


class Objective:
    """The loss of one run. It holds no weights that are trained, and is the same on every rank.

    Args:
        config: its settings.
        classes: their names.
        counts_C: training turns of each class, float64 [C]; of distributions, the sums of shares.
        smoothing: this share of each target is spread evenly over the classes.
        output: what the model is trained on: "scores", or "log_likelihoods", which get no softmax.
        attributes: those that the model predicts as well.

    Raises:
        ModelError: a class that must have training turns has none, or weights name other classes.
    """

    def __init__(
        self,
        config: AnyLossConfig,
        classes: Sequence[str],
        counts_C: np.ndarray,
        *,
        smoothing: float = 0.0,
        output: Output = "scores",
        attributes: AttributesConfig | None = None,
    ) -> None:
        self.config, self.classes, self.counts_C = config, tuple(classes), counts_C
        self.smoothing, self.output = smoothing, output
        self.kind: Any = LOSSES[config.kind]  # type: ignore[attr-defined]
        self.weights_C = class_weights(config, counts_C, classes)
        self.shift: tuple[np.ndarray, np.ndarray] | None = None
        if config.adjust is not None:
            check_counts(counts_C, classes, "loss.adjust")
            self.shift = adjustment(config.adjust, counts_C)
        self.whole: list[WholeBatchTerm] = []
        if config.contrastive is not None:
            chosen = config.contrastive
            self.whole.append(
                WholeBatchTerm(
                    "vector", chosen.weight, lambda x, target: contrastive(x, target, chosen)
                )
            )
        if attributes is not None:
            factors = attributes.factors
            self.whole.append(
                WholeBatchTerm(
                    "attributes", 1.0, lambda x, y: concordance_loss(x, y, factors), "attributes"
                )
            )
        self._tables: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    @classmethod
    def plain(cls, classes: Sequence[str], output: Output = "scores") -> Objective:
        """Cross-entropy and nothing else."""
        return cls(CrossEntropyConfig(), classes, np.ones(len(classes)), output=output)

    def ask(self, model: Callable[..., Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the loss reads of `model` for `inputs`: "scores", and other parts if needed."""
        if self.whole:
            return dict(model(inputs, "parts"))
        return {"scores": model(inputs, self.output)}

    def of_rows(
        self,
        outputs: Mapping[str, Tensor],
        target_BC: Tensor,
        valid_B: Tensor,
        allowed_BC: Tensor | None = None,
    ) -> Tensor:
        """The loss summed over the valid rows; the caller divides by the *global* batch's divisor.

        Rows that are not valid add exactly 0 to the loss and the gradients, whatever they hold.

        Args:
            outputs: as `ask` gives them.
            target_BC: distributions to learn, float.
            valid_B: which rows count, bool.
            allowed_BC: the classes that a row can have, bool; None: all. The scores of the others
                get no gradient, and no share of the probability.
        """
        if allowed_BC is not None:  # a turn that was mixed with another corpus' has its classes too
            allowed_BC = allowed_BC | (target_BC > 0)
        logits_BC, target_BC = cleared(
            outputs["scores"], target_BC, valid_B, self.smoothing, allowed_BC
        )
        tables = self._on(logits_BC)
        if self.shift is not None:
            logits_BC = logits_BC * tables["factor"] + tables["offset"]
        if self.weights_C is not None and self.config.weigh == "targets":
            weighted_BC = target_BC * tables["weights"]
            # A row whose classes all weigh 0, or that does not count, keeps its zeros.
            sum_B1 = weighted_BC.sum(dim=-1, keepdim=True)
            target_BC = weighted_BC / torch.where(sum_B1 > 0, sum_B1, torch.ones_like(sum_B1))
        if allowed_BC is not None:
            logits_BC = logits_BC.masked_fill(~allowed_BC, NEVER)
        log_BC = logits_BC
        if self.output != "log_likelihoods":
            log_BC = torch.log_softmax(logits_BC, dim=-1)
        terms_BC = self.kind(log_BC, target_BC, self.config)
        if self.weights_C is not None and self.config.weigh == "classes":
            terms_BC = terms_BC * tables["weights"]
        elif self.weights_C is not None and self.config.weigh == "rows":
            terms_BC = terms_BC * (target_BC * tables["weights"]).sum(dim=-1, keepdim=True)
        return terms_BC.sum() * self.config.scores

    def mass(self, target_BC: Tensor, valid_B: Tensor) -> int:
        """The rows' share in the divisor of a step's loss, as a multiple of `MASS_UNIT`.

        An integer, so that sums over ranks and micro-batches are exact in any order.
        """
        if self.config.mean == "rows" or self.weights_C is None:
            return round(int(valid_B.count_nonzero()) / MASS_UNIT)
        target_BC = target_BC.double().masked_fill(~valid_B[:, None], 0.0)
        mass_B = (target_BC @ torch.from_numpy(self.weights_C)) / MASS_UNIT
        return int(mass_B.round().long().sum())

    def facts(self) -> dict[str, Any]:
        """For the record of a run: what the loss took from the training part."""

        def by_class(values_C: np.ndarray) -> dict[str, float]:
            return dict(zip(self.classes, (float(value) for value in values_C), strict=True))

        return {
            "training_turns": by_class(self.counts_C),
            "weights": None if self.weights_C is None else by_class(self.weights_C),
            "prior": by_class(taught_prior(self.config, self.counts_C, self.classes)),
        }

    def _on(self, like: Tensor) -> dict[str, Tensor]:
        """The tables of the classes on the device of `like`, copied there once."""
        key = (like.device, like.dtype)
        if key not in self._tables:
            arrays = {"weights": self.weights_C}
            if self.shift is not None:
                arrays |= {"factor": self.shift[0], "offset": self.shift[1]}
            self._tables[key] = {
                name: torch.from_numpy(array).to(*key)
                for name, array in arrays.items()
                if array is not None
            }
        return self._tables[key]
