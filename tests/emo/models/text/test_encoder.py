"""The text branch over real checkpoints from disk, and what is refused."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from emo.models.branch import ModelError
from emo.models.losses.cross_entropy import emotion_loss
from emo.models.text.config import SmallBertConfig, TextBranchConfig
from emo.models.text.encoder import TextBranch
from shards.configfile import ConfigError, parse

VOCABULARY = 60


def loaded(folder, **settings):
    config = TextBranchConfig(encoder=str(folder), **settings)
    return TextBranch(config, 5, VOCABULARY).eval()


def small(vocabulary=VOCABULARY, **settings):
    sizes = SmallBertConfig(hidden=32, layers=2, heads=2, intermediate=48, positions=20)
    torch.manual_seed(0)
    return TextBranch(TextBranchConfig(build=sizes, **settings), 5, vocabulary).eval()


@pytest.fixture
def lines():
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([8, 2, 5])
    mask = torch.arange(8)[None] < lengths[:, None]
    return torch.randint(5, VOCABULARY, (3, 8), generator=generator) * mask, mask


@pytest.fixture
def spoil(checkpoints, tmp_path):
    """Copies the BERT checkpoint with its weights changed by a function of their dict."""

    def make(change):
        folder = tmp_path / "encoder"
        shutil.copytree(checkpoints["bert"], folder)
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_the_weights_are_the_checkpoints(checkpoints, name, lines):
    """The vector of the first place equals the one that transformers itself computes."""
    tokens, mask = lines
    reference = transformers.AutoModel.from_pretrained(checkpoints[name]).eval()
    padding = reference.config.pad_token_id
    ids = tokens.masked_fill(~mask, padding)
    expected = reference(input_ids=ids, attention_mask=mask.long()).last_hidden_state[:, 0]
    got = loaded(checkpoints[name])(tokens, mask).vector_BD
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["bert", "roberta", "small"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_nothing(checkpoints, name, pooling, lines):
    tokens, mask = lines
    model = (
        small(pooling=pooling) if name == "small" else loaded(checkpoints[name], pooling=pooling)
    )
    expected = model(tokens, mask).logits_BC
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = model(tokens[row : row + 1, :length], mask[row : row + 1, :length]).logits_BC
        torch.testing.assert_close(alone[0], expected[row], rtol=0, atol=1e-5)
    longer = torch.nn.functional.pad(tokens, (0, 7), value=-1)  # anything may stand there
    got = model(longer, torch.nn.functional.pad(mask, (0, 7))).logits_BC
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_rows_without_text_are_finite_and_say_so(lines, pooling):
    tokens, mask = lines
    model = small(pooling=pooling).train()
    mask = mask.clone()
    mask[1] = False
    evidence = model(tokens, mask)
    evidence.logits_BC.sum().backward()
    assert evidence.present_B.tolist() == [True, False, True]
    assert torch.equal(evidence.logits_BC[1], model.head.bias)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["bert", "roberta", "small"])
def test_every_weight_is_used(checkpoints, name, lines):
    """An unused one would make DDP wait for ever."""
    model = (small() if name == "small" else loaded(checkpoints[name])).train()
    model(*lines).logits_BC.sum().backward()
    assert [n for n, parameter in model.named_parameters() if parameter.grad is None] == []
    assert not any("pooler" in name for name in model.state_dict())


def test_missing_weights_are_listed(spoil):
    folder = spoil(lambda weights: weights.pop("bert.encoder.layer.1.output.dense.weight"))
    with pytest.raises(ModelError, match=r"missing \(1\): encoder.layer.1.output.dense.weight"):
        loaded(folder)


def test_left_over_weights_of_the_encoder_are_listed(spoil):
    def deepen(weights):
        weights["bert.encoder.layer.2.output.dense.weight"] = torch.zeros(16, 24)

    with pytest.raises(ModelError, match=r"not in the model \(1\): bert.encoder.layer.2"):
        loaded(spoil(deepen))


def test_weights_of_another_shape_are_listed(spoil):
    def widen(weights):
        weights["bert.embeddings.word_embeddings.weight"] = torch.zeros(70, 16)

    with pytest.raises(ModelError, match=r"word_embeddings.weight: \(70, 16\) in the file"):
        loaded(spoil(widen))


def test_weights_of_something_else_altogether(spoil):
    def replace(weights):
        weights.clear()
        weights["conv1.weight"] = torch.zeros(3)

    with pytest.raises(ModelError, match=r"missing \(\d+\): .* and \d+ more"):
        loaded(spoil(replace))


def test_damaged_and_absent_files(checkpoints, tmp_path):
    with pytest.raises(ModelError, match=r"model.text.encoder: there is no folder /no/such"):
        loaded("/no/such/folder")
    shutil.copytree(checkpoints["bert"], tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load"):
        loaded(tmp_path / "cut")
    weights.unlink()
    with pytest.raises(ModelError, match="cannot load"):
        loaded(tmp_path / "cut")


class Opener:
    """What a pickle would run when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickled_and_remote_code_is_refused(checkpoints, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(checkpoints["bert"], folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")  # tensors alone: torch's restricted loader
    assert loaded(folder).width == 16
    torch.save(weights | {"more": Opener(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot load"):
        loaded(folder)

    folder = tmp_path / "code"
    shutil.copytree(checkpoints["bert"], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match="cannot load"):
        loaded(folder)
    assert not (tmp_path / "ran").exists()


def test_quantised_weights_are_refused_in_words(tmp_path):
    config = {"model_type": "bert", "quantization_config": {"quant_method": "bitsandbytes"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match=r"are quantised \(bitsandbytes\), and training needs them"
    ):
        TextBranch(TextBranchConfig(encoder=str(tmp_path)), 4, 100)


def test_a_half_precision_checkpoint_is_trained_in_single(checkpoints, tmp_path):
    transformers.BertModel.from_pretrained(checkpoints["bert"]).half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in loaded(tmp_path).parameters()} == {torch.float32}


def test_a_tokenizer_larger_than_the_encoder_is_refused(checkpoints):
    config = TextBranchConfig(encoder=str(checkpoints["bert"]))
    with pytest.raises(ModelError, match="has 61 entries, the encoder only 60"):
        TextBranch(config, 5, VOCABULARY + 1)


@pytest.mark.parametrize(("name", "longest"), [("bert", 20), ("roberta", 18), ("small", 20)])
def test_lines_longer_than_the_positions_are_refused(checkpoints, name, longest):
    model = small() if name == "small" else loaded(checkpoints[name])
    ones = torch.ones(1, longest + 1, dtype=torch.bool)
    assert model(ones[:, 1:].long() * 7, ones[:, 1:]).logits_BC.isfinite().all()
    with pytest.raises(ModelError, match=f"{longest + 1} tokens, but .* positions for {longest}"):
        model(ones.long() * 7, ones)


def test_activation_checkpointing_gives_the_same_gradients(lines):
    gradients = []
    for flag in (False, True):
        model = small(activation_checkpointing=flag).train()
        torch.manual_seed(7)  # the same dropout
        model(*lines).logits_BC.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_small_bert_learns_which_words_mean_what():
    """Lines of 4 to 9 words out of 60, one of which tells the class."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 5, (600,), generator=generator)
    lengths = torch.randint(5, 11, (600,), generator=generator)
    mask = torch.arange(10)[None] < lengths[:, None]
    tokens = torch.randint(30, 60, (600, 10), generator=generator)
    tokens[:, 0] = 2
    place = (torch.rand(600, generator=generator) * (lengths - 1)).long() + 1
    cue = 5 + label * 5 + torch.randint(0, 5, (600,), generator=generator)
    tokens[torch.arange(600), place] = cue
    tokens = tokens * mask

    model = small(pooling="mean").train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(120):
        rows = torch.randint(0, 500, (32,), generator=generator)
        logits = model(tokens[rows], mask[rows]).logits_BC
        loss = emotion_loss(logits, torch.eye(5)[label[rows]], torch.ones(32)) / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        del step
    model.eval()
    predicted = model(tokens[500:], mask[500:]).logits_BC.argmax(1)
    assert (predicted == label[500:]).float().mean() > 0.95


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either encoder .* or build"),
        ({"encoder": "bert-base-cased", "build": {}}, "either encoder .* or build"),
        ({"build": {"hidden": 30, "heads": 4}}, "multiple of heads"),
        ({"build": {"hiden": 30}}, "did you mean 'hidden'"),
        ({"encoder": "x", "pooling": "max"}, "pooling"),
    ],
)
def test_settings_that_make_no_branch(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse(TextBranchConfig, settings, where="test")
