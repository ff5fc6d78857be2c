"""The one module: its parts, freezing, hand-over of weights, and being rebuilt."""

import json
import subprocess
import sys

import pytest
import torch

from emo.models.branch import ModelError
from emo.models.config import ModelConfig
from emo.models.losses.cross_entropy import emotion_loss
from emo.models.model import EmotionModel, rebuild
from shards.configfile import ConfigError, parse

TEXT = {"build": {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 16, "positions": 20}}
AUDIO = {"channels": [4, 4, 8], "hidden": 12}
KINDS = {
    "text": {"text": TEXT},
    "audio": {"audio": AUDIO},
    "paper": {"text": TEXT, "audio": AUDIO, "fusion": {"kind": "paper"}},
    "gated": {"text": TEXT, "audio": AUDIO, "fusion": {"kind": "gated", "hidden": 8}},
    "cross_attention": {
        "text": TEXT, "audio": AUDIO, "fusion": {"kind": "cross_attention", "hidden": 8, "heads": 2}
    },
}  # fmt: skip
FUSED = ("paper", "gated", "cross_attention")
MASKS = ("audio_mask", "token_mask")


def model(kind, seed=0, **changes):
    torch.manual_seed(seed)
    config = parse(ModelConfig, KINDS[kind] | changes, where="test")
    return EmotionModel(config, classes=5, sizes={"text": 60, "audio": 24})


def backward(built, batch):
    target = torch.eye(5)[torch.tensor([0, 1, 2, 3])]
    loss = emotion_loss(built(batch), target, torch.ones(4))
    loss.backward()
    return loss.item()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_gradients_for_every_weight_that_trains(kind, batch):
    built = model(kind)
    assert built(batch).shape == (4, 5)
    backward(built, batch)
    without = [
        name
        for name, parameter in built.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_a_batch_are_independent(kind, batch):
    built = model(kind).double().eval()
    batch = batch | {"audio": batch["audio"].double()}
    whole = built(batch)
    parts = [built({key: value[rows] for key, value in batch.items()})
             for rows in (slice(0, 1), slice(1, 4))]  # fmt: skip
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)


def test_kinds_name_the_parts(checkpoints):
    assert model("gated").kinds() == {"text": "bert", "audio": "cnn", "fusion": "gated"}
    assert model("text", text={"encoder": str(checkpoints["roberta"])}).kinds() == {
        "text": "roberta"
    }


@pytest.mark.parametrize("kind", FUSED)
def test_a_missing_modality_equals_one_that_is_masked(kind, batch):
    built = model(kind).eval()
    for name, keys in (
        ("audio", ("audio", "audio_mask")),
        ("text", ("tokens", "token_mask")),
    ):
        without = {key: value for key, value in batch.items() if key not in keys}
        masked = batch | {keys[1]: torch.zeros_like(batch[keys[1]])}
        torch.testing.assert_close(built(without), built(masked))
        assert built(without).isfinite().all(), name
    with pytest.raises(ModelError, match="reads text and audio"):
        built({"label": torch.zeros(4)})


@pytest.mark.parametrize("kind", FUSED)
def test_modality_dropout_acts_in_training_alone(kind, batch):
    """Every row then says what it would with both, with the text alone, or with the audio alone."""
    fusion = KINDS[kind]["fusion"] | {"modality_dropout": 0.6, "dropout": 0.0}
    if kind == "paper":
        del fusion["dropout"]
    built = model(kind, fusion=fusion, freeze=["text", "audio"]).train()
    possible = [built.eval()(batch)] + [
        built(batch | {mask: torch.zeros_like(batch[mask])}) for mask in MASKS
    ]
    assert torch.equal(built(batch), possible[0])
    built.train()
    seen = set()
    for _ in range(20):
        logits = built(batch)
        for row in range(4):
            near = [torch.allclose(logits[row], one[row], atol=1e-5) for one in possible]
            assert any(near)
            seen.add(near.index(True))
    assert seen == {0, 1, 2}


def test_a_single_branch_without_its_input_is_an_error(batch):
    with pytest.raises(ModelError, match="reads audio"):
        model("audio")({"tokens": batch["tokens"], "token_mask": batch["token_mask"]})


def test_frozen_parts_stay_as_they_are(batch):
    built = model("paper", freeze=["text", "audio"]).train()
    assert not built.text.training
    assert not any(module.training for module in built.audio.modules())
    assert built.fusion.training
    assert {n for n, p in built.named_parameters() if p.requires_grad} == {
        f"fusion.linear.{name}.{part}" for name in ("text", "audio") for part in ("weight", "bias")
    }
    assert torch.equal(built.text(batch["tokens"], batch["token_mask"]).logits_BC,
                       built.text(batch["tokens"], batch["token_mask"]).logits_BC)  # fmt: skip
    before = {name: value.clone() for name, value in built.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in built.parameters() if p.requires_grad], lr=0.1)
    first = backward(built, batch)
    optimizer.step()
    assert backward(built, batch) < first
    changed = {name for name, value in built.state_dict().items() if not value.equal(before[name])}
    assert changed == {name for name in before if name.startswith("fusion.")}
    assert not built.eval().fusion.training


