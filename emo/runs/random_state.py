"""The random generators of one rank: seeded, saved, restored.

A file holds plain tensors and numbers only. Nothing in it is loaded by an unrestricted unpickler:
a run folder may come from anybody.
"""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path

import numpy as np
import torch

from shards.errors import UserError


class CheckpointError(UserError):
    """A checkpoint that cannot be written or used."""


def seed_rank(seed: int, step: int, rank: int) -> None:
    """Give this rank its own random stream (dropout and the like) from (seed, step, rank)."""
    words = np.random.SeedSequence([seed, step, rank]).generate_state(3)
    torch.manual_seed(int(words[0]))  # CUDA's generators as well
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


def write(path: Path, device: torch.device) -> None:
    """Save the state of this rank's generators: torch's, numpy's, Python's, and the GPU's."""
    _, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    rng = {
        "torch": torch.get_rng_state(),
        "numpy": (torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "python": (version, list(internal), gauss),
    }
    if device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(device)
    # Through memory: on a full disk, torch.save itself raises errors that are no OSError.
    whole = io.BytesIO()
    torch.save(rng, whole)
    path.write_bytes(whole.getvalue())


def restore(path: Path, device: torch.device) -> None:
    """Set this rank's generators to what `write` saved.

    Raises:
        CheckpointError: the file is missing, or holds more than tensors and numbers.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: the random state of this rank")
    try:
        rng = torch.load(path, weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path} holds more than tensors and numbers: not loaded") from None
    torch.set_rng_state(rng["torch"])
    keys, position, has_gauss, cached = rng["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = rng["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in rng and device.type == "cuda":
        torch.cuda.set_rng_state(rng["cuda"], device)
