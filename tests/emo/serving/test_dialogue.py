"""A model over dialogues predicts a table of turns as it was evaluated, also from an export."""

import json

import pytest

from emo import load
from emo.__main__ import main
from emo.config import ExperimentConfig
from emo.evaluation.predictions import read_lines
from emo.serving.predict import CannotPredict
from emo.serving.turn_vectors import write_vectors
from emo.training.train import train
from shards.configfile import parse

VIEW = {"protocol": "random_dialogues", "labels": "four", "test": 0.3, "val": 0.2}


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory, make_settings):
    """A bc-LSTM over the vectors of two branches."""
    folder = tmp_path_factory.mktemp("context")
    branches = make_settings(tiny, folder)["model"]

    def trained(name, shards, model, **changes):
        changes |= {"name": name, "model": model, "data__view": VIEW, "train__epochs": 1}
        settings = make_settings(shards, folder / name, **changes)
        assert train(parse(ExperimentConfig, settings, "a test")) == "done"
        return folder / name

    runs = [trained(name, tiny, {name: branches[name]}) for name in ("text", "audio")]
    write_vectors(runs, folder / "vectors")
    context = {"kind": "bclstm", "modalities": ["text", "audio"], "reads": "vector", "hidden": 8}
    plan = {"order": "dialogues"}
    changes = {"data__plan": plan, "train__global_batch": 4, "train__evaluation_batch": 4}
    return trained("bclstm", folder / "vectors", {"context": context}, **changes)


@pytest.fixture(scope="module")
def table(run, tiny_corpus):
    """All turns of the test dialogues, one dialogue's turns between those of others."""
    test = {one["dialogue"] for one in read_lines(run, "test")}
    lines = (tiny_corpus / "turns.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["dialogue"] in test]
    rows.sort(key=lambda row: row["turn"])
    path = tiny_corpus / "dialogues.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def predicted(model, table, capsys):
    assert main(["predict", str(model), str(table), "--json"]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return {one["id"]: one["probabilities"] for one in lines}


def test_a_table_of_dialogues_gives_what_evaluation_gave(run, table, tmp_path, capsys):
    found = predicted(run, table, capsys)
    for one in read_lines(run, "test"):
        assert found[one["utterance"]] == pytest.approx(one["probabilities"], abs=1e-5)
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    capsys.readouterr()
    for name, probabilities in predicted(tmp_path / "out", table, capsys).items():
        assert probabilities == pytest.approx(found[name], abs=1e-6)


def test_turns_in_python(run, table, tiny_corpus):
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    first = [row for row in rows if row["dialogue"] == rows[0]["dialogue"]]
    turns = [
        {"audio": tiny_corpus / row["audio"], "text": row["text"], "speaker": row["speaker"]}
        for row in first
    ]
    model = load(run)
    whole, alone = model(turns), model(turns[:1])
    assert len(whole) == len(turns)
    assert whole[0].probabilities != pytest.approx(alone[0].probabilities, abs=1e-7)
    with pytest.raises(CannotPredict, match="no speaker"):
        model([{"text": "hello"}])
    with pytest.raises(CannotPredict, match="give audio, text and speaker"):
        model([{"words": "hello", "speaker": "a"}])
    refused = model.predictions(list(_without_sound(first)))
    assert [type(one).__name__ for one in refused[:2]] == ["Refusal", "Prediction"]


def _without_sound(rows):
    from pathlib import Path

    from emo.serving.items import Item

    for number, row in enumerate(rows):
        sound = Path("nowhere.wav") if number == 0 else None
        yield Item(row["id"], sound, row["text"], dialogue="d", speaker=row["speaker"])


def test_a_model_of_turns_says_that_it_cannot_take_windows(run, tmp_path, capsys):
    assert main(["predict", str(run), "a.wav", "--window", "2"]) == 2
    assert "windows need a model of turns" in capsys.readouterr().err
