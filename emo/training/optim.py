"""The optimizer, its parameter groups, and the learning rate as a pure function of the step.

Staged unfreezing works by the learning rate alone: until its epoch a group has rate 0, so its
weights stay bit for bit, while Adam's moments already follow its gradients and are warm when it
joins. Nothing about the graph changes between epochs, so DDP never meets an unused parameter and
ZeRO and FSDP never meet a changed set of them. (A part that never trains belongs in `model.freeze`,
which saves its backward pass as well.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from shards.configfile import Config
from shards.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

REST = "rest"  # the group of every parameter that no configured group matches


class OptimError(UserError):
    """Parameter groups that do not fit the model."""


class GroupConfig(Config):
    """The parameters whose names begin with `match` (whole dotted parts), with their own rate.

    `unfreeze_epoch` counts from 0: the first epoch in which the group moves.
    `weight_decay` None takes the optimizer's.
    """

    match: str = Field(min_length=1)
    lr: float = Field(gt=0)
    weight_decay: float | None = Field(None, ge=0)
    unfreeze_epoch: int = Field(0, ge=0)


class OptimConfig(Config):
    """Adam (weight decay as L2 in the gradient, the paper's) or AdamW (decoupled decay).

    `warmup_steps` or `warmup_fraction` of all steps rise linearly to `lr`; then `schedule` falls to
    `final` times `lr`, which the step after the last would have. `clip` bounds the norm of the
    whole gradient; None is off.
    `decay_vectors` False spares biases and norms from weight decay.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    decay_vectors: bool = True
    clip: float | None = Field(None, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(0, ge=0)
    warmup_fraction: float = Field(0.0, ge=0, lt=1)
    final: float = Field(0.0, ge=0, le=1)
    groups: dict[str, GroupConfig] = Field(default_factory=dict)

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("both betas must be at least 0 and below 1")
        return betas

    @model_validator(mode="after")
    def _consistent(self) -> OptimConfig:
        if self.warmup_steps and self.warmup_fraction:
            raise ValueError("set warmup_steps or warmup_fraction, not both")
        if REST in self.groups:
            raise ValueError(f"the group name {REST!r} is taken: it holds what no group matches")
        prefixes = [group.match for group in self.groups.values()]
        if len(set(prefixes)) < len(prefixes):
            raise ValueError("two groups match the same parameters")
        return self


def learning_rate_factor(step: int, total: int, config: OptimConfig) -> float:
    """What the rate of optimizer step `step` (0 <= step < total) is multiplied by, in [0, 1]."""
    if not 0 <= step < total:
        raise ValueError(f"step {step} lies outside 0 ... {total - 1}")
    warmup = config.warmup_steps or round(config.warmup_fraction * total)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
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
    optimizer: torch.optim.Optimizer, step: int, total: int, epoch: int, config: OptimConfig
) -> dict[str, float]:
    """Write `learning_rates` into the optimizer, before its step; returns them for the log."""
    rates = learning_rates(step, total, epoch, config)
    for group in optimizer.param_groups:
        group["lr"] = rates[group["group"]]
    return rates


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """The trainable parameters of `model` in torch's form, one dict a group.

    Besides `params`, `lr` and `weight_decay`, each has `group`, the configured name. With
    `decay_vectors` off a group may come as two dicts of that name. A parameter goes to the longest
    match. Call it before the model is wrapped: wrappers change names.

    Raises:
        OptimError: a group matches no trainable parameter, or nothing is trainable.
    """
    prefixes = sorted(config.groups.items(), key=lambda item: -len(item[1].match))
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = next((key for key, g in prefixes if _begins(name, g.match)), REST)
        decays = config.decay_vectors or parameter.ndim > 1
        members.setdefault((group, decays), []).append(parameter)

    for name, wanted in config.groups.items():
        if not any(group == name for group, _ in members):
            raise OptimError(
                f"optim.groups.{name}: no trainable parameter begins with {wanted.match!r}; "
                f"the model has {', '.join(_heads(model))}. Mend the match, or remove the group "
                "if that part is frozen"
            )
    if not members:
        raise OptimError("the model has no trainable parameter: shorten model.freeze")

    groups = []
    for (name, decays), parameters in members.items():
        own = config.groups.get(name)
        decay = config.weight_decay if own is None or own.weight_decay is None else own.weight_decay
        groups.append(
            {
                "params": parameters,
                "lr": config.lr if own is None else own.lr,
                "weight_decay": decay if decays else 0.0,
                "group": name,
            }
        )
    return groups


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """torch's Adam or AdamW over `parameter_groups`, fused: one pass over the memory."""
    import torch

    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(
        parameter_groups(model, config),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _heads(model: nn.Module) -> list[str]:
    """The first two dotted parts of the trainable parameters' names, for error messages."""
    names = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    return sorted({".".join(name.split(".")[:2]) for name in names})