def test_fusion_takes_the_trained_branches(batch):
    text, audio, both = model("text", 1), model("audio", 2), model("paper", 3)
    both.load_branch("text", text.state_dict())
    both.load_branch("audio", audio.state_dict())
    for built in (text, audio, both):
        built.eval()
    outputs = both.branch_outputs(batch)
    torch.testing.assert_close(outputs["text"].logits_BC, text(batch))
    torch.testing.assert_close(outputs["audio"].logits_BC, audio(batch))


def test_weights_that_are_not_the_branchs_are_listed():
    both = model("paper")
    other = model("audio", audio=AUDIO | {"hidden": 13}).state_dict()
    with pytest.raises(ModelError, match=r"audio.hidden.weight is \(13, 24\), wanted \(12, 24\)"):
        both.load_branch("audio", other)
    state = model("text").state_dict()
    del state["text.head.bias"]
    state["text.extra"] = torch.zeros(1)
    with pytest.raises(ModelError, match=r"2 problems.*\n.*extra is not in.*\n.*bias is missing"):
        both.load_branch("text", state)
    with pytest.raises(ModelError, match="problems"):
        both.load_branch("audio", model("text").state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_rebuilt_from_its_description(kind, batch):
    built = model(kind).eval()
    again = rebuild(json.loads(json.dumps(built.describe()))).eval()
    again.load_state_dict(built.state_dict())
    assert torch.equal(again(batch), built(batch))


def test_a_pretrained_encoder_is_rebuilt_without_its_folder(checkpoints, batch, tmp_path):
    folder = tmp_path / "encoder"
    folder.symlink_to(checkpoints["roberta"])
    built = model("text", text={"encoder": str(folder)}).eval()
    folder.unlink()
    description = json.loads(json.dumps(built.describe()))
    again = rebuild(description).eval()
    again.load_state_dict(built.state_dict())
    assert torch.equal(again(batch), built(batch))
    assert str(checkpoints["roberta"]) not in json.dumps(description)


def test_a_damaged_description_names_its_keys():
    description = model("audio").describe()
    description["model"]["audio"]["chanels"] = [3]
    with pytest.raises(ConfigError, match="did you mean 'channels'"):
        rebuild(description)


@pytest.mark.parametrize("kind", ["text", "audio", "paper"])
def test_half_precision(kind, batch):
    built = model(kind).bfloat16().eval()
    logits = built(batch)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(kind).eval()(batch), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a branch"),
        ({"text": TEXT, "audio": AUDIO}, "need fusion"),
        ({"audio": AUDIO, "fusion": {"kind": "paper"}}, "more than one branch"),
        ({"audio": AUDIO, "freeze": ["text"]}, "the model has only audio"),
        ({"audio": AUDIO, "freeze": ["audio"]}, "leaves nothing to train"),
        ({"audio": AUDIO, "freeze": ["adio"]}, "did you mean 'audio'"),
        ({"audio": {"kind": "speech_encodr", "encoder": "x"}}, "did you mean 'speech_encoder'"),
        ({"context": {"kind": "icon", "modalities": ["txet"]}}, "did you mean 'text'"),
        ({"context": {"kind": "icn", "modalities": ["text"]}}, "did you mean 'icon'"),
        (KINDS["paper"] | {"fusion": {"kind": "gate"}}, "did you mean 'gated'"),
        (KINDS["paper"] | {"fusion": {"kind": "concat"}}, "'paper', 'gated' or 'cross_attention'"),
        (
            KINDS["cross_attention"] | {"fusion": {"kind": "cross_attention", "heads": 5}},
            "multiple",
        ),
        (
            KINDS["cross_attention"] | {"audio": {"kind": "dnn_elm"}, "freeze": ["audio"]},
            "no frames",
        ),
        (KINDS["paper"] | {"fusion": {"kind": "paper", "modality_dropout": 1.0}}, "less than 1"),
        (KINDS["paper"] | {"fusion": {"kind": "paper", "scal": 1}}, "did you mean 'scale'"),
    ],
)
def test_parts_that_do_not_fit(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse(ModelConfig, settings, where="test")


def test_configurations_load_without_torch():
    code = "import sys, emo.models.config, emo.training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
