"""Where launch/train.sh and DeepSpeed's settings are, and how a command of ours starts a training.

They are in a checkout, or in an installed wheel.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# A wheel carries launch/ inside the package; a checkout has it beside the package.
_FOLDER = _PACKAGE / "launch" if (_PACKAGE / "launch").is_dir() else _PACKAGE.parent / "launch"

TRAIN = _FOLDER / "train.sh"
EXIT_SAVED = 75  # stopped early with a checkpoint: EX_TEMPFAIL, "try again"
EXIT_TRANSIENT = 76  # a rank was killed, lost or late: the same again may well succeed


def deepspeed_settings(strategy: str) -> Path:
    """The JSON file of a ZeRO strategy."""
    return _FOLDER / "deepspeed" / f"{strategy}.json"


def run_training(strategy: str, config: Path, settings: list[str]) -> int:
    """Train as a child process, `settings` ("key=value") over those of `config`; its exit code.

    A SIGTERM to this process is handed on: the child saves a checkpoint and ends with 75.
    """
    return run_stoppable([str(TRAIN), strategy, str(config), *settings])


def run_stoppable(command: list[str]) -> int:
    """Run `command`, hand it a SIGTERM that comes to this process, and return its exit code."""
    with subprocess.Popen(command) as child:
        # Without this, SIGTERM would end this process at once and leave the child behind.
        before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            return child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
