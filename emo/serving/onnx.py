"""The audio and text branches of a model as ONNX files, checked against torch (extra `onnx`)."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emo.models.model import EmotionModel
from shards.errors import UserError

FOLDER = "onnx"  # in an exported model's folder
TOLERANCE = 1e-4  # of scores and vectors: float32 in another order of additions
SHAPES = ((1, 9), (3, 40), (2, 23))  # batch and length, that the files are checked with
LONGEST = 2**20  # frames or samples that a file takes


class OnnxError(UserError):
    """A branch that ONNX cannot express, or packages that are not installed."""


class _Alone(nn.Module):
    """One branch, from its two inputs to its scores and vector."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        output = self.branch(values, mask)
        return output.logits_BC, output.vector_BD


def write(model: EmotionModel, folder: Path) -> dict[str, float]:
    """Write `NAME.onnx` for each branch into the new `folder`; returns the largest differences.

    A file reads `values` (audio: float32 [B, T, F] normalised, of waveforms [B, T]; text: int64
    [B, L]) and `mask` (bool [B, T]), any batch and length. It gives `scores` [B, C] (of a fusion
    that reads vectors these are not trained) and `vector` [B, D].

    Raises:
        OnnxError: packages are missing, torch cannot write the branch, or the file gives something
            else than torch.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter writes through it
    except ImportError as error:
        raise OnnxError(f"{error}: pip install 'emo-shards[onnx]'") from None
    folder.mkdir(parents=True)
    model.eval()
    found = {}
    for name in model.branches:
        alone, path = _Alone(model.branch(name)), folder / f"{name}.onnx"
        try:
            _export(alone, path, _inputs(model, name, 2, 37), _longest(model, name))
        except Exception as error:  # the exporter's own kinds are many
            first = str(error).strip().splitlines()[:1]
            raise OnnxError(f"torch cannot write the {name} branch as ONNX: {first}") from error
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found[name] = max(_difference(alone, session, _inputs(model, name, *shape))
                          for shape in SHAPES)  # fmt: skip
        if not found[name] <= TOLERANCE:
            raise OnnxError(f"{path.name} differs from torch by {found[name]:.1e}: not written")
    return found


def _export(alone: nn.Module, path: Path, example: tuple[Tensor, Tensor], longest: int) -> None:
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2, max=longest)
    shapes = {0: batch, 1: length}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # of operators that nobody uses
    # The exporter reports its steps on stdout, and warns of things that are well.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            alone, example, path, dynamo=True, dynamic_shapes=(shapes, shapes), verbose=False,
            input_names=["values", "mask"], output_names=["scores", "vector"],
            external_data=False,
        )  # fmt: skip


def _inputs(model: EmotionModel, name: str, batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Random inputs; the last row is shorter than the others."""
    draw = torch.Generator().manual_seed(batch * length)
    size, length = model.sizes.get(name, 0), min(length, _longest(model, name) - 1)
    if name == "text":
        values = torch.randint(0, max(size, 2), (batch, length), generator=draw)
    else:
        waveform = getattr(model.config.branches[name], "reads_waveform", False)
        length = 400 * length if waveform else length
        shape = (batch, length) if waveform else (batch, length, size)
        values = torch.randn(shape, generator=draw)
    mask = torch.ones(batch, length, dtype=torch.bool)
    mask[-1, max(1, length - 3) :] = False
    return values, mask


def _longest(model: EmotionModel, name: str) -> int:
    return int(getattr(model.branch(name), "longest", None) or LONGEST)


@torch.inference_mode()
def _difference(alone: nn.Module, session: Any, inputs: tuple[Tensor, Tensor]) -> float:
    names = [one.name for one in session.get_inputs()]
    given = dict(zip(names, (x.numpy() for x in inputs), strict=True))
    pairs = zip(alone(*inputs), session.run(None, given), strict=True)
    return max(float(np.abs(ours.numpy() - theirs).max()) for ours, theirs in pairs)
