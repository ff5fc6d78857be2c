"""What TensorBoard has to show of trained runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

from emo.config import ExperimentConfig
from emo.evaluation.predictions import read_predictions
from emo.evaluation.reevaluate import evaluate_again
from emo.runs import files
from emo.training.saver import Saver
from emo.training.train import train
from shards.configfile import parse

EPOCHS = 4  # of `trained_runs`


def events(run: Path) -> EventAccumulator:
    kept = {"scalars": 0, "images": 0, "audio": 0, "tensors": 0}
    found = EventAccumulator(str(run), size_guidance=kept)
    found.Reload()
    return found


def pictures(found: EventAccumulator, tag: str) -> list[np.ndarray]:
    return [
        np.asarray(Image.open(io.BytesIO(one.encoded_image_string))) for one in found.Images(tag)
    ]


def test_every_epoch_has_its_pictures_and_curves(trained_runs: dict[str, Path]) -> None:
    found = events(trained_runs["fusion"])
    tags = found.Tags()
    steps = [one.step for one in found.Scalars("val/ua")]
    assert len(steps) == EPOCHS
    for tag in ("confusion/val", "reliability/val"):
        assert [one.step for one in found.Images(tag)] == steps
    for one in pictures(found, "confusion/val"):
        assert one.shape[0] > 300
        assert one.std() > 10  # there is something on it
    curves = [tag for tag in tags["tensors"] if tag.startswith("val_precision_recall/")]
    assert len(curves) == 4
    for tag in curves:
        assert [one.step for one in found.Tensors(tag)] == steps
    assert [one.step for one in found.Images("confusion/test")] == [steps[-1] + 1]


def test_the_same_turns_are_seen_every_epoch_and_heard_once(trained_runs: dict[str, Path]) -> None:
    found = events(trained_runs["audio"])
    seen = [tag for tag in found.Tags()["images"] if tag.startswith("turns/")]
    assert len(seen) == 5
    for tag in seen:
        assert len(found.Images(tag)) == EPOCHS
        [event] = found.Tensors(tag.replace("turns/", "sound/"))
        wav, label = event.tensor_proto.string_val
        wave, rate = soundfile.read(io.BytesIO(wav))
        assert rate == 8000
        assert wave.std() > 0.01
        assert label == b"decoded from the corpus"


def test_precision_and_recall_are_those_of_the_predictions(trained_runs: dict[str, Path]) -> None:
    run = trained_runs["text"]
    facts = json.loads(files.metrics(run).read_text())
    turns = read_predictions(run, "test", facts["classes"])
    found = events(run)
    for number, name in enumerate(facts["classes"]):
        [event] = found.Tensors(f"test_precision_recall/{name}")
        hits, alarms, _, misses, precision, recall = tensor_util.make_ndarray(event.tensor_proto)
        truth, score = turns.labels == number, turns.probabilities[:, number]
        place = 40
        said = score >= place / 126
        assert hits[place] == (truth & said).sum()
        assert alarms[place] == (~truth & said).sum()
        assert misses[place] == (truth & ~said).sum()
        assert precision[place] * said.sum() == pytest.approx(hits[place])
        assert recall[0] == 1


def test_runs_can_be_ranked_by_their_results(trained_runs: dict[str, Path]) -> None:
    run = trained_runs["fusion"]
    found, facts = events(run), json.loads(files.metrics(run).read_text())
    [result] = found.Scalars("result_test/ua")
    assert result.value == np.float32(facts["parts"]["test"]["ua"])
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert started["optim.lr"].number_value == 0.01
    assert started["model.fusion.kind"].string_value == "paper"
    assert found.SummaryMetadata("_hparams_/session_end_info")
    assert found.Tensors("custom_scalars__config__")


def test_the_projector_finds_a_point_a_turn_with_its_facts(trained_runs: dict[str, Path]) -> None:
    run = trained_runs["fusion"]
    config = (run / "projector_config.pbtxt").read_text()
    facts = (run / "projector/facts.tsv").read_text().splitlines()
    assert facts[0].split("\t")[:5] == ["truth", "predicted", "right", "speaker", "session"]
    for name, width in (("scores", 4), ("last_layer", 8)):
        assert f'tensor_path: "projector/{name}.tsv"' in config
        table = np.loadtxt(run / f"projector/{name}.tsv", delimiter="\t")
        assert table.shape == (len(facts) - 1, width)
        assert np.isfinite(table).all()
        assert table.std() > 0
    # The scores are those of the predictions, row by row.
    classes = json.loads(files.metrics(run).read_text())["classes"]
    turns = read_predictions(run, "val", classes)
    logs = dict(zip(turns.utterances, np.log(turns.probabilities), strict=True))
    table = np.loadtxt(run / "projector/scores.tsv", delimiter="\t")
    for line, row in zip(facts[1:], table, strict=True):
        np.testing.assert_allclose(row, logs[line.split("\t")[-1]], atol=1e-3)


def test_a_killed_run_goes_on_without_a_doubled_point(
    tiny: Path, tmp_path: Path, make_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after pictures, before the checkpoint of that epoch; then evaluated once more."""
    settings = make_settings(
        tiny, tmp_path / "run", train__epochs=3, train__checkpoint_steps=1, resume="auto",
        watch={"profile_steps": 2},
    )  # fmt: skip
    config = parse(ExperimentConfig, settings, "the test")
    whole_save, saves = Saver.save, 0

    def killed_later(*given: Any, **named: Any) -> None:
        nonlocal saves
        saves += 1
        if saves == 12:  # the end of the second epoch: its validation is logged and drawn
            raise KeyboardInterrupt
        whole_save(*given, **named)

    monkeypatch.setattr(Saver, "save", killed_later)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.setattr(Saver, "save", whole_save)
    assert train(config) == "done"
    evaluate_again(tmp_path / "run")
    found = events(tmp_path / "run")
    readers = {"scalars": found.Scalars, "images": found.Images, "audio": found.Audio,
               "tensors": found.Tensors}  # fmt: skip
    tags = {(kind, tag) for kind in readers for tag in found.Tags()[kind]}
    assert len(tags) > 50
    for kind, tag in tags:
        steps = [one.step for one in readers[kind](tag)]
        assert steps == sorted(set(steps)), (kind, tag, steps)
    last = found.Scalars("loss/train")[-1].step
    assert [one.step for one in found.Scalars("loss/train")] == list(range(1, last + 1))
    assert [one.step for one in found.Images("confusion/val")] == [last // 3, 2 * last // 3, last]
    assert len(list((tmp_path / "run").glob("trace-to-step-*.json.gz"))) == 2  # of each launch
    log = [json.loads(line) for line in (tmp_path / "run" / files.LOG).read_text().splitlines()]
    assert sum("launched" in line for line in log) == 2
