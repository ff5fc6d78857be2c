"""Where numbers go while training: TensorBoard, a JSONL log, and the terminal; rank 0 only."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from emo.runs import files


class Tracker:
    """Logs the scalars of a step; does nothing on ranks other than 0."""

    def __init__(self, run: Path, *, main: bool, step: int) -> None:
        """Open the run's logs, and cut off what a killed launch has logged after `step`."""
        self._writer: Any = None
        if not main:
            return
        from torch.utils.tensorboard import SummaryWriter

        # A killed launch may have logged steps after its last checkpoint, which are now repeated.
        # TensorBoard hides earlier events from purge_step on; our own log is cut below.
        self._writer = SummaryWriter(str(run / files.TENSORBOARD), purge_step=step + 1)
        path = run / files.LOG
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
                except (ValueError, KeyError):  # the last line of a killed launch
                    continue
        path.write_text("".join(kept))
        self._log = path.open("a", buffering=1)  # by lines: a killed launch loses none

    def write(self, step: int, group: str, values: dict[str, float]) -> None:
        """Log `values` under `group/name` at optimizer step `step`."""
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        line = {"step": step, "group": group, "time": round(time.time(), 3)} | values
        self._log.write(json.dumps(line) + "\n")

    def describe(self, name: str, markdown: str, step: int) -> None:
        """Show `markdown` under `name` among TensorBoard's texts."""
        if self._writer is not None:
            self._writer.add_text(name, markdown, step)

    def say(self, text: str) -> None:
        """Print to the terminal (rank 0)."""
        if self._writer is not None:
            print(text, file=sys.stdout, flush=True)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._log.close()
