"""Batches of dialogues: every turn once, in order, on any number of ranks; and what is refused."""

import json

import numpy as np
import pytest
import torch

from emo.config import ExperimentConfig
from emo.data.plan import Share
from emo.data.source import DataError
from emo.data.steps import EvaluationSteps, TrainingSteps
from emo.evaluation.predictions import read_lines
from emo.models.losses.cross_entropy import emotion_loss
from emo.runs.experiment import Experiment, view_of
from emo.serving.turn_vectors import publish
from emo.training.train import train
from shards.configfile import ConfigError, parse
from shards.store.index import open_dataset
from shards.views.view import ViewConfig, ViewError, make_view

# "sad" is outside: those turns are context alone.
VIEW = {
    "protocol": "random_dialogues",
    "labels": {"anger": ["ang"], "happiness": ["hap"], "neutral": ["neu"]},
    "test": 0.3,
    "val": 0.2,
}


def settings(shards, run, **changes):
    raw = {
        "name": "tiny-context",
        "run": str(run),
        "data": {"shards": str(shards), "view": VIEW, "plan": {"order": "dialogues"}, "workers": 0},
        "model": {"context": {"kind": "icon", "modalities": ["text", "audio"], "width": 8}},
        "train": {"global_batch": 6, "evaluation_batch": 4, "epochs": 1},
    }
    for key, value in changes.items():
        node, *path = raw, *key.split("__")
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = value
    return parse(ExperimentConfig, raw, "a test")


@pytest.fixture(scope="module")
def vectors(tiny, tmp_path_factory):
    """Vectors that tell their row, of all turns, but audio only of every second; d0 is shorter."""
    source = open_dataset(tiny)
    clean = np.flatnonzero(source.column("variant") == "clean")
    short = (source.column("dialogue")[clean] == "d0") & (source.column("turn")[clean] > 2)
    clean = clean[~short]
    columns = ("utterance", "variant", "label", "speaker", "session", "dialogue", "turn")
    table = {name: source.column(name)[clean] for name in columns}
    view = make_view(table, parse(ViewConfig, VIEW, "a test"))
    members = {
        "text_vector": {row: np.array([row, 1.0, -row]) for row in clean.tolist()},
        "audio_vector": {row: np.array([row, 2.0]) for row in clean.tolist() if row % 4 == 0},
    }
    facts = {
        "view": view.digest,
        "protocol": view.name,
        "widths": {"text_vector": 3, "audio_vector": 2},
        "dataset": {"hash": "of the source"},
    }
    folder = tmp_path_factory.mktemp("vectors") / "set"
    publish(folder, source, clean, members, facts)
    return folder


def opened(folder, **changes):
    config = settings(folder, "unused", **changes)
    dataset = open_dataset(folder)
    view = view_of(dataset, config)
    built = Experiment.of_dialogues(dataset, view, config)
    return config, dataset, view, built.rows, built.samples, built.model, built.plan


def test_a_batch_is_dialogues_in_the_order_of_turns(vectors):
    _, dataset, view, units, samples, _, _ = opened(vectors)
    [short] = samples.units(np.flatnonzero(dataset.column("dialogue") == "d0"))
    long = next(unit for unit in units if unit != short)
    batch = samples.batch(np.array([short, -1, long]), samples.lengths(np.array([short, long])))
    rows = batch.row.reshape(3, 8)
    assert batch.inputs["turn_mask"].sum(1).tolist() == [3, 0, 8]
    assert (rows >= 0).tolist() == batch.inputs["turn_mask"].tolist()
    for place, unit in ((0, short), (2, long)):
        mine = rows[place][rows[place] >= 0].numpy()
        assert dataset.column("turn")[mine].tolist() == list(range(len(mine)))
        assert set(dataset.column("dialogue")[mine]) == {
            dataset.column("dialogue")[samples.dialogues[unit][0]]
        }
    valid = batch.valid.reshape(3, 8).numpy()
    labels = dataset.column("label")
    for (place, turn), row in np.ndenumerate(rows.numpy()):
        assert valid[place, turn] == (row >= 0 and labels[row] != "sad")
        if row < 0:
            assert not batch.inputs["text"][place, turn].any()
            continue
        source = batch.inputs["text"][place, turn, 0]
        assert batch.inputs["text"][place, turn].tolist() == [source, 1, -source]
        heard = [source, 2] if source % 4 == 0 else [0, 0]  # without audio: zeros
        assert batch.inputs["audio"][place, turn].tolist() == heard
    flat = rows.flatten().numpy()
    counted = batch.valid.numpy()
    assert (batch.target.argmax(1).numpy()[counted] == view.labels[flat[counted]]).all()
    assert not batch.target.numpy()[~counted].any()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_turn_of_a_part_is_evaluated_once(vectors, world):
    _, _, view, _, samples, _, _ = opened(vectors)
    for part in ("val", "test"):
        rows, seen, steps = view.rows(part), [], set()
        for rank in range(world):
            mine = EvaluationSteps(samples, samples.units(rows), batch=3, share=Share(world, rank))
            steps.add(len(mine))
            for step in range(len(mine)):
                batch = mine[step]
                seen += batch.row[batch.valid].tolist()
        assert len(steps) == 1
        assert sorted(seen) == rows.tolist()


