"""A trace of some steps by torch.profiler, on request."""

from __future__ import annotations

from typing import Any

import torch

from emo.runs.run import Run

SKIPPED = 3  # steps of a launch that are unlike the others: memory is still being found


class Trace:
    """Traces `watch.profile_steps` steps of a launch on rank 0; without them, does nothing.

    The trace is a gzipped file of Chrome's format in the run folder, which ui.perfetto.dev and
    chrome://tracing open; what took longest is among TensorBoard's texts.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._left = run.config.watch.profile_steps if run.runtime.main else 0
        self._seen = 0
        self._profile: Any = None

    def step(self, step: int) -> None:
        """Optimizer step number `step` has been taken."""
        if not self._left:
            return
        self._seen += 1
        if self._profile is not None:
            self._left -= 1
            if not self._left:
                self._finish(step)
        elif self._seen >= SKIPPED:
            self._profile = torch.profiler.profile(acc_events=True)
            self._profile.start()

    def _finish(self, step: int) -> None:
        tracker = self._run.tracker
        self._profile.stop()
        path = self._run.config.run / f"trace-to-step-{step:08d}.json.gz"
        self._profile.export_chrome_trace(str(path))
        gpu = self._run.runtime.device.type == "cuda"
        order = "self_cuda_time_total" if gpu else "self_cpu_time_total"
        table = self._profile.key_averages().table(sort_by=order, row_limit=25)
        text = "    " + table.replace("\n", "\n    ")
        tracker.describe("profile", f"{path.name}\n\n{text}", tracker.launch)
        tracker.say(f"traced the steps up to {step}: {path}")
        self._profile = None
