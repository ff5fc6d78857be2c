"""BERT and RoBERTa from a folder as one downloads it: tokenizer, shards, training, prediction."""

import json

import pytest
import tokenizers
import transformers

from emo.__main__ import main
from emo.config import ExperimentConfig
from emo.data.source import DataError
from emo.evaluation.predictions import read_lines
from emo.models.branch import ModelError
from emo.runs import files
from emo.serving.predict import Predictor
from emo.training.train import train
from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import load, parse
from shards.store.index import CONFIG, open_dataset
from shards.store.read import ShardReader

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}


def texts_of(corpus):
    lines = (corpus / "turns.jsonl").read_text().splitlines()
    return {row["id"]: row["text"] for row in map(json.loads, lines)}


def save_bert(folder, lines):
    """WordPiece, cased, as bert-base-cased: vocab.txt behind tokenizer.json."""
    learner = tokenizers.BertWordPieceTokenizer(lowercase=False)
    learner.train_from_iterator(lines, vocab_size=120, show_progress=False)
    transformers.BertTokenizer(vocab=learner.get_vocab(), do_lower_case=False).save_pretrained(
        folder
    )
    config = transformers.BertConfig(**SIZES, vocab_size=learner.get_vocab_size())
    transformers.BertForPreTraining(config).save_pretrained(folder)


def save_roberta(folder, lines):
    """Byte-level BPE, as roberta-base: vocab.json and merges.txt behind tokenizer.json."""
    learner = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learner.train_from_iterator(lines, vocab_size=400, special_tokens=special, show_progress=False)
    learner.save_model(str(folder))
    merges = [tuple(line.split()) for line in (folder / "merges.txt").read_text().splitlines()[1:]]
    transformers.RobertaTokenizer(vocab=learner.get_vocab(), merges=merges).save_pretrained(folder)
    config = transformers.RobertaConfig(
        **SIZES, vocab_size=learner.get_vocab_size(), pad_token_id=1
    )
    transformers.RobertaForMaskedLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def encoders(tiny, tmp_path_factory):
    """A folder of each kind, and the shards of the tiny corpus made with its tokenizer."""
    found = {}
    for name, save in (("bert", save_bert), ("roberta", save_roberta)):
        folder = tmp_path_factory.mktemp(name)
        transformers.set_seed(0)
        save(folder, list(texts_of(tiny.parent / "corpus").values()))
        raw = load(ShardConfig, tiny / CONFIG).model_dump(mode="json")
        raw |= {"features": None, "text": {"tokenizer": str(folder), "max_tokens": 38},
                "output": raw["output"] | {"folder": str(folder / "shards")}}  # fmt: skip
        build(parse(ShardConfig, raw, "the test"), workers=1)
        found[name] = folder
    return found


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_from_the_folder_to_a_prediction(name, encoders, tiny_corpus, make_settings, tmp_path):
    folder, run = encoders[name], tmp_path / name
    texts = texts_of(tiny_corpus)
    dataset = open_dataset(folder / "shards")
    reader = ShardReader(dataset, ["tokens"])
    words = transformers.AutoTokenizer.from_pretrained(folder)
    for row, utterance in enumerate(dataset.column("utterance")):
        assert reader.read(row)["tokens"].tolist() == words(texts[utterance])["input_ids"]

    raw = make_settings(
        folder / "shards",
        run,
        model={"text": {"encoder": str(folder), "dropout": 0.0, "pooling": "mean"}},
        data__plan={"order": "shuffle"},
        optim__lr=1e-2,
        train__epochs=8,
    )
    assert train(parse(ExperimentConfig, raw, "the test")) == "done"
    expected = {line["utterance"]: line["probabilities"] for line in read_lines(run, "test")}
    predictor = Predictor.from_run(run)
    for utterance in sorted(expected)[:8]:
        found = predictor.predict(None, texts[utterance])
        assert found == pytest.approx(expected[utterance], abs=1e-5)
    losses = [
        line["loss"]
        for line in map(json.loads, (run / "log.jsonl").read_text().splitlines())
        if line["group"] == "train"
    ]
    assert losses[-1] < losses[0] - 0.2
    # The encoder's folder may go: the run has all of its weights.
    config = files.config(run).read_text()
    files.config(run).write_text(config.replace(f"encoder: {folder}\n", "encoder: /gone/far\n"))
    assert config != files.config(run).read_text()
    before = json.loads(files.metrics(run).read_text())["parts"]
    assert main(["eval", str(run)]) == 0
    assert json.loads(files.metrics(run).read_text())["parts"] == before


def test_shards_of_another_tokenizer_are_refused(encoders, make_settings, tmp_path):
    raw = make_settings(
        encoders["bert"] / "shards",
        tmp_path / "run",
        model={"text": {"encoder": str(encoders["roberta"])}},
    )
    with pytest.raises(DataError, match=r"another tokenizer: build shards with text.tokenizer="):
        train(parse(ExperimentConfig, raw, "the test"))


def test_lines_longer_than_the_positions_are_found_before_training(
    tiny, lab, make_settings, tmp_path
):
    """Whichever batch the longest line comes in: no step is made."""
    branch = lab.text_branch()
    branch["build"]["positions"] = 5
    raw = make_settings(tiny, tmp_path / "run", model={"text": branch}, train__global_batch=1)
    with pytest.raises(ModelError, match=r"positions for 5 only: .*text\.max_tokens=5 and an"):
        train(parse(ExperimentConfig, raw, "the test"))
    assert not (tmp_path / "run" / "log.jsonl").exists()
