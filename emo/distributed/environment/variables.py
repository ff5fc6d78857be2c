"""Variables that may be left in a shell, and would change what a configuration says.

accelerate, torch and DeepSpeed read dozens of them, at any time, and say nothing. Each one that
reaches training is taken away before accelerate is made, and one whose value asks for something
else than the configuration is refused first, or said to be passed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from emo.distributed import launcher
from emo.distributed.config import ZERO, RunningConfig, RuntimeMismatch
from emo.distributed.environment import launched


@dataclass(frozen=True)
class Refused:
    """A variable that must be unset, or hold one of the `harmless` values (in lower case).

    Attributes:
        remedy: the setting to use instead.
        used_by: which runs it would change: strategies, "compile", or nothing for all.
        on_cpu: whether it changes anything on the CPU.
    """

    name: str
    remedy: str
    harmless: tuple[str, ...] = ("", "0", "no", "none", "false")
    used_by: tuple[str, ...] = ()
    on_cpu: bool = True


REFUSED = (
    Refused("ACCELERATE_DYNAMO_BACKEND", "runtime.compile=true compiles the model"),
    Refused("ACCELERATE_TORCH_DEVICE", "runtime.strategy decides the device"),
    Refused("ACCELERATE_USE_MEGATRON_LM", "runtime.strategy has no Megatron-LM"),
    Refused("ACCELERATE_USE_PARALLELISM_CONFIG", "runtime.strategy=fsdp shards over all ranks"),
    Refused("ACCELERATE_USE_SAGEMAKER", "runtime.strategy has no SageMaker"),
    Refused("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE",
            "runtime.offload=true offloads the optimizer's state; weights stay", used_by=ZERO),
    Refused("FSDP_OFFLOAD_PARAMS", "runtime.offload=true is for zero1, zero2 and zero3",
            used_by=("fsdp",)),
    Refused("FSDP_ACTIVATION_CHECKPOINTING", "model.*.activation_checkpointing=true does that",
            used_by=("fsdp",)),
    Refused("TORCHDYNAMO_DISABLE", "runtime.compile=false does not compile", used_by=("compile",)),
    Refused("TORCH_COMPILE_DISABLE", "runtime.compile=false does not compile",
            used_by=("compile",)),
    Refused("NVIDIA_TF32_OVERRIDE", "settings of the precision would mean nothing",
            harmless=("",), on_cpu=False),
)  # fmt: skip
# Settings of accelerate's that ours replace: with the words of a launcher that was told nothing.
REPLACED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("train.accumulation", ("", "auto", "1")),
    "ACCELERATE_GRADIENT_CLIPPING": ("optim.clip", ("", "auto", "none")),
    "ACCELERATE_MIXED_PRECISION": ("runtime.precision", ("", "no")),
}
# What is taken away: every variable of these names that a library would read after `replace`.
FAMILIES = (
    "ACCELERATE_GRADIENT_", "ACCELERATE_DEEPSPEED_", "ACCELERATE_CONFIG_DS_FIELDS",
    "ACCELERATE_DYNAMO_", "FSDP_",
)  # fmt: skip
# mpirun's and srun's; accelerate takes them for its own before it looks at the launcher's.
MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LAUNCHED_BY = {"ACCELERATE_USE_DEEPSPEED": ZERO, "ACCELERATE_USE_FSDP": ("fsdp",)}


def check(config: RunningConfig, on_cpu: bool) -> None:
    """Refuse an environment in which something else than `config` would run.

    Args:
        on_cpu: whether this process trains on the CPU, whatever the strategy.

    Raises:
        RuntimeMismatch: names each variable, its value and what to do.
    """
    problems = [*_group_problems(), *_strategy_problems(config)]
    for one in REFUSED:
        value = os.environ.get(one.name, "")
        used = not one.used_by or config.strategy in one.used_by
        used = used or (config.compile and "compile" in one.used_by)
        used = used and (one.on_cpu or not on_cpu)
        if used and value.lower() not in one.harmless:
            problems.append(f"{one.name}={value}: unset it; {one.remedy}")
    if problems:
        raise RuntimeMismatch(
            "the environment asks for something else than the configuration:\n  "
            + "\n  ".join(problems)
        )


def _group_problems() -> list[str]:
    """What is wrong with the variables that make a process one of a group."""
    if launcher.launched():
        missing = launcher.missing_variables()
        if not missing:
            return []
        return [f"WORLD_SIZE={launcher.world()}: {', '.join(missing)} not set: unset it, or start "
                "by accelerate launch, torchrun or launch/train.sh"]  # fmt: skip
    many = [name for name in MPI if os.environ.get(name, "1") not in ("", "1")]
    problems = [
        f"{name}={os.environ[name]}: mpirun's; start several processes by accelerate launch, "
        f"torchrun or launch/train.sh, or unset {name} for one"
        for name in many
    ]
    return problems + [
        f"{name}={os.environ[name]}: no launcher started this process; unset it, or start by "
        "accelerate launch, torchrun or launch/train.sh"
        for name in _LAUNCHED_BY
        if launched.is_set(name)
    ]


def _strategy_problems(config: RunningConfig) -> list[str]:
    problems = [
        f"{name}={os.environ[name]}: strategy {config.strategy} was asked for; unset the variable "
        f"or runtime.strategy, or launch for {config.strategy}"
        for name, strategies in _LAUNCHED_BY.items()
        if launcher.launched() and launched.is_set(name) and config.strategy not in strategies
    ]
    wanted = os.environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none").lower()
    if config.strategy in ZERO and not config.offload and wanted not in ("none", ""):
        problems.append(
            f"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE={wanted}: set runtime.offload=true, or "
            "take offload_optimizer_device out of accelerate's configuration"
        )
    return problems


def notes(ours: dict[str, str]) -> list[str]:
    """A line for each setting of the launcher's that is passed over.

    Args:
        ours: what counts, by the setting of an experiment; precision in accelerate's word.
    """
    found = []
    for name, (setting, unsaid) in REPLACED.items():
        theirs = os.environ.get(name, "").lower()
        if theirs not in (*unsaid, ours[setting]):
            found.append(
                f"note: {setting} counts ({ours[setting]}), not the launcher's {name}={theirs}"
            )
    if not launcher.launched() and "MASTER_ADDR" in os.environ:
        found.append(
            "note: accelerate starts one process on the CPU, however many its configuration names; "
            "for more: accelerate launch --config_file launch/accelerate/cpu.yaml, or torchrun"
        )
    return found


def replace(config: RunningConfig, accumulation: int, on_cpu: bool) -> None:
    """Leave nothing of the launcher's settings in the environment but what `config` says."""
    for name in list(os.environ):
        if name.startswith(FAMILIES) or name in MPI:
            del os.environ[name]
    # Of these accelerate believes the environment more than its caller.
    os.environ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = str(accumulation)
    if config.strategy == "fsdp":
        os.environ["FSDP_STATE_DICT_TYPE"] = "FULL_STATE_DICT"  # it decides the group's backends
    if config.strategy in ZERO:
        wanted = "cpu" if on_cpu else "cuda"
        if os.environ.setdefault("DS_ACCELERATOR", wanted) != wanted:
            raise RuntimeMismatch(
                f"DS_ACCELERATOR={os.environ['DS_ACCELERATOR']}, but this rank trains on {wanted}: "
                "unset it"
            )
