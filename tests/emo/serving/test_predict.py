"""Prediction from raw input is evaluation from shards, to the last float16."""

import json

import numpy as np
import pytest

from emo.evaluation.predictions import read_lines
from emo.serving.predict import CannotPredict, Predictor
from shards.extract.audio import AudioError


def truth_of(run):
    return {line["utterance"]: line["probabilities"] for line in read_lines(run, "test")}


def rows_of(corpus):
    lines = (corpus / "turns.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


@pytest.mark.parametrize("kind", ["text", "audio", "fusion"])
def test_predicting_a_test_turn_gives_what_evaluation_wrote(kind, trained_runs, tiny_corpus):
    corpus = tiny_corpus
    predictor = Predictor.from_run(trained_runs[kind])
    rows, expected = rows_of(corpus), truth_of(trained_runs[kind])
    assert len(expected) >= 30
    for name in sorted(expected)[:12]:
        found = predictor.predict(corpus / rows[name]["audio"], rows[name]["text"])
        assert found == pytest.approx(expected[name], abs=2e-6)
        assert sum(found.values()) == pytest.approx(1)


def test_a_fusion_model_does_with_either_input(trained_runs, tiny_corpus):
    corpus = tiny_corpus
    predictor = Predictor.from_run(trained_runs["fusion"])
    row = next(iter(rows_of(corpus).values()))
    sound, words = corpus / row["audio"], row["text"]
    both = predictor.predict(sound, words)
    for one in (predictor.predict(sound, None), predictor.predict(None, words)):
        assert np.isfinite(list(one.values())).all()
        assert one != pytest.approx(both, abs=1e-6)


def test_inputs_that_cannot_be_used(trained_runs, tmp_path):
    text, audio = (Predictor.from_run(trained_runs[k]) for k in ("text", "audio"))
    with pytest.raises(CannotPredict, match="reads text only"):
        text.predict(tmp_path / "any.wav", None)
    with pytest.raises(CannotPredict, match="nothing is left of the text"):
        text.predict(None, " [LAUGHTER] ")
    (tmp_path / "no.wav").write_bytes(b"this is not audio")
    with pytest.raises(AudioError, match="not audio"):
        audio.predict(tmp_path / "no.wav", None)
    with pytest.raises(AudioError, match="missing"):
        audio.predict(tmp_path / "nowhere.wav", None)
