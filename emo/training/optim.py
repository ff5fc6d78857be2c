"""The optimizer, its parameter groups, and the learning rate as a pure function of the step.

Staged unfreezing works through the learning rate alone. Until its epoch a group has rate 0, so its
weights do not change by a bit, while Adam's moments already follow its gradients and are warmed up
when it starts to move. The graph stays the same in all epochs: DDP never meets an unused parameter,
and ZeRO and FSDP never meet another set of trained ones. (A part that never trains belongs in
`model.freeze`, which saves its backward pass as well.)
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn

from emo.distributed import compilation
from emo.distributed.config import RuntimeMismatch
from emo.distributed.runtime import library_remarks_hidden
from emo.training.config import REST, OptimConfig
from shards.errors import UserError

# The number of a transformer layer in a parameter's name, as transformers writes it.
LAYER = re.compile(r"\.encoder\.(?:encoder\.)?layers?\.(\d+)\.")


class OptimError(UserError):
    """Parameter groups that do not match the model."""


def learning_rate_factor(step: int, total: int, config: OptimConfig) -> float:
    """The factor, in [0, 1], on the learning rate of step `step` (0 <= step < total)."""
    if not 0 <= step < total:
        raise ValueError(f"step {step} lies outside 0 ... {total - 1}")
    warmup = config.warmup_steps or round(config.warmup_fraction * total)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule in ("constant", "newbob"):  # newbob's factor is `Progress.rate`
        return 1.0
    progress = (step - warmup) / (total - warmup)
    if config.schedule == "linear":
        shape = 1.0 - progress
    else:
        shape = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.final + (1.0 - config.final) * shape


def learning_rates(step: int, total: int, epoch: int, config: OptimConfig) -> dict[str, float]:
    """The rate of every group, `REST` included, at optimizer step `step` inside `epoch`."""
    factor = learning_rate_factor(step, total, config)
    rates = {REST: config.lr * factor}
    for name, group in config.groups.items():
        rates[name] = group.lr * factor if epoch >= group.unfreeze_epoch else 0.0
    return rates


def set_learning_rates(
    optimizer: torch.optim.Optimizer,
    step: int,
    total: int,
    epoch: int,
    config: OptimConfig,
    factor: float = 1.0,
) -> dict[str, float]:
    """Write `learning_rates` times `factor` into the optimizer, before its step; returns them."""
    rates = {
        name: rate * factor for name, rate in learning_rates(step, total, epoch, config).items()
    }
    for group in optimizer.param_groups:
        group["lr"] = rates[group["group"]] * group["factor"]
    return rates


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """The trainable parameters of `model` as torch's parameter groups, one dict a group.

    Besides `params`, `lr` and `weight_decay`, each dict has `group`, the configured name, and
    `factor`, which multiplies the rate of its group: 1 without `layer_decay`. Without
    `decay_vectors`, one group may be two dicts of the same name, and with `layer_decay` one for
    each layer. A parameter belongs to the group
    with the longest match. Call this before the model is wrapped: wrappers change names.

    Raises:
        OptimError: a group matches no trainable parameter, or no parameter is trainable.
    """
    # Longest first, so that `next` below finds the longest match.
    prefixes = sorted(config.groups.items(), key=lambda item: -len(item[1].match))
    members: dict[tuple[str, bool, float], list[nn.Parameter]] = {}
    factors = layer_factors(model, config.layer_decay)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = next((key for key, g in prefixes if _begins(name, g.match)), REST)
        decays = config.decay_vectors or parameter.ndim > 1
        key = (group, decays, factors.get(name, 1.0))
        members.setdefault(key, []).append(parameter)

    for name, wanted in config.groups.items():
        if not any(group == name for group, _, _ in members):
            raise OptimError(
                f"optim.groups.{name}: no trainable parameter begins with {wanted.match!r}; "
                f"the model has {', '.join(_heads(model))}. Correct the match, or remove the group "
                "if that part is frozen"
            )
    if not members:
        raise OptimError("the model has no trainable parameter: shorten model.freeze")

    groups = []
    for (name, decays, factor), parameters in members.items():
        own = config.groups.get(name)
        decay = config.weight_decay if own is None or own.weight_decay is None else own.weight_decay
        groups.append(
            {
                "params": parameters,
                "lr": (config.lr if own is None else own.lr) * factor,
                "weight_decay": decay if decays else 0.0,
                "group": name,
                "factor": factor,
            }
        )
    return groups


def layer_factors(model: nn.Module, decay: float) -> dict[str, float]:
    """The factor on the rate of each parameter of pretrained encoders, by name; others are missing.

    Of L layers, the one numbered l from 0 has decay^(L - l), and what stands before the first, or
    beside them, decay^(L + 1) (Bao et al. 2021, "BEiT", whose head has 1, as here).
    """
    if decay == 1:
        return {}
    names = [name for name, _ in model.named_parameters() if ".encoder." in f".{name}"]
    found = {name: LAYER.search(name) for name in names}
    depth: dict[str, int] = {}  # layers of the encoder of each branch
    for name, match in found.items():
        branch = name.split(".")[0]
        if match is not None:
            depth[branch] = max(depth.get(branch, 0), int(match[1]) + 1)
    factors = {}
    for name, match in found.items():
        layers = depth.get(name.split(".")[0], 0)
        factors[name] = decay ** (layers + 1 if match is None else layers - int(match[1]))
    return factors


def build_optimizer(
    model: nn.Module, config: OptimConfig, offload: bool = False
) -> torch.optim.Optimizer:
    """Adam or AdamW over `parameter_groups`: torch's fused version, one pass over the memory.

    With `offload`, DeepSpeed's version for states in the CPU's memory, with the same groups.
    """
    if offload:
        return _cpu_adam(model, config)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(
        parameter_groups(model, config),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def _cpu_adam(model: torch.nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """DeepSpeed's Adam for states in the CPU's memory; it is compiled when it is first used.

    Raises:
        RuntimeMismatch: it cannot be compiled on this machine.
    """
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    try:
        with compilation.compilation_lock(), library_remarks_hidden():
            return DeepSpeedCPUAdam(
                parameter_groups(model, config),
                lr=config.lr,
                betas=config.betas,
                eps=config.eps,
                adamw_mode=config.name == "adamw",  # the default, True, would make Adam an AdamW
            )
    except RuntimeError as error:
        why = str(error.__cause__ or error).strip().splitlines()[0]
        raise RuntimeMismatch(
            "runtime.offload=true needs DeepSpeed's own Adam, which is compiled at its first use "
            f"and could not be ({why}): install a C++ compiler and ninja, or leave offload out"
        ) from None


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _heads(model: nn.Module) -> list[str]:
    """The first two dotted parts of the trainable parameters' names, for error messages."""
    names = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    return sorted({".".join(name.split(".")[:2]) for name in names})


def newbob(rate: float, loss: float, last: float | None, config: OptimConfig) -> float:
    """The factor on the learning rate after an epoch whose validation loss is `loss`.

    Args:
        rate: the factor so far.
        last: the loss of the epoch before; None in the first.
    """
    if config.schedule != "newbob" or last is None:
        return rate
    better = loss < last * (1 - config.newbob.threshold)
    return rate if better else rate * config.newbob.factor
