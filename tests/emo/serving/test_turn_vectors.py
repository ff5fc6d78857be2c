"""What trained branches say, written as shards: by whom, of which turns, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from emo.__main__ import main
from emo.config import ExperimentConfig
from emo.data.config import LeftOut
from emo.evaluation.posthoc.calibration import at_temperature
from emo.runs.experiment import view_of
from emo.serving.turn_vectors import Source, VectorsError, vectors_of, write_vectors
from emo.training.train import train
from shards.configfile import ConfigError, parse
from shards.store.index import open_dataset
from shards.store.read import ShardReader
from shards.store.verify import check_dataset
from shards.views.view import ViewError

VIEW = {
    "protocol": "random_dialogues",
    "labels": {"anger": ["ang"], "happiness": ["hap"], "neutral": ["neu"]},  # no "sad"
    "test": 0.3,
    "val": 0.2,
}


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory, make_settings):
    """A run of each branch on whole dialogues, one of text on another seed, and one on turns."""
    folder = tmp_path_factory.mktemp("branches")
    branches = make_settings(tiny, folder)["model"]
    wanted = {
        "text": ("text", VIEW),
        "audio": ("audio", VIEW),
        "other": ("audio", VIEW | {"seed": 9}),
        "split": ("text", VIEW | {"protocol": "random"}),
    }
    for name, (kind, view) in wanted.items():
        changes = {"data__view": view, "train__epochs": 1, "name": name}
        model = {kind: branches[kind]}
        settings = make_settings(tiny, folder / name, model=model, **changes)
        assert train(parse(ExperimentConfig, settings, "a test")) == "done"
    return {name: folder / name for name in wanted}


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "set"
    write_vectors([runs["text"], runs["audio"]], folder)
    return folder


def test_every_clean_turn_is_there_with_its_metadata(written, tiny):
    check_dataset(written, deep=True, workers=1)
    source, dataset = open_dataset(tiny), open_dataset(written)
    clean = source.column("variant") == "clean"
    assert set(dataset.column("label")) == {"ang", "hap", "neu", "sad"}
    for name in ("utterance", "label", "speaker", "dialogue", "turn", "text", "seconds"):
        assert dataset.column(name).tolist() == source.column(name)[clean].tolist()
    widths = {"text_vector": 16, "text_scores": 3, "audio_vector": 16, "audio_scores": 3}
    assert dataset.manifest.settings["vectors"]["widths"] == widths
    arrays = ShardReader(dataset, list(widths)).read(7)
    assert {name: array.shape for name, array in arrays.items()} == {
        name: (width,) for name, width in widths.items()
    }
    assert np.exp(arrays["text_scores"]).sum() == pytest.approx(1, abs=1e-6)


def test_vectors_are_what_the_last_layer_sees(written, runs):
    """The branch's linear layer makes the scores of the vectors: they belong to one another."""
    dataset = open_dataset(written)
    reader = ShardReader(dataset, ["text_vector", "text_scores", "audio_vector", "audio_scores"])
    for kind in ("text", "audio"):
        head = getattr(Source.open(runs[kind]).model, kind).head
        for row in range(0, len(dataset), 9):
            arrays = reader.read(row)
            with torch.no_grad():
                scores = torch.log_softmax(head(torch.tensor(arrays[f"{kind}_vector"])), -1)
            np.testing.assert_allclose(arrays[f"{kind}_scores"], scores.numpy(), atol=1e-5)


def test_scores_are_those_that_evaluation_wrote(written, runs):
    """Those without the temperature that evaluation gives them."""
    temperature = json.loads((runs["audio"] / "metrics.json").read_text())["temperature"]
    dataset = open_dataset(written)
    row_of = {name: row for row, name in enumerate(dataset.column("utterance"))}
    reader = ShardReader(dataset, ["audio_scores"])
    for line in (runs["audio"] / "predictions-test.jsonl").read_text().splitlines():
        said = json.loads(line)
        scores = reader.read(row_of[said["utterance"]])["audio_scores"]
        found = at_temperature(np.exp(scores), temperature)
        np.testing.assert_allclose(found, list(said["probabilities"].values()), atol=1e-6)


def test_it_is_recorded_whose_vectors_they_are(written, runs, tiny):
    facts = open_dataset(written).manifest.settings["vectors"]
    run = json.loads((runs["text"] / "run.json").read_text())
    assert facts["view"] == run["view"]
    assert facts["dataset"]["hash"] == open_dataset(tiny).manifest.dataset_hash
    assert facts["runs"]["text"]["run"] == str(runs["text"])
    assert facts["runs"]["audio"]["weights"]["sha256"]


