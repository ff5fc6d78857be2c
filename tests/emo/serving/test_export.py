"""An exported folder predicts what the run predicts, wherever it is taken."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo.metrics import METRICS
from emo.models.branch import ModelError
from emo.models.model import EmotionModel
from emo.runs.folder import RunError
from emo.serving.export import ExportError, export
from emo.serving.predict import Predictor


@pytest.mark.parametrize("kind", ["text", "audio", "fusion"])
def test_predictions_before_and_after_are_equal(kind, trained_runs, tiny_corpus, tmp_path):
    corpus = tiny_corpus
    export(trained_runs[kind], tmp_path / "first")
    shutil.move(tmp_path / "first", tmp_path / "elsewhere")
    here = Predictor.from_run(trained_runs[kind])
    there = Predictor.from_export(tmp_path / "elsewhere")
    for number in (0, 7, 30):
        raw = (corpus / f"turn{number:04d}.wav", "never a sunny monday")
        assert there.predict(*raw) == here.predict(*raw)


def test_the_folder_holds_everything_and_no_pickle(trained_runs, tmp_path):
    export(trained_runs["fusion"], tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md", "tokenizer"}
    model = EmotionModel.from_pretrained(tmp_path / "out")
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(model.state_dict())
    assert not model.training
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["classes"] == ["anger", "happiness", "neutral", "sadness"]
    card = (tmp_path / "out" / "README.md").read_text()
    results = json.loads((trained_runs["fusion"] / "metrics.json").read_text())
    assert f"{100 * results['parts']['test']['wa']:.1f}" in card
    assert "Protocol: random" in card
    for metric in METRICS.values():
        assert not metric.percent or f"| {metric.heading} " in card
    test = results["parts"]["test"]
    for kept, left in test["alone"].items():
        assert f"| test, {kept} only | {test['n']} | {100 * left['wa']:.1f} |" in card


def test_weights_of_another_model_are_refused_by_name(trained_runs, tmp_path):
    export(trained_runs["text"], tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    state = load_file(path)
    state["stray"] = torch.zeros(1)
    del state["text.head.bias"]
    save_file(state, path)
    with pytest.raises(ModelError, match=r"text\.head\.bias.*stray"):
        EmotionModel.from_pretrained(tmp_path / "out")


def test_what_cannot_be_exported(trained_runs, tmp_path):
    with pytest.raises(ExportError, match="there already"):
        export(trained_runs["text"], tmp_path)
    with pytest.raises(RunError, match="no run folder"):
        export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
