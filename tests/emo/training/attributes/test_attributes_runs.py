"""Attributes beside the classes and alone: training, evaluation, comparison and prediction."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo.__main__ import main
from emo.config import ExperimentConfig
from emo.evaluation.attributes.scores import scores
from emo.evaluation.predictions import read_predictions
from emo.models.attributes.targets import AttributeTargets
from emo.models.branch import ModelError
from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import ConfigError, load, parse
from shards.store.index import CONFIG, open_dataset

MEANS = {"ang": 4.0, "hap": 3.5, "neu": 2.0, "sad": 1.5}


@pytest.fixture(scope="module")
def rated(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset `tiny` with arousal, which every seventh turn lacks: an update, without sound."""
    root = tmp_path_factory.mktemp("rated")
    raw = load(ShardConfig, tiny / CONFIG).model_dump(mode="json")
    shutil.copytree(raw["corpus"]["root"], root / "corpus")
    shutil.copytree(tiny, root / "shards")
    path, rng = root / "corpus" / "turns.jsonl", np.random.default_rng(0)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        votes = np.clip(np.round(rng.normal(MEANS[row["label"]], 0.6, 3)), 1, 5)
        row["ratings"] = "" if number % 7 == 0 else ";".join(map(str, votes))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw["corpus"]["root"] = str(root / "corpus")
    raw["corpus"]["spec"]["attributes"] = {"arousal": {"votes": "ratings", "scale": [1, 5]}}
    raw["output"] |= {"folder": str(root / "shards"), "update": True}
    manifest = build(parse(ShardConfig, raw, "the test"), workers=1)
    assert manifest is not None
    assert manifest.history[0].facts == {"attributes": 102}
    return root / "shards"


@pytest.fixture(scope="module")
def runs(rated: Path, tmp_path_factory: pytest.TempPathFactory, make_settings: Any, together: Any):
    """The same training cut up in three ways, and one of arousal alone."""
    folder = tmp_path_factory.mktemp("runs")

    def job(name: str, **changes: Any) -> dict[str, Any]:
        changes = {"model__attributes": {"names": ["arousal"], "weight": 2.0}} | changes
        config = make_settings(rated, folder / name, dropout=0.0, name=name, **changes)
        return {"strategy": "cpu", "config": config}

    alone = job("alone", loss={"scores": 0}, train__select="ccc", train__epochs=3)
    found = together(folder, 1, [job("one"), job("thirds", train__accumulation=3), alone])
    return found | together(folder, 2, [job("two", train__accumulation=2)])


def test_ranks_and_accumulation_train_alike(runs):
    """In float32, where sums in another order differ in the last bits."""
    one = runs["one"]
    for name in ("thirds", "two"):
        other = runs[name]
        assert other.outcome == "done"
        assert [*other.losses] == [*one.losses]
        assert max(abs(one.losses[n] - other.losses[n]) for n in one.losses) < 1e-5
        weights = other.weights()
        assert "attributes.linear.weight" in weights
        for key, value in one.weights().items():
            if key.endswith("key.bias"):
                continue  # a softmax does not feel it: its gradient is rounding, which Adam scales
            assert float((value - weights[key]).abs().max()) < 1e-4, key


def test_results_log_and_predictions_have_them(runs):
    result = json.loads((runs["one"].run / "metrics.json").read_text())
    for part in ("val", "test"):
        found = result["parts"][part]["attributes"]["arousal"]
        turns = read_predictions(runs["one"].run, part, result["classes"])
        predicted, true = turns.attributes["arousal"]
        assert np.isnan(true).any()
        assert ((predicted >= 1) & (predicted <= 5)).all()
        again = scores(predicted, true)
        assert found["n"] == again["n"] == int((~np.isnan(true)).sum())
        for name in ("ccc", "pearson", "rmse"):
            assert found[name] == pytest.approx(again[name], abs=1e-6)
            low, high = found["interval_95"][name]
            assert low <= found[name] <= high
        assert result["parts"][part]["ccc"] == pytest.approx(found["ccc"])
    logged = [line for line in runs["one"].log if line["group"] == "val_arousal"]
    assert len(logged) == 2  # an epoch each
    assert logged[-1].keys() >= {"ccc", "pearson", "rmse"}
    assert "ccc" in next(line for line in runs["one"].log if line["group"] == "val")


def test_alone_they_leave_the_classes_untrained(runs):
    """No gradient reaches the classes' own layer, and arousal is learnt."""
    alone = runs["alone"]
    steps = sorted(path.name for path in (alone.run / "checkpoints").glob("step-*"))
    first, last = (alone.weights_of(name) for name in (steps[0], steps[-1]))
    assert not np.array_equal(first["attributes.linear.weight"], last["attributes.linear.weight"])
    of_classes = [one for name, one in alone.moments().items() if "fusion.head.bias" in name]
    of_attributes = [one for name, one in alone.moments().items() if "attributes.linear" in name]
    assert of_classes
    # Weight decay is in the gradient, so what moves a bias that starts at 0 is the loss alone.
    assert max(float(one.abs().max()) for one in of_attributes) > 0
    result = json.loads((alone.run / "metrics.json").read_text())
    assert result["parts"]["test"]["ccc"] is not None


def test_compare_and_predict_show_them(runs, capsys, tmp_path):
    table = tmp_path / "table.csv"
    command = ["compare", str(runs["one"].run), str(runs["alone"].run), "--csv", str(table)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "CCC of attributes" in said
    assert "Their RMSE" in said
    assert "ccc_arousal_low" in table.read_text().splitlines()[0]
    assert main(["predict", str(runs["one"].run), "--text", "no never", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1 <= found["attributes"]["arousal"] <= 5


def test_what_the_dataset_lacks_is_named(rated, tiny):
    with pytest.raises(ModelError, match=r"arousl: did you mean 'arousal'.*it has arousal"):
        AttributeTargets.of(open_dataset(rated), ["arousl"])
    with pytest.raises(ModelError, match=r"no attributes: build it with `attributes`"):
        AttributeTargets.of(open_dataset(tiny), ["arousal"])


def test_settings_that_do_not_fit_are_refused(tiny, tmp_path, make_settings):
    for changes, said in (
        ({"train__select": "ccc"}, "train.select=ccc belongs to model.attributes"),
        ({"loss": {"scores": 0}}, "loss.scores=0 trains attributes alone"),
    ):
        with pytest.raises(ConfigError, match=said):
            parse(ExperimentConfig, make_settings(tiny, tmp_path / "run", **changes), "the test")
