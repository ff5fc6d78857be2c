"""Where numbers go while training: a JSONL log, the terminal, and TensorBoard; rank 0 only."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from emo.runs import files
from emo.runs.tracking.events import cut_off, event_files, wait_for_a_later_name
from emo.runs.tracking.others import OTHERS, OtherTracker
from emo.runs.tracking.tags import tag_of


class Tracker:
    """Logs a run; does nothing on ranks other than 0.

    Whatever is shown at a step must be written after the checkpoint of every earlier step and
    before its own: then a resumed run repeats exactly what was cut off, and no point is there
    twice. Two kinds of facts belong to no step. What describes a launch is written at `launch`,
    the number of the launch. What describes the result is written at `after`, one step beyond the
    last, where the next launch cuts it off.

    Attributes:
        launch: how many launches have written here, this one included.
    """

    def __init__(
        self, run: Path, *, main: bool, step: int | None, to: tuple[str, ...] = ("tensorboard",)
    ) -> None:
        """Open the run's logs, and cut off what a killed launch has logged after `step`.

        Args:
            step: the last one that counts; None for all that were logged.
            to: where numbers go besides the log, as `tracking` in the configuration.
        """
        self._main, self.launch = main, 0
        self._writer: Any = None
        self._others: list[OtherTracker] = []
        if not main:
            return
        kept = _kept_lines(run / files.LOG, step)
        self._last = max(json.loads(kept[-1])["step"] if kept else 0, step or 0)
        (run / files.LOG).write_text("".join(kept))
        self._log = (run / files.LOG).open("a", buffering=1)  # by lines: killed launches lose none
        self._started: float | None = time.time()
        earlier = event_files(run)
        self.launch = len(earlier) + 1
        if "tensorboard" in to:
            from torch.utils.tensorboard import SummaryWriter

            wait_for_a_later_name(earlier)
            # A killed launch may have logged steps after its last checkpoint, which are repeated
            # now. The files lie in the run's own folder, because TensorBoard names runs by the
            # folders of their event files.
            cut_off(earlier, self._last + 1)
            self._writer = SummaryWriter(str(run), purge_step=self._last + 1)
        self._others = [OTHERS[name](run, step == 0) for name in to if name in OTHERS]

    @property
    def after(self) -> int:
        """The step of facts about the result: one more than the last step that was logged."""
        return self._last + 1 if self._main else 0

    def write(self, step: int, group: str, values: dict[str, float]) -> None:
        """Log `values` of `group` at optimizer step `step`."""
        if not self._main:
            return
        self._last = max(self._last, step)
        line = {"step": step, "group": group, "time": round(time.time(), 3)} | values
        if self._started is not None:  # the first line of a launch says when that began
            line["launched"], self._started = round(self._started, 3), None
        self._log.write(json.dumps(line) + "\n")
        self.show({tag_of(group, name): value for name, value in values.items()}, step)

    def show(self, scalars: dict[str, float], step: int) -> None:
        """Show `scalars` by their tags, without logging them."""
        if self._writer is not None:
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, step)
        for other in self._others:
            other.log(scalars, step)

    def describe(self, name: str, markdown: str, step: int) -> None:
        """Show `markdown` under `name` among TensorBoard's texts."""
        if self._writer is not None:
            self._writer.add_text(name, markdown, step)

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """Show `image`, uint8 [height, width, 3]."""
        if self._writer is not None:
            self._writer.add_image(name, image, step, dataformats="HWC")
        for other in self._others:
            other.log_picture(name, image, step)

    def add(self, summary: Any, step: int) -> None:
        """Add a `Summary` of one of TensorBoard's plugins."""
        if self._writer is not None:
            self._writer.file_writer.add_summary(summary, step)

    def settings(self, values: dict[str, Any]) -> None:
        """Tell trackers other than TensorBoard the run's settings."""
        for other in self._others:
            other.store(values)

    def say(self, text: str) -> None:
        """Print to the terminal (rank 0)."""
        if self._main:
            print(text, file=sys.stdout, flush=True)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        for other in self._others:
            other.finish()
        if self._main:
            self._log.close()


def _kept_lines(path: Path, step: int | None) -> list[str]:
    """The lines of a log up to `step` (None: all), without what a killed launch left unfinished."""
    kept: list[str] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            if step is None or json.loads(line)["step"] <= step:
                json.loads(line)
                kept.append(line + "\n")
        except (ValueError, KeyError):  # the last line of a killed launch
            continue
    return kept
