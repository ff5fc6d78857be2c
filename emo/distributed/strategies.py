"""What each strategy asks of accelerate and DeepSpeed, and whether that is what runs.

In several settings accelerate silently runs something else than was asked for: ZeRO or FSDP with
the CPU flag becomes plain data parallelism, a missing launcher becomes one process. `differences`
finds this out.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
)
from torch.distributed.fsdp import MixedPrecisionPolicy

from emo.distributed import compilation, launch_files, launcher, zero
from emo.distributed.config import ZERO, RunningConfig, RuntimeMismatch, Strategy

RUNS_AS: dict[Strategy, tuple[DistributedType, ...]] = {  # accelerate's word for it
    "cpu": (DistributedType.MULTI_CPU, DistributedType.NO),
    "gpu": (DistributedType.MULTI_GPU, DistributedType.NO),
    "zero1": (DistributedType.DEEPSPEED,),
    "zero2": (DistributedType.DEEPSPEED,),
    "zero3": (DistributedType.DEEPSPEED,),
    "fsdp": (DistributedType.FSDP,),
}
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def input_dtype(config: RunningConfig) -> torch.dtype:
    """What floating-point inputs must be cast to before the model sees them."""
    if config.precision == "fp64":
        return torch.float64
    if config.strategy in (*ZERO, "fsdp"):  # they cast the whole model
        return HALF.get(config.precision, torch.float32)
    return torch.float32


def on_cpu(config: RunningConfig) -> bool:
    """Whether training is on the CPU: asked for, or there is nothing else."""
    return config.strategy == "cpu" or not torch.cuda.is_available()


def check_device(config: RunningConfig) -> None:
    """Raise RuntimeMismatch for settings that this machine or this strategy does not have."""
    if launcher.device() == "gpu" and not torch.cuda.is_available():
        # Strategies other than gpu would go on, on the CPU, at a hundredth of the speed.
        raise RuntimeMismatch(
            "launch/train.sh found GPUs, but torch sees no CUDA device: install a torch with CUDA, "
            "check the driver with nvidia-smi, or hide the GPUs with CUDA_VISIBLE_DEVICES= to "
            "train on the CPU"
        )
    if config.strategy == "gpu" and not torch.cuda.is_available():
        raise RuntimeMismatch(
            "strategy gpu was asked for, but torch sees no CUDA device; use strategy cpu, or check "
            "the driver with nvidia-smi"
        )
    if not on_cpu(config) and launcher.local_world() > torch.cuda.device_count():
        raise RuntimeMismatch(
            f"{launcher.local_world()} processes were started on this machine, which has "
            f"{torch.cuda.device_count()} visible GPUs: start one process a GPU (EMO_PROCESSES for "
            "launch/train.sh, num_processes for accelerate launch), or see CUDA_VISIBLE_DEVICES"
        )
    if on_cpu(config) and config.precision == "fp16":
        raise RuntimeMismatch("precision fp16 needs a GPU; on the CPU use bf16 or fp32")
    if config.offload and config.strategy not in ZERO:
        raise RuntimeMismatch(f"offload belongs to ZeRO; strategy {config.strategy} has none")
    if config.precision == "fp64" and config.strategy in (*ZERO, "fsdp"):
        raise RuntimeMismatch("precision fp64 is for strategies cpu and gpu only")
    if config.compile and config.strategy in ZERO:
        raise RuntimeMismatch("runtime.compile is for strategies cpu, gpu and fsdp")


def set_numerics(config: RunningConfig) -> None:
    """Set what torch keeps for the whole process: TF32 and determinism."""
    on_gpu = config.strategy != "cpu" and torch.cuda.is_available()
    tf32 = on_gpu if config.tf32 is None else config.tf32
    # Both together: torch's defaults round convolutions and leave products alone, so that "fp32"
    # would be one precision for audio and another for text.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    if config.deterministic:
        # cuBLAS reads it when it is first used, and torch refuses to go on without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)


def make_accelerator(
    config: RunningConfig, accumulation: int, micro_batch: int, clip: float
) -> Accelerator:
    """accelerate's engine for the strategy; joins the other ranks.

    Raises:
        RuntimeMismatch: the process was not launched for ZeRO or FSDP.
    """
    cpu = on_cpu(config)
    group = InitProcessGroupKwargs(
        backend="gloo" if cpu else "nccl", timeout=timedelta(seconds=patience_at_start(config))
    )
    if not cpu and launcher.launched():
        _take_gpu(config, group)
    # No buffers are sent: those that change (of extreme learning machines) are computed alike on
    # all ranks, and sending them would stop every forward pass until all ranks are there.
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
    mixed = mixed_precision(config)
    common: dict[str, Any] = {
        "gradient_accumulation_steps": accumulation,
        "mixed_precision": mixed,
        "step_scheduler_with_optimizer": False,
    }
    if config.strategy in ZERO:
        _require_launched("ACCELERATE_USE_DEEPSPEED", config)
        settings = _deepspeed_settings(config, accumulation, micro_batch, clip)
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no CUDA found"
        import deepspeed
        from deepspeed.comm.torch import build_shm_op

        warning = zero.check_version(deepspeed.__version__)
        if warning and launcher.is_main():
            print(warning, file=sys.stderr, flush=True)
        if cpu:  # there is none for CUDA, for which all ranks would only queue
            with compilation.compilation_lock():
                build_shm_op()  # DeepSpeed loads it when it joins the others; now it has it
        return Accelerator(
            deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=settings),
            kwargs_handlers=[group],
            **common,
        )
    if config.strategy == "fsdp":
        _require_launched("ACCELERATE_USE_FSDP", config)
        policy = (
            MixedPrecisionPolicy(
                param_dtype=HALF[mixed],
                # accelerate's own policy sums gradients in the half type, and casts inputs first of
                # all: a waveform would reach its normalisation with 8 bits.
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,
            )
            if mixed != "no"
            else None
        )
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",  # the layers: see `layers_of`
            state_dict_type="FULL_STATE_DICT",
            # Otherwise `accelerate launch` turns it on. It takes every tensor of the state for a
            # sharded one, and fails at a model with buffers. Here all ranks have the weights.
            cpu_ram_efficient_loading=False,
            mixed_precision_policy=policy,
        )
        accelerator = Accelerator(cpu=cpu, fsdp_plugin=plugin, kwargs_handlers=[group], **common)
        if cpu:
            # accelerate (1.15) turns FSDP into plain multi-CPU here, though torch's FSDP2 runs on
            # gloo. So its state is set to what it would be on a GPU. The tests of exactness hold
            # FSDP on the CPU to the weights that the other strategies get.
            if not dist.is_initialized():  # one process; accelerate would make no group for it
                dist.init_process_group("gloo", timeout=group.timeout)
            # In both states: accelerate copies the inner one's type over the outer one's whenever
            # it wraps something.
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            accelerator.state.distributed_type = DistributedType.FSDP
            accelerator.state.fsdp_plugin = plugin
        return accelerator
    # a lone process has no group to set up
    handlers = [group, ddp] if launcher.launched() else []
    return Accelerator(cpu=cpu, kwargs_handlers=handlers, **common)


def layers_of(model: torch.nn.Module) -> list[str]:
    """The classes of repeated layers, an encoder's or the CNN's: FSDP gathers and frees each alone.

    As one unit the whole model would be gathered before its first layer runs, and its gradients
    would be sent after the last: nothing would overlap, and no weights would ever be freed.
    """
    return sorted(
        {
            type(layer).__name__
            for module in model.modules()
            if isinstance(module, torch.nn.ModuleList)
            for layer in module
            if not type(layer).__module__.startswith("torch.")  # not blocks, and tiny
        }
    )


def patience_at_start(config: RunningConfig) -> float:
    """Seconds a collective may take before the first step."""
    return max(config.timeout_seconds, config.start_timeout_seconds)


def _take_gpu(config: RunningConfig, group: InitProcessGroupKwargs) -> None:
    """Give this rank its GPU before it joins the others, so that nothing of it begins on GPU 0.

    accelerate would join first, and choose the device afterwards. DeepSpeed joins by itself, with
    the device; for the other strategies accelerate takes the group that it finds.
    """
    device = torch.device("cuda", launcher.local_rank())
    torch.cuda.set_device(device)
    if config.strategy in ZERO:
        return
    # The backends that accelerate would take: FSDP also gathers its states on the CPU.
    backend = "cuda:nccl,cpu:gloo" if config.strategy == "fsdp" else group.backend
    dist.init_process_group(backend, timeout=group.timeout, device_id=device)


def mixed_precision(config: RunningConfig) -> str:
    """accelerate's word for the precision: full precisions are "no" mixture."""
    return config.precision if config.precision in HALF else "no"


