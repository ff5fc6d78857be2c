"""What the launcher started: `accelerate launch`, torchrun, or a plain `python -m emo train`.

Where an experiment leaves `runtime.strategy`, `processes` or `precision` open, this is what runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from emo.distributed import launcher
from emo.distributed.config import (
    Precision,
    RunningConfig,
    RuntimeConfig,
    RuntimeMismatch,
    Strategy,
)

ZERO_BY_STAGE: dict[int, Strategy] = {1: "zero1", 2: "zero2", 3: "zero3"}
PRECISIONS: dict[str, Precision] = {"no": "fp32", "bf16": "bf16", "fp16": "fp16"}  # accelerate's


def is_set(variable: str) -> bool:
    """Whether a variable of accelerate's holds a word for "yes"."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "y", "on", "t")


def running(config: RuntimeConfig) -> RunningConfig:
    """`config` with what the launcher started in every place that it leaves open.

    Raises:
        RuntimeMismatch: the launcher started something that this program does not have.
    """
    settings = config.model_dump()
    found = {name: find() for name, find in _OPEN.items() if settings[name] is None}
    return RunningConfig(**settings | found)


def left_open(config: RuntimeConfig) -> list[str]:
    """The names of the settings that the launcher decided; for the banner."""
    return [name for name in _OPEN if getattr(config, name) is None]


def strategy() -> Strategy:
    """The strategy that this process was started for.

    Raises:
        RuntimeMismatch: ZeRO at a stage that is no strategy of ours, or settings of it that cannot
            be read.
    """
    if is_set("ACCELERATE_USE_DEEPSPEED"):
        stage = _deepspeed_settings().get("zero_optimization", {}).get("stage", "auto")
        if stage == "auto":
            stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")  # accelerate's default
        if str(stage) not in map(str, ZERO_BY_STAGE):
            raise RuntimeMismatch(
                f"the launcher was told of ZeRO stage {stage}: use 1, 2 or 3, or launch without "
                "DeepSpeed"
            )
        return ZERO_BY_STAGE[int(stage)]
    if is_set("ACCELERATE_USE_FSDP"):
        return "fsdp"
    on_cpu = is_set("ACCELERATE_USE_CPU") or launcher.device() == "cpu"
    return "cpu" if on_cpu or not torch.cuda.is_available() else "gpu"


def precision() -> Precision:
    """The precision that the launcher was told of, else fp32.

    Raises:
        RuntimeMismatch: a precision that this program does not have, fp8 for instance.
    """
    for name in ("bf16", "fp16"):  # a file of settings of the user's own
        if _deepspeed_settings().get(name, {}).get("enabled") is True:
            return PRECISIONS[name]
    word = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if word not in PRECISIONS:
        raise RuntimeMismatch(
            f"the launcher's mixed_precision is {word}: set it to {', '.join(PRECISIONS)}, or set "
            "runtime.precision, which wins"
        )
    return PRECISIONS[word]


def _deepspeed_settings() -> dict[str, Any]:
    """The file that `accelerate launch` names; empty where it names none."""
    name = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if not is_set("ACCELERATE_USE_DEEPSPEED") or name in ("", "none"):
        return {}
    try:
        settings = json.loads(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise RuntimeMismatch(
            f"the launcher names DeepSpeed's settings {name}, which cannot be read ({error}): "
            "start in the folder that its deepspeed_config_file counts from"
        ) from None
    return settings if isinstance(settings, dict) else {}


# What an experiment may leave open, and what finds it.
_OPEN: dict[str, Callable[[], Any]] = {
    "strategy": strategy,
    "processes": launcher.world,
    "precision": precision,
}
