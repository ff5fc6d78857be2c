"""Single checks of the device, each run in a process of its own by `gpu_check.py`.

    python benchmarks/gpu_probes.py PROBE FOLDER

Prints one line of figures; the exit code is 1 if they are not what they should be. Without a GPU a
probe checks the CPU, with smaller sizes if it would take minutes.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from gpu import BERT_BASE, experiment, measure, start, step_of  # this folder's

from emo.training.step import train_step

CUDA = torch.cuda.is_available()
STRATEGY = "gpu" if CUDA else "cpu"
SMALL = {"hidden": 64, "layers": 2, "heads": 2, "intermediate": 128, "positions": 128}
SIZES = BERT_BASE if CUDA else SMALL
READS = 3  # how often a step that logs may wait for the device: loss, norm, attention's mask

PROBES: dict[str, Callable[[Path], tuple[bool, str]]] = {}


def probe(function: Callable[[Path], tuple[bool, str]]) -> Callable[[Path], tuple[bool, str]]:
    PROBES[function.__name__] = function
    return function


@probe
def long_clip_in_fp16(folder: Path) -> tuple[bool, str]:
    """25 s of sound through a speech encoder with group normalisation, in fp16 and in fp32."""
    import transformers

    from emo.models.audio.config import SpeechEncoderConfig
    from emo.models.audio.speech_encoder import SpeechBranch

    sizes = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        conv_dim=(32,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        feat_extract_norm="group",
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.Wav2Vec2Model(sizes).save_pretrained(folder / "encoder")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / "encoder")
    branch = SpeechBranch(
        SpeechEncoderConfig(kind="speech_encoder", encoder=str(folder / "encoder")), 5
    )
    device = "cuda" if CUDA else "cpu"
    branch = branch.to(device).eval()
    wave = 0.1 * torch.randn(1, 25 * 16_000, device=device)
    mask = torch.ones_like(wave, dtype=torch.bool)
    with torch.no_grad():
        exact = branch(wave, mask).logits_BC
        with torch.autocast(device, dtype=torch.float16 if CUDA else torch.bfloat16):
            mixed = branch(wave, mask).logits_BC.float()
        half = branch.half()(wave, mask).logits_BC.float() if CUDA else mixed
    worst = max(float((other - exact).abs().max()) for other in (mixed, half))
    scale = float(exact.abs().max())
    return worst < 0.1 * scale, f"scores off by {worst:.1e} of {scale:.1e}"


@probe
def waiting_for_the_device(folder: Path) -> tuple[bool, str]:
    """How often the host waits for the device in a training step."""
    run, batch = start(experiment(SIZES, 32, strategy=STRATEGY, precision="bf16"), length=24)
    for _ in range(3):
        step_of(run, batch)
    if not CUDA:
        return True, "nothing to wait for on the CPU"
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step_of(run, batch)
    torch.cuda.set_sync_debug_mode("default")
    reads = sum("synchroniz" in str(one.message) for one in caught)
    return reads <= READS, f"{reads} times a step, at most {READS} allowed"


@probe
def saving_and_resuming(folder: Path) -> tuple[bool, str]:
    """A checkpoint of bert-base (110 M parameters) and its resume, in seconds."""
    from emo.data.plan import DataState
    from emo.runs import checkpoint
    from emo.runs.checkpoint import Progress

    run, batch = start(experiment(SIZES, 32, strategy=STRATEGY, precision="bf16"), length=24)
    step_of(run, batch)
    data = DataState(
        seed=1, epoch=0, consumed=32, global_batch=32, dataset_hash="none", plan="none"
    )
    progress, where = Progress(step=1, data=data), folder / "checkpoints"
    assert run.optimizer is not None
    began = time.perf_counter()
    write = checkpoint.snapshot(run.runtime, where, progress, run.model, run.optimizer, keep=2)
    copied = time.perf_counter()
    write()
    saved = time.perf_counter()
    newest, _ = checkpoint.newest(where)
    checked = time.perf_counter()
    assert newest is not None
    checkpoint.restore(run.runtime, newest, run.model, run.optimizer, 1)
    restored = time.perf_counter()
    step_of(run, batch)  # the first step after a resume is where Adam's state must be at its place
    size = sum(file.stat().st_size for file in newest.iterdir()) / 1e9
    return True, (
        f"{size:.2f} GB: copied in {copied - began:.1f} s, written beside training in "
        f"{saved - copied:.1f} s, checked in {checked - saved:.1f} s, restored in "
        f"{restored - checked:.1f} s"
    )


@probe
def activation_checkpointing(folder: Path) -> tuple[bool, str]:
    """Peak memory of a step with and without activation checkpointing."""
    peaks = []
    for checkpointing in (False, True):
        config = experiment(SIZES, 128 if CUDA else 8, strategy=STRATEGY, precision="bf16")
        text = config.model.text.model_copy(update={"activation_checkpointing": checkpointing})
        model = config.model.model_copy(update={"text": text})
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        seconds, peak = measure(config.model_copy(update={"model": model}), 128, steps=5, warm=2)
        peaks.append(f"{peak:,.0f} MB at {1000 * seconds:.0f} ms a step")
    return True, f"without {peaks[0]}, with {peaks[1]}"


@probe
def tf32_on_and_off(folder: Path) -> tuple[bool, str]:
    """Losses of ten steps in fp32 against the CPU's, with TF32 and without."""

    def losses(strategy: str, tf32: bool) -> list[float]:
        config = experiment(SIZES | {"dropout": 0.0}, 8, strategy=strategy, tf32=tf32)
        model = config.model.model_copy(
            update={"text": config.model.text.model_copy(update={"dropout": 0.0})}
        )
        forget_accelerate()
        run, batch = start(config.model_copy(update={"model": model}), length=24)
        return [train_step(run, [batch], 8).loss for _ in range(10)]

    exact = losses("cpu", tf32=False)
    off = {
        tf32: max(abs(a / b - 1) for a, b in zip(losses(STRATEGY, tf32), exact, strict=True))
        for tf32 in (False, True)
    }
    return off[False] < 1e-3 and off[True] < 2e-2, (
        f"losses off by at most {off[False]:.1e} without TF32, {off[True]:.1e} with it"
    )


@probe
def offload(folder: Path) -> tuple[bool, str]:
    """Peak memory of a step of ZeRO-2, with its optimizer on the device and in the CPU's memory."""
    os.environ |= {
        "ACCELERATE_USE_DEEPSPEED": "true", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
    } | ({} if CUDA else {"DS_ACCELERATOR": "cpu"})  # fmt: skip
    peaks, megabytes = [], []
    for offloaded in (False, True):
        forget_accelerate()
        if CUDA:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        config = experiment(
            SIZES, 32 if CUDA else 8, strategy="zero2", precision="bf16", offload=offloaded
        )
        seconds, peak = measure(config, 128, steps=5, warm=2)
        megabytes.append(peak)
        peaks.append(f"{peak:,.0f} MB at {1000 * seconds:.0f} ms a step")
    saved = megabytes[1] < megabytes[0] or not CUDA
    return saved, f"on the device {peaks[0]}, offloaded {peaks[1]}"


def forget_accelerate() -> None:
    """Its state is one a process; a probe starts several runs."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


if __name__ == "__main__":
    passed, words = PROBES[sys.argv[1]](Path(sys.argv[2]))
    print(words)
    sys.exit(not passed)
