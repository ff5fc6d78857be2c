"""Where launch/train.sh and DeepSpeed's settings are: in a checkout, or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# A wheel carries launch/ inside the package; a checkout has it beside the package.
_FOLDER = _PACKAGE / "launch" if (_PACKAGE / "launch").is_dir() else _PACKAGE.parent / "launch"

TRAIN = _FOLDER / "train.sh"


def deepspeed_settings(strategy: str) -> Path:
    """The JSON file of a ZeRO strategy."""
    return _FOLDER / "deepspeed" / f"{strategy}.json"
