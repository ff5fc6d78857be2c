"""One canonical training state, whatever the strategy.

Weights in full fp32 and the optimizer's moments, by parameter name. What was written under DDP,
ZeRO-1/2/3 or FSDP2 with any number of processes can be read under any other without conversion,
and nothing of it is pickled. The price: rank 0 holds 12 bytes a parameter on the CPU while it saves
(12 GB for a model of a billion parameters).

Every function here is a collective: all ranks call it together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from emo.distributed import zero
from emo.distributed.runtime import Runtime

MOMENTS = ("exp_avg", "exp_avg_sq")
# The moving average of the weights. It lies beside Adam's moments, and so is sharded, gathered and
# scattered as they are, under every strategy.
AVERAGE = "average"


def bare(model: nn.Module) -> nn.Module:
    """The module inside the strategy's wrappers (DDP, DeepSpeed's engine, a compiled module)."""
    while (inner := getattr(model, "module", getattr(model, "_orig_mod", None))) is not None:
        model = inner
    if hasattr(model, "reshard"):
        # FSDP2 leaves the root gathered after a forward pass. Its parameters are then views of
        # buffers that the next call may free: a copy of them could be garbage.
        model.reshard()  # type: ignore[operator]
    return model


def gather_weights(runtime: Runtime, model: nn.Module, ending: str = "") -> dict[str, Tensor]:
    """Full fp32 weights and buffers on the CPU, by name; on ranks other than 0 an empty dict.

    With `ending`, only those whose names end so.
    """
    module = bare(model)
    trained = dict(module.named_parameters())
    result: dict[str, Tensor] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not name.endswith(ending):
            continue
        full = _full_parameter(runtime, trained.get(name, tensor))
        if runtime.main:
            result[name] = full.detach().to("cpu", copy=True).contiguous()
    return result


def gather_moments(
    runtime: Runtime, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Adam's moments as `<parameter>/exp_avg`, `/exp_avg_sq`, `/step`; empty on ranks above 0.

    Where the weights are averaged, also `<parameter>/average`.
    """
    result: dict[str, Tensor] = {}
    steps = _step_counts(runtime, model, optimizer)
    averaged = is_averaged(optimizer)
    for name, parameter in _trainable(model):
        if name not in steps:
            continue  # no step was taken yet
        for key in (*MOMENTS, *((AVERAGE,) if averaged else ())):
            full = _full_moment(runtime, optimizer, parameter, key)
            if runtime.main:
                result[f"{name}/{key}"] = full.detach().to("cpu", copy=True).contiguous()
        result[f"{name}/step"] = torch.tensor(steps[name])
    return result if runtime.main else {}


