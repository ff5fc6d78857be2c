"""Logit adjustment, balanced softmax and the VS loss: class priors in the training scores."""

from __future__ import annotations

import numpy as np

from emo.models.losses.config import AdjustConfig


def adjustment(config: AdjustConfig, counts_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset of each class' score in training, float64 [C] both.

    (N_c / N_max)^tau and gamma · log(N_c / N). Kini et al. 2021, "Label-imbalanced and
    group-sensitive classification under overparameterization"; with tau 0 and gamma 1, Menon et al.
    2021, "Long-tail learning via logit adjustment".
    """
    factor_C = (counts_C / counts_C.max()) ** config.tau
    return factor_C, config.gamma * np.log(counts_C / counts_C.sum())
