"""A speech encoder from recordings to predictions: shards, a launched training, and its use."""

import json
import shutil

import numpy as np
import pytest
import transformers

from emo.config import ExperimentConfig
from emo.data.source import DataError
from emo.evaluation.predictions import read_lines
from emo.serving.export import export
from emo.serving.predict import Predictor
from emo.serving.turn_vectors import write_vectors
from emo.training.train import train
from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import ConfigError, load, parse
from shards.store.index import CONFIG, open_dataset
from shards.store.read import ShardReader


@pytest.fixture(scope="module")
def heard(tiny, tmp_path_factory):
    """The tiny corpus with waveforms instead of spectrograms."""
    folder = tmp_path_factory.mktemp("heard") / "shards"
    raw = load(ShardConfig, tiny / CONFIG).model_dump(mode="json")
    raw |= {"features": {"kinds": ["waveform"]}, "output": raw["output"] | {"folder": str(folder)}}
    build(parse(ShardConfig, raw, "the test"), workers=1)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A wav2vec 2.0 of base shape at 8 kHz without dropout, for exact comparisons."""
    folder = tmp_path_factory.mktemp("encoder")
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=(16, 16, 16), conv_kernel=(10, 8, 4), conv_stride=(5, 4, 4),
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, hidden_dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
    )  # fmt: skip
    transformers.set_seed(0)
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(heard, encoder, tmp_path, make_settings):
    """`settings(name, dotted keys)`: an experiment on the waveforms."""

    def make(name="speech", **changes):
        branch = {"kind": "speech_encoder", "encoder": str(encoder), "hidden": 16, "dropout": 0.0}
        branch |= changes.pop("branch", {})
        raw = make_settings(heard, tmp_path / name, model={"audio": branch}, **changes)
        raw["data"]["audio"] = "waveform"
        return raw

    return make


def losses_of(run):
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["group"] == "train"]


def test_two_launched_processes_tune_it_as_one_does(settings, lab, tiny_corpus, tmp_path):
    """And the run then predicts from recordings what evaluation found in the shards."""
    changes = {
        "branch": {"tune": "everything"},
        "optim__lr": 3e-3,
        "train__epochs": 3,
        "runtime": {"precision": "fp64"},
    }
    two = lab.train("cpu", settings("two", **changes))
    assert two.process.returncode == 0, two.output
    assert train(parse(ExperimentConfig, settings("one", **changes), "the test")) == "done"
    one, many = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert len(one) >= 12
    np.testing.assert_allclose(many, one, rtol=1e-9)
    assert np.mean(one[-4:]) < np.mean(one[:4]) - 0.05

    run = tmp_path / "two"
    expected = {line["utterance"]: line["probabilities"] for line in read_lines(run, "test")}
    predictor = Predictor.from_run(run)
    for name in sorted(expected)[:8]:
        found = predictor.predict(tiny_corpus / f"{name}.wav", None)
        assert found == pytest.approx(expected[name], abs=1e-5)
    export(run, tmp_path / "exported")
    there = Predictor.from_export(tmp_path / "exported")
    sound = tiny_corpus / f"{min(expected)}.wav"
    assert there.predict(sound, None) == predictor.predict(sound, None)


def test_frozen_beside_text_and_its_vectors(settings, encoder, heard, tmp_path, lab):
    """The encoder keeps its weights; a fusion trains; `emo features` gives a vector a turn."""
    from safetensors.torch import load_file

    from emo.runs import checkpoint, files

    view = {"protocol": "random_dialogues", "labels": "four", "test": 0.2, "val": 0.2}
    raw = settings("both", data__view=view, train__epochs=1)
    raw["model"] |= {"text": lab.text_branch(), "fusion": {"kind": "gated"}}
    assert train(parse(ExperimentConfig, raw, "the test")) == "done"
    weights = checkpoint.read_weights(checkpoint.best(files.checkpoints(tmp_path / "both")))
    published = load_file(encoder / "model.safetensors")
    published.pop("masked_spec_embed")
    for name, tensor in published.items():
        assert tensor.equal(weights[f"audio.encoder.{name}"]), name

    write_vectors([tmp_path / "both"], tmp_path / "vectors")
    dataset = open_dataset(tmp_path / "vectors")
    reader = ShardReader(dataset, ["audio_vector", "text_vector"])
    assert len(dataset) == 120
    assert {len(reader.read(row)["audio_vector"]) for row in range(120)} == {16}


def test_adapters_are_trained_saved_and_exported_merged(settings, tiny_corpus, tmp_path):
    """The exported model has no adapters, and predicts what the run predicts."""
    from safetensors.torch import load_file

    lora = {"lora": {"rank": 2, "targets": ["v_proj", "output_dense"]}}
    raw = settings("lora", branch=lora, optim__lr=0.02, train__epochs=1)
    assert train(parse(ExperimentConfig, raw, "the test")) == "done"
    run, folder = tmp_path / "lora", tmp_path / "exported"
    export(run, folder)
    assert not [name for name in load_file(folder / "model.safetensors") if "lora" in name]
    here, there = Predictor.from_run(run), Predictor.from_export(folder)
    assert any(p.abs().sum() > 0 for n, p in here.model.named_parameters() if "lora_B" in n)
    for sound in sorted(tiny_corpus.glob("*.wav"))[:4]:
        found = there.predict(sound, None)
        assert found == pytest.approx(here.predict(sound, None), abs=1e-6)
        assert max(found.values()) - min(found.values()) > 1e-3


def test_the_rate_must_be_the_encoders(settings, encoder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(encoder, other)
    file = other / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sampling_rate": 16000}))
    config = parse(ExperimentConfig, settings(branch={"encoder": str(other)}), "the test")
    with pytest.raises(DataError, match=r"8000 samples a second.*audio.sample_rate=16000"):
        train(config)


def test_waveforms_and_speech_encoders_belong_together(settings, lab, tiny):
    raw = settings()
    raw["data"]["audio"] = "logmel"
    with pytest.raises(ConfigError, match="speech_encoder"):
        parse(ExperimentConfig, raw, "the test")
    raw = settings()
    raw["model"]["audio"] = lab.audio_branch()
    with pytest.raises(ConfigError, match="speech_encoder"):
        parse(ExperimentConfig, raw, "the test")
    raw = settings()
    raw["data"]["shards"] = str(tiny)
    with pytest.raises(DataError, match="reads waveform, the shards hold logmel"):
        train(parse(ExperimentConfig, raw, "the test"))
