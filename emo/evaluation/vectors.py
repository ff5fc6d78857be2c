"""What a model makes of some turns of validation, for TensorBoard's projector."""

from __future__ import annotations

import numpy as np

from emo.distributed.state import bare
from emo.evaluation.outputs import Predictions, outputs_of
from emo.models.model import EmotionModel
from emo.runs.run import Run


def embed(run: Run, predictions: Predictions) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A spread of `watch.embeddings` of the predicted rows, and vectors of them; a collective.

    Returns:
        Places in `predictions`, int64 [N], and by name float64 [N, width]: `last_layer`, the input
        of the last linear layer, where the model has one.

    Raises:
        StopRequested: a rank was asked to stop.
    """
    rows = predictions.rows
    count = min(run.config.watch.embeddings, len(rows))
    places = np.linspace(0, len(rows) - 1, count).astype(np.int64)
    model = bare(run.model)
    if not count or not isinstance(model, EmotionModel):
        return places, {}
    given = outputs_of(run, rows[places], output="parts")
    return np.searchsorted(rows, given.rows), {"last_layer": given.values}