def test_what_does_not_fit_together_is_refused(written, runs, tmp_path):
    new = tmp_path / "new"
    for chosen, error, message in (
        (["split"], ViewError, "whole dialogues"),
        (["text", "other"], VectorsError, "different parts"),
        (["text", "text"], VectorsError, "both have a text branch: name one"),
    ):
        with pytest.raises(error, match=message):
            write_vectors([runs[name] for name in chosen], new)
        assert not list(tmp_path.iterdir())
    with pytest.raises(VectorsError, match="there already"):
        write_vectors([runs["text"]], written)


def test_cross_fitted_scores_come_from_runs_without_the_dialogue(runs, tiny, tmp_path):
    """Folds trained by this process; each speaks of the training dialogues that it has not seen."""
    run = tmp_path / "text"
    shutil.copytree(runs["text"], run)
    dataset = open_dataset(tiny)
    source = Source.open(run)
    view = view_of(dataset, source.config)
    names, folds = dataset.column("dialogue"), 2
    training = set(names[view.train])
    left = []
    for fold in range(folds):
        data = source.config.data.model_copy(update={"left_out": LeftOut(fold=fold, folds=folds)})
        own = run / f"cross-fit-{folds}" / f"fold-{fold}"
        settings = source.config.model_copy(update={"data": data, "run": own})
        assert train(settings) == "done"
        left.append(set(names[data.left_out.rows(view)]))
    assert left[0] | left[1] == training
    assert not left[0] & left[1]

    write_vectors([run], tmp_path / "set", folds=folds)
    made = open_dataset(tmp_path / "set")
    assert made.manifest.settings["vectors"]["widths"] == {"text_scores": 3}
    assert made.manifest.settings["vectors"]["cross_fit"] == folds
    found = ShardReader(made, ["text_scores"])
    clean = np.flatnonzero(dataset.column("variant") == "clean")
    speakers = [source, *(Source.open(run / "cross-fit-2" / f"fold-{f}") for f in range(folds))]
    said = [vectors_of(one, dataset, view, clean)["text_scores"] for one in speakers]
    for place, row in enumerate(clean.tolist()):
        who = next((1 + f for f in range(folds) if names[row] in left[f]), 0)
        np.testing.assert_allclose(found.read(place)["text_scores"], said[who][row], atol=1e-6)
        assert not np.allclose(said[who][row], said[who - 1][row], atol=1e-4)


def test_a_fold_that_leaves_out_nothing_is_refused():
    with pytest.raises(ConfigError, match="numbered from 0 to 1"):
        parse(LeftOut, {"fold": 2, "folds": 2}, "a test")


def test_a_context_model_has_no_vectors_to_give(written, tmp_path):
    raw = {
        "name": "context",
        "run": str(tmp_path / "run"),
        "data": {"shards": str(written), "view": VIEW, "plan": {"order": "dialogues"}},
        "model": {"context": {"kind": "bclstm", "modalities": ["text"], "hidden": 4}},
        "train": {"epochs": 1, "global_batch": 4},
    }
    config = parse(ExperimentConfig, raw, "a test")
    data = config.data.model_copy(update={"workers": 0})
    assert train(config.model_copy(update={"data": data})) == "done"
    with pytest.raises(VectorsError, match="is a context model"):
        write_vectors([config.run], tmp_path / "new")


def test_a_fusion_of_tokens_and_frames_has_no_trained_vectors(tiny, make_settings, tmp_path):
    """Its gradients pass the branches' last layers by: what these say would be noise."""
    branches = make_settings(tiny, tmp_path)["model"]
    model = branches | {"fusion": {"kind": "cross_attention", "hidden": 8, "heads": 2}}
    changes = {"data__view": VIEW, "train__epochs": 1}
    settings = make_settings(tiny, tmp_path / "run", model=model, **changes)
    assert train(parse(ExperimentConfig, settings, "a test")) == "done"
    with pytest.raises(VectorsError, match="fuses tokens and frames"):
        write_vectors([tmp_path / "run"], tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()


def test_a_cross_fit_cut_short_ends_as_what_goes_on(runs, tmp_path, monkeypatch, capsys):
    """A real launch of one process, out of time at once: exit code 75, and no dataset."""
    monkeypatch.setenv("EMO_PROCESSES", "1")
    run = tmp_path / "run"
    shutil.copytree(runs["text"], run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["train"]["max_minutes"] = 0.00001
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["features", str(run), str(tmp_path / "set"), "--cross-fit", "2"]) == 75
    assert "stopped early and saved: run the same command again" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
