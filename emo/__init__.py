"""Training and use of speech emotion models. `from emo import load` is the way in for programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emo.serving.dialogue import DialoguePredictor
    from emo.serving.predict import Predictor


def load(folder: str | Path, device: str = "auto") -> Predictor | DialoguePredictor | Any:
    """The trained model in a run folder, or in one that `emo export` wrote.

    ```python
    model = load("runs/sample/fusion")
    model("turn.wav", "oh, great").label  # one turn
    model(samples, rate=16000)  # an array [samples] or [samples, channels]
    model(["a.wav", "b.wav"])  # a list gives a list, in batches
    ```

    A model over dialogues takes a list of turns; see `emo.serving.dialogue.DialoguePredictor`.

    Args:
        device: "cpu", "cuda", or "auto": a GPU if there is one.

    Raises:
        UserError: no such folder, a damaged one, or no such device.
    """
    from emo.serving.loading import open_model

    return open_model(Path(folder), device)