def _require_launched(variable: str, config: RunningConfig) -> None:
    if os.environ.get(variable, "").lower() != "true":
        raise RuntimeMismatch(
            f"strategy {config.strategy} was asked for, but this process was not launched for it; "
            f"start it by launch/train.sh {config.strategy} CONFIG"
        )


def _deepspeed_settings(
    config: RunningConfig, accumulation: int, micro_batch: int, clip: float
) -> dict[str, Any]:
    """The strategy's file with every number set by us: no `auto` is left to a library's guess."""
    settings = json.loads(launch_files.deepspeed_settings(config.strategy).read_text())
    settings |= {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": micro_batch * accumulation * launcher.world(),
        "gradient_clipping": clip,
        "bf16": {"enabled": config.precision == "bf16"},
        "fp16": {"enabled": config.precision == "fp16"},
    }
    if config.offload:
        settings["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    return settings


def differences(config: RunningConfig, accelerator: Accelerator) -> list[str]:
    """One line for each setting of `config` that is not what `accelerator` runs."""
    running = accelerator.distributed_type
    problems = []
    if running not in RUNS_AS[config.strategy]:
        problems.append(f"strategy: asked for {config.strategy}, accelerate runs {running.value}")
    if accelerator.num_processes != config.processes:
        problems.append(f"processes: asked for {config.processes}, {accelerator.num_processes} run")
    mixed = mixed_precision(config)
    if accelerator.mixed_precision != mixed:
        problems.append(
            f"precision: asked for {config.precision}, accelerate has {accelerator.mixed_precision}"
        )
    elif running == DistributedType.FSDP and mixed != "no":
        policy = accelerator.state.fsdp_plugin.mixed_precision_policy
        types = (policy.param_dtype, policy.reduce_dtype) if policy else None
        if types != (HALF[mixed], torch.float32):
            problems.append(f"precision: asked for {config.precision}, FSDP's policy is {policy}")
    device = accelerator.device.type
    if config.strategy == "gpu" and device != "cuda":
        problems.append(f"device: asked for a GPU, this rank has {device}")
    if "cpu" in (config.strategy, launcher.device()) and device != "cpu":
        problems.append(f"device: asked for the CPU, this rank has {device}")
    return problems
