"""What only DeepSpeed's ZeRO needs: its weights and Adam's moments, read and written in full.

DeepSpeed has no public way to set a moment before the first step, nor to write a whole tensor into
stage 3. This file therefore reaches into its private parts, and no other file does. They were read
from the version in `READ_FROM`; `check_version` says so when another one is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emo.distributed.collectives import Collectives

READ_FROM = "0.19.8"


def check_version(installed: str) -> str | None:
    """A warning if DeepSpeed is not the version that this file was written against, else None."""
    if installed.split("+")[0] == READ_FROM:
        return None
    return (
        f"warning: DeepSpeed {installed} is installed; emo/distributed/zero.py uses private parts "
        f"that were read from {READ_FROM}. Saving and resuming under ZeRO may fail: install "
        f"deepspeed=={READ_FROM}, or run tests/emo/training first"
    )


def full_weight(tensor: Tensor) -> Tensor:
    """The whole fp32 value of a parameter or buffer; a collective under stage 3."""
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_get_full_fp32_param

    if tensor.requires_grad:
        # The fp32 copy that the optimizer works on; the parameter itself may be bf16 or fp16.
        master = safe_get_full_fp32_param(tensor)
        if master is not None:
            return master
    # Frozen parameters and buffers have no such copy. Only stage 3 cuts them up (`ds_id`).
    with GatheredParameters([tensor] if hasattr(tensor, "ds_id") else []):
        full = tensor.detach().clone()
    return full.float() if full.is_floating_point() else full


def set_weight(tensor: Tensor, value: Tensor, ranks: Collectives) -> None:
    """Write a whole value into a parameter or buffer and, if it is trained, its fp32 copy."""
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters([tensor] if hasattr(tensor, "ds_id") else [], modifier_rank=0):
        tensor.data.copy_(value)
    if tensor.requires_grad:
        _set_optimizer_copy(tensor, value, None, ranks)


def full_moment(parameter: Tensor, key: str) -> Tensor:
    """The whole of one of Adam's moments, "exp_avg" or "exp_avg_sq"; a collective."""
    from deepspeed.utils import safe_get_full_optimizer_state

    return safe_get_full_optimizer_state(parameter, key)


def set_moment(parameter: Tensor, value: Tensor, key: str, ranks: Collectives) -> None:
    """Write a whole moment; the optimizer must have made its state (`create_moments`)."""
    _set_optimizer_copy(parameter, value, key, ranks)


def create_moments(adam: Any, engine: Any, step: float, keys: Sequence[str]) -> None:
    """Make Adam's state now. DeepSpeed makes it in the first step; a resumed run needs it before.

    Args:
        adam: the innermost optimizer.
        engine: DeepSpeed's optimizer around it.
        step: how many steps were taken.
    """
    flats = flat_weights(adam, engine)
    # torch's fused Adam wants its step count on the device of its weights. DeepSpeed's own Adam,
    # for optimizers in the memory of the CPU, counts in plain integers.
    in_torch = type(adam).__module__.startswith("torch.")
    for flat in flats:
        count = (
            torch.tensor(step, dtype=torch.float32, device=flat.device) if in_torch else int(step)
        )
        adam.state[flat] = {"step": count} | {key: torch.zeros_like(flat) for key in keys}
    link_moments(engine)


def flat_weights(adam: Any, engine: Any) -> list[Tensor]:
    """The fp32 weights that this rank's optimizer works on, as flat tensors."""
    # Stage 3 shows Adam its weights only while it steps. Stages 1 and 2 hand it flat tensors.
    return getattr(engine, "fp32_partitioned_groups_flat", None) or [
        flat for group in adam.param_groups for flat in group["params"]
    ]


def link_moments(engine: Any) -> None:
    """Let DeepSpeed find what has been put into Adam's state."""
    if hasattr(engine, "_lazy_init_hp_params_optimizer_state"):
        # Stages 1 and 2 find moments through links from the weights, which DeepSpeed makes once, in
        # its first step. Links made earlier would point to state that has just been replaced.
        engine._hp_optimizer_states_linked = False
        engine._lazy_init_hp_params_optimizer_state()


def _set_optimizer_copy(
    parameter: Tensor, value: Tensor, key: str | None, ranks: Collectives
) -> None:
    """Write a whole value into the fp32 weight (`key` None) or into one of its moments."""
    from deepspeed import utils

    value = value.to(parameter.device, torch.float32)
    if hasattr(parameter, "ds_id"):
        # Stage 3 cuts a weight into `world` parts of one length. Its setter for whole values
        # forgets the padding of the last part, so each rank writes its own part.
        padded = torch.nn.functional.pad(value.flatten(), (0, -value.numel() % ranks.world))
        part = padded.view(ranks.world, -1)[ranks.rank]
        if key is None:
            utils.safe_set_local_fp32_param(parameter, part)
        else:
            utils.safe_set_local_optimizer_state(parameter, part, key)
    elif key is None:
        utils.safe_set_full_fp32_param(parameter, value)
    else:
        utils.safe_set_full_optimizer_state(parameter, value, key)
