"""What a run takes of its machine: memory, and the energy of its GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import torch

GB = 1e9
STATM = Path("/proc/self/statm")


class Gauges:
    """Readings for the log of rank 0; the energy is that of the GPUs of its machine."""

    def __init__(self, device: torch.device, *, main: bool) -> None:
        self._gpu = device if device.type == "cuda" else None
        self._energy = EnergyMeter() if main and self._gpu is not None else None
        if self._energy is not None and shutil.which("nvidia-smi"):
            self._energy.start()

    def read(self) -> dict[str, float]:
        """`memory_process` (GB now), and on a GPU `memory_gpu` (GB at most) and `energy_gpu` (Wh).

        The energy is that of this launch so far; it is missing where `nvidia-smi` tells no power.
        """
        pages = int(STATM.read_text().split()[1]) if STATM.is_file() else 0
        found = {"memory_process": pages * os.sysconf("SC_PAGE_SIZE") / GB}
        if self._gpu is not None:
            found["memory_gpu"] = torch.cuda.max_memory_allocated(self._gpu) / GB
        if self._energy is not None and self._energy.watt_hours is not None:
            found["energy_gpu"] = self._energy.watt_hours
        return found


class EnergyMeter(threading.Thread):
    """Asks `nvidia-smi` for the GPUs' power every `every` seconds, and adds it up.

    Attributes:
        watt_hours: since the start; None before the first answer.
    """

    def __init__(self, every: float = 15.0) -> None:
        super().__init__(daemon=True, name="energy")
        self._every = every
        self.watt_hours: float | None = None

    def run(self) -> None:
        last = time.monotonic()
        while (power := watts()) is not None:
            now = time.monotonic()
            self.watt_hours = (self.watt_hours or 0.0) + power * (now - last) / 3600
            last = now
            time.sleep(self._every)


def watts() -> float | None:
    """The power that the visible GPUs draw together; None where `nvidia-smi` does not tell."""
    command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command += ["-i", visible]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return sum(float(line) for line in done.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
