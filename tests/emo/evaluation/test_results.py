"""What is said of predictions."""

from pathlib import Path

import numpy as np

from emo.evaluation.outputs import Predictions
from emo.evaluation.results import only_class
from emo.runs.experiment import view_of
from emo.runs.folder import load_config
from shards.store.index import open_dataset


def test_a_model_that_predicts_one_class_only_is_told(trained_runs: dict[str, Path]) -> None:
    config = load_config(trained_runs["text"])
    view = view_of(open_dataset(config.data.shards), config)
    none = np.zeros(3, np.int64)
    same, other = np.array([[0.2, 0.3, 0.1, 0.4]] * 3), np.eye(4)[:3]
    assert only_class(Predictions(none, none, same, 0.0, 0), view) == view.label_set.classes[3]
    assert only_class(Predictions(none, none, other, 0.0, 0), view) is None
    assert only_class(Predictions(none[:0], none[:0], same[:0], 0.0, 0), view) is None
