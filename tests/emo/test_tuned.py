"""The tuned configurations train end to end: a made corpus of their kind, tiny checkpoints."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TUNED = sorted((ROOT / "configs" / "tuned").glob("*.yaml"))
LABELS = ("ang", "contempt", "dis", "fea", "hap", "neu", "sad", "sur")
SPLITS = ("train", "train", "train", "val", "test")


def write_corpus(root: Path) -> None:
    """120 tones of a third of a second: eight emotions, five sessions, votes and attributes."""
    import soundfile

    rng = np.random.default_rng(2)
    root.mkdir()
    rows = []
    for number in range(120):
        dialogue, turn = divmod(number, 8)
        label = LABELS[(turn + dialogue) % 8]
        time = np.arange(rng.integers(4000, 6000)) / 16000
        wave = 0.2 * np.sin(2 * np.pi * (150 + 60 * LABELS.index(label)) * time)
        wave += 0.02 * rng.standard_normal(len(time))
        soundfile.write(root / f"t{number}.wav", wave.astype(np.float32), 16000)
        rows.append({
            "id": f"t{number}", "audio": f"t{number}.wav", "text": f"we say {label} again",
            "label": label, "votes": [label, label, "neu"], "speaker": f"s{dialogue % 5}",
            "session": str(dialogue % 5 + 1), "split": SPLITS[dialogue % 5],
            "dialogue": f"d{dialogue}", "turn": turn,
            "a": float(rng.uniform(1, 7)), "v": float(rng.uniform(1, 7)), "d": float(turn % 7 + 1),
        })  # fmt: skip
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The corpus' shards, and the encoders under the last part of their published names."""
    import torch
    import transformers

    from shards.build.job import build
    from shards.config import ShardConfig
    from shards.configfile import parse
    from shards.store.index import TOKENIZER

    folder = tmp_path_factory.mktemp("tuned")
    write_corpus(folder / "corpus")
    names = ("id", "audio", "text", "label", "votes", "speaker", "session", "split", "dialogue",
             "turn")  # fmt: skip
    columns = {"arousal": "a", "valence": "v", "dominance": "d"}
    labels = {"contempt": ["contempt"], "others": [x for x in LABELS if x != "contempt"]}
    raw = {
        "corpus": {"reader": "table", "root": str(folder / "corpus"), "spec": {
            "tables": "turns.jsonl", "fields": {name: name for name in names},
            "labels": {label: label for label in LABELS},
            "attributes": {name: {"column": column, "scale": [1, 7]}
                           for name, column in columns.items()},
        }},
        "labels": labels, "audio": {"sample_rate": 16000}, "augment": {"variants": []},
        "features": {"kinds": ["waveform"]}, "text": {"learn": {"vocab_size": 80}},
        "vocabulary_view": {"protocol": "official", "labels": labels},
        "output": {"folder": str(folder / "shards")},
    }  # fmt: skip
    build(parse(ShardConfig, raw, "the test"), workers=1)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    wavlm = transformers.WavLMConfig(
        **sizes, num_hidden_layers=14, conv_dim=(8, 8), conv_kernel=(10, 8), conv_stride=(10, 16),
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    whisper = transformers.WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=24, max_source_positions=50,
        vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        begin_suppress_tokens=None, suppress_tokens=None,
    )  # fmt: skip
    text = transformers.BertConfig(
        **sizes, num_hidden_layers=2, vocab_size=80, max_position_embeddings=64
    )
    for name, model, extractor in (
        ("wavlm-large", transformers.WavLMModel(wavlm), transformers.Wav2Vec2FeatureExtractor()),
        ("whisper-large-v3", transformers.WhisperModel(whisper),
         transformers.WhisperFeatureExtractor(chunk_length=1)),
        ("roberta-large", transformers.BertModel(text), None),
    ):  # fmt: skip
        model.save_pretrained(folder / name)
        if extractor is not None:
            extractor.save_pretrained(folder / name)
    shutil.copytree(folder / "shards" / TOKENIZER, folder / "roberta-large", dirs_exist_ok=True)
    return {path.name: path for path in folder.iterdir()}


def run_small(path: Path, shards: Path, made: dict[str, Path], run: Path, *more: str) -> Any:
    """Train the configuration for one epoch, with its encoders' names replaced by folders."""
    from emo.config import ExperimentConfig
    from emo.runs.finished import read_results
    from emo.training.train import train
    from shards.configfile import load

    text = path.read_text()
    for name in re.findall(r"encoder: ([\w./-]+)", text):
        text = text.replace(name, str(made[name.split("/")[-1]]))
    config = run.with_suffix(".yaml")
    config.write_text(text)
    small = (f"data.shards={shards}", f"run={run}", "data.workers=0", "train.epochs=1",
             "train.global_batch=24", "train.accumulation=2", *more)  # fmt: skip
    assert train(load(ExperimentConfig, config, small)) == "done"
    return read_results(run)


@pytest.mark.parametrize("path", TUNED, ids=lambda p: p.stem)
def test_it_says_where_its_values_come_from_and_how_large_it_is(path):
    head = path.read_text().split("\nname:")[0]
    assert "Where the values come from:" in head
    assert re.search(r"Size: .*(parameters|MB)", head)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("acted-wavlm", ["data.view.labels=four"]),
        ("iemocap-5fold", []),
        ("msp-podcast-8", []),
        ("msp-podcast-attributes", ["data.frames=6000", "train.select=ccc"]),
    ],
)
def test_it_trains_to_its_end(made, tmp_path, name, more):
    path = ROOT / f"configs/tuned/{name}.yaml"
    results = run_small(path, made["shards"], made, tmp_path / name, *more)
    assert results["parts"]["test"]["n"] > 8
    if name.endswith("attributes"):
        assert "ccc" in results["parts"]["test"]


def test_a_dialogue_model_over_the_vectors_of_a_tuned_branch(made, tmp_path):
    from emo.config import ExperimentConfig
    from emo.serving.turn_vectors import write_vectors
    from emo.training.train import train
    from shards.configfile import load, parse

    path = ROOT / "configs/tuned/meld-context.yaml"
    view = load(ExperimentConfig, path).data.view.model_dump(mode="json")
    raw = {"name": "text", "run": str(tmp_path / "text"),
           "data": {"shards": str(made["shards"]), "view": view, "workers": 0},
           "model": {"text": {"encoder": str(made["roberta-large"])}},
           "train": {"epochs": 1, "global_batch": 24}}  # fmt: skip
    assert train(parse(ExperimentConfig, raw, "the test")) == "done"
    write_vectors([tmp_path / "text"], tmp_path / "vectors")
    results = run_small(path, tmp_path / "vectors", made, tmp_path / "context",
                        "train.global_batch=4", "train.accumulation=1")  # fmt: skip
    assert results["parts"]["test"]["n"] == 21