def scatter_weights(runtime: Runtime, model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Write full weights (every rank has them all) into the wrapped model."""
    module = bare(model)
    trained = dict(module.named_parameters())
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            _set_parameter(runtime, trained.get(name, tensor), weights[name])


def scatter_moments(
    runtime: Runtime,
    model: nn.Module,
    optimizer: Any,
    moments: dict[str, Tensor],
) -> None:
    """Write full moments (every rank has them all) into the wrapped optimizer."""
    if not moments:
        return
    step = float(max(v for k, v in moments.items() if k.endswith("/step")))
    averaged = any(name.endswith(f"/{AVERAGE}") for name in moments)
    keys = (*MOMENTS, AVERAGE) if averaged else MOMENTS
    if runtime.zero:
        # accelerate's wrapper holds DeepSpeed's optimizer, which holds Adam.
        zero.create_moments(_innermost(optimizer), optimizer.optimizer, step, keys)
    for name, parameter in _trainable(model):
        if f"{name}/step" not in moments:
            continue
        if runtime.zero:
            for key in keys:
                zero.set_moment(parameter, moments[f"{name}/{key}"], key, runtime)
            continue
        state = _innermost(optimizer).state[parameter]
        # Fused Adam reads the count on the device of the weights, and refuses one on the CPU.
        state["step"] = moments[f"{name}/step"].clone().to(parameter.device, torch.float32)
        for key in keys:
            state[key] = _like(parameter, moments[f"{name}/{key}"])


def is_averaged(optimizer: Any) -> bool:
    """Whether the optimizer's state holds an average of the weights."""
    return any(AVERAGE in state for state in _innermost(optimizer).state.values())


@torch.no_grad()
def update_average(runtime: Runtime, optimizer: Any, decay: float) -> None:
    """average := decay · average + (1 - decay) · weights; begins as a copy of the weights.

    Each rank updates the part of the fp32 weights that its optimizer holds: nothing is sent.
    Weights without a gradient so far have no average.
    """
    adam = _innermost(optimizer)
    engine = optimizer.optimizer if runtime.zero else None
    held = zero.flat_weights(adam, engine) if runtime.zero else [
        weight for group in adam.param_groups for weight in group["params"]
    ]  # fmt: skip
    new = [w for w in held if "step" in adam.state.get(w, {}) and AVERAGE not in adam.state[w]]
    old = [w for w in held if AVERAGE in adam.state.get(w, {})]
    if old:
        averages = [_local(adam.state[weight][AVERAGE]) for weight in old]
        torch._foreach_lerp_(averages, [_local(weight) for weight in old], 1 - decay)
    for weight in new:
        adam.state[weight][AVERAGE] = weight.detach().clone()
    if new and engine is not None:
        zero.link_moments(engine)


@contextmanager
def average_in_place(runtime: Runtime, model: nn.Module, optimizer: Any) -> Iterator[None]:
    """The model with its averaged weights; afterwards the weights are back to the last bit.

    Every rank keeps the whole weights on the CPU meanwhile. Without an average nothing changes.
    """
    averaged = _step_counts(runtime, model, optimizer) if is_averaged(optimizer) else {}
    kept: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, parameter in _trainable(model):
            if name in averaged:
                weight = _full_parameter(runtime, parameter)
                kept[name] = weight.detach().to("cpu", copy=True)
                average = _full_moment(runtime, optimizer, parameter, AVERAGE)
                _set_parameter(runtime, parameter, average)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in _trainable(model):
                if name in kept:
                    _set_parameter(runtime, parameter, kept[name])


def loss_scale(scaler: Any) -> dict[str, float] | None:
    """The state of fp16's search for its loss scale; None without a scaler.

    `since` counts the steps since the scale was last changed. `patience`, which only DeepSpeed has,
    counts the overflows that may still pass before the scale is lowered.
    """
    if scaler is None:
        return None
    if hasattr(scaler, "cur_scale"):  # DeepSpeed's
        since = scaler.cur_iter - scaler.last_overflow_iter
        patience = scaler.cur_hysteresis
        return {"scale": float(scaler.cur_scale), "since": since, "patience": patience}
    current = scaler.state_dict()
    return {"scale": float(current["scale"]), "since": current["_growth_tracker"]}


def set_loss_scale(scaler: Any, saved: dict[str, float] | None) -> None:
    """Continue the search from `saved`, which another strategy may have written."""
    if scaler is None or saved is None:
        return
    if hasattr(scaler, "cur_scale"):
        scaler.cur_scale = saved["scale"]
        scaler.last_overflow_iter = scaler.cur_iter - int(saved["since"])
        scaler.cur_hysteresis = int(saved.get("patience", scaler.cur_hysteresis))
    else:
        # torch's scaler takes a whole state: the rest of it is settings, not progress.
        progress = {"scale": saved["scale"], "_growth_tracker": int(saved["since"])}
        scaler.load_state_dict(scaler.state_dict() | progress)


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in bare(model).named_parameters():
        if parameter.requires_grad:
            yield name, parameter


def _innermost(optimizer: Any) -> torch.optim.Optimizer:
    """Adam itself, inside accelerate's and DeepSpeed's wrappers."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _full_parameter(runtime: Runtime, tensor: Tensor) -> Tensor:
    if isinstance(tensor, DTensor):
        return tensor.full_tensor()
    return zero.full_weight(tensor) if runtime.zero else tensor


def _set_parameter(runtime: Runtime, tensor: Tensor, value: Tensor) -> None:
    if isinstance(tensor, DTensor):
        tensor.copy_(_like(tensor, value))
    elif runtime.zero:
        zero.set_weight(tensor, value, runtime)
    else:
        tensor.copy_(value)


def _full_moment(runtime: Runtime, optimizer: Any, parameter: nn.Parameter, key: str) -> Tensor:
    if runtime.zero:
        return zero.full_moment(parameter, key)
    moment = _innermost(optimizer).state[parameter][key]
    return moment.full_tensor() if isinstance(moment, DTensor) else moment


def _step_counts(runtime: Runtime, model: nn.Module, optimizer: Any) -> dict[str, float]:
    """How many steps Adam took for each trained parameter; empty before the first."""
    state = _innermost(optimizer).state
    if runtime.zero:  # one count for each flat partition, all alike
        counts = [float(s["step"]) for s in state.values() if "step" in s]
        [count] = runtime.from_main(counts[:1]) or [None]
        return {} if count is None else {name: count for name, _ in _trainable(model)}
    return {
        name: float(state[parameter]["step"])
        for name, parameter in _trainable(model)
        if "step" in state.get(parameter, {})
    }


def _local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` on the parameter's device, dtype and sharding."""
    value = value.to(parameter.device, parameter.dtype)
    if isinstance(parameter, DTensor):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value.clone()