@pytest.mark.parametrize(("world", "accumulation"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_an_epoch_trains_on_every_turn_once_with_the_same_losses(vectors, world, accumulation):
    _, _, view, units, samples, model, plan = opened(vectors)
    model.double().eval()

    def steps_of(world, rank, accumulation):
        return TrainingSteps(
            samples, units, plan, plan.start(), epochs=1, share=Share(world, rank, accumulation)
        )

    def loss(batch):
        inputs = samples.to_model(batch, torch.device("cpu"), torch.float64)
        return emotion_loss(model(inputs), batch.target, batch.valid).item()

    alone, seen = steps_of(1, 0, 1), []
    ranks = [steps_of(world, rank, accumulation) for rank in range(world)]
    for step in range(len(alone)):
        [whole] = alone[step]
        micros = [micro for rank in ranks for micro in rank[step]]
        assert sum(map(loss, micros)) == pytest.approx(loss(whole), rel=1e-12)
        rows = [row for micro in micros for row in micro.row[micro.valid].tolist()]
        assert set(rows) <= set(samples.rows_of(ranks[0].global_units(step)).tolist())
        seen += rows
    assert sorted(seen) == view.train.tolist()


@pytest.mark.parametrize("kind", ["icon", "bclstm"])
def test_a_run_from_vectors_to_predictions(vectors, tmp_path, kind):
    sizes = {"icon": {"width": 8}, "bclstm": {"hidden": 4, "dense": 4, "fused": 4}}[kind]
    context = {"kind": kind, "modalities": ["text"], **sizes}
    config = settings(vectors, tmp_path / "run", model__context=context)
    assert train(config) == "done"
    facts = json.loads((config.run / "metrics.json").read_text())
    dataset = open_dataset(vectors)
    view = view_of(dataset, config)
    lines = read_lines(config.run, "test")
    assert [line["utterance"] for line in lines] == dataset.column("utterance")[view.test].tolist()
    assert facts["model"] == ["text", kind]
    assert facts["dataset"]["hash"] == "of the source"  # comparable with the branches themselves
    seen = {"icon": "past", "bclstm": "whole"}[kind]
    assert (facts["context"]["sees"], facts["context"]["reads"]) == (seen, ["text"])


def test_damage_is_an_error_or_a_turn_that_says_nothing(vectors, copy_of):
    folder = copy_of(vectors)
    dataset = open_dataset(folder)
    view = view_of(dataset, settings(folder, "unused"))
    row = int(view.train[0])
    with (folder / "shard-00000.tar").open("r+b") as file:
        file.seek(int(dataset.column("text_vector.offset")[row]) + 130)
        file.write(b"\xff\xff")
    _, _, _, _, samples, _, _ = opened(folder, data__damage="skip")
    units = samples.units(np.array([row]))
    batch = samples.batch(units, samples.lengths(units))
    [place] = torch.nonzero(batch.row == row).flatten().tolist()
    assert batch.skipped.nonzero().flatten().tolist() == [place]
    assert not batch.valid[place]
    assert not batch.inputs["text"].flatten(0, 1)[place].any()
    _, _, _, _, samples, _, _ = opened(folder)
    with pytest.raises(Exception, match="CRC32"):
        samples.batch(units, samples.lengths(units))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data__view": VIEW | {"protocol": "random"}}, ViewError, "puts dialogue d.* into"),
        ({"data__view": VIEW | {"seed": 9}}, DataError, "trained on other parts"),
        ({"model__context__reads": "scores"}, DataError, "not text_scores, audio_scores"),
        ({"data__plan": {"order": "shuffle"}}, ConfigError, "order=dialogues"),
    ],
)
def test_what_cannot_be_is_refused(vectors, changes, error, message):
    with pytest.raises(error, match=message):
        opened(vectors, **changes)


def test_shards_without_vectors_are_refused(tiny):
    with pytest.raises(DataError, match="emo features RUN"):
        opened(tiny)
