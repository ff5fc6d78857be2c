"""The speech encoders over real checkpoints from disk: what they hear, and what they learn."""

import json
import shutil

import pytest
import torch
import transformers
from torch import nn

from emo.models.audio.config import SpeechEncoderConfig
from emo.models.audio.fronts import ClipNorm
from emo.models.branch import ModelError
from emo.models.config import ModelConfig
from emo.models.model import EmotionModel, rebuild
from shards.configfile import ConfigError, parse
from tests.emo.models.audio.loaded import four_clips, loaded

NAMES = ("wav2vec2", "wav2vec2-large", "hubert", "wavlm", "wavlm-large")
BASE = ("wav2vec2", "hubert", "wavlm")  # their convolutions normalise over time


@pytest.fixture
def clips():
    """Four clips of several lengths and levels, one a single frame long, padded with noise."""
    return four_clips(700, 1200, 45, 333)


@pytest.mark.parametrize("name", NAMES)
def test_hears_what_transformers_hears(speech_checkpoints, name, clips):
    """Of one clip, preprocessed by the checkpoint's own extractor: every layer is the same."""
    folder = speech_checkpoints[name]
    wave = clips[0][0, :700]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    values = extractor(wave.numpy(), sampling_rate=8000, return_tensors="pt").input_values
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        found = reference(values, output_hidden_states=True)
        expected = (*found.hidden_states[:-1], found.last_hidden_state)
        got, frames = loaded(folder).listen(wave[None], torch.ones(1, 700, dtype=torch.bool))
    assert len(got) == len(expected) == 4
    assert frames.shape == got[0].shape[:2]
    assert frames.all()
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("tune", ["nothing", "everything"])
@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing(speech_checkpoints, name, tune, clips):
    waves, mask = clips
    model = loaded(speech_checkpoints[name], tune=tune)
    expected = model(waves, mask).logits_BC
    assert (expected[0] - expected[1:]).abs().max(1).values.min() > 1e-4  # clips are told apart
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = model(waves[row : row + 1, :length], mask[row : row + 1, :length]).logits_BC
        torch.testing.assert_close(alone[0], expected[row], rtol=0, atol=1e-5)
    longer = nn.functional.pad(waves, (0, 999), value=5.0)  # anything may stand there
    got = model(longer, nn.functional.pad(mask, (0, 999))).logits_BC
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BASE)
def test_the_published_group_norm_would_see_the_padding(speech_checkpoints, name, clips):
    waves, mask = clips
    model = loaded(speech_checkpoints[name])
    expected = model(waves, mask).logits_BC
    first = model.encoder.feature_extractor.conv_layers[0]
    assert isinstance(first.layer_norm, ClipNorm)
    plain = nn.GroupNorm(8, 8)
    plain.load_state_dict(first.layer_norm.state_dict())
    first.layer_norm = plain
    assert (model(waves, mask).logits_BC - expected).abs().max() > 1e-3
    whole = torch.ones(1, 700, dtype=torch.bool)  # with no padding they are one
    alone = model(waves[:1, :700], whole).logits_BC
    torch.testing.assert_close(alone[0], expected[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tune", ["nothing", "everything"])
def test_rows_without_sound_are_finite_and_say_so(speech_checkpoints, name, tune, clips):
    waves, mask = clips
    mask = mask.clone()
    mask[1] = False
    model = loaded(speech_checkpoints[name], tune=tune).train()
    evidence = model(waves, mask)
    evidence.logits_BC.sum().backward()
    assert evidence.present_B.tolist() == [True, False, True, True]
    assert evidence.logits_BC.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    nothing = model(waves[:, :3], torch.zeros(4, 3, dtype=torch.bool))  # less than one frame
    assert nothing.logits_BC.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tune", ["nothing", "transformer", "everything"])
def test_every_weight_that_learns_is_used(speech_checkpoints, name, tune, clips):
    """An unused one would make DDP wait for ever; no LayerDrop, whatever the checkpoint says."""
    model = loaded(speech_checkpoints[name], tune=tune).train()
    for _ in range(5):
        model.zero_grad()
        model(*clips).logits_BC.square().sum().backward()
        learning = {n for n, p in model.named_parameters() if p.requires_grad}
        assert {n for n, p in model.named_parameters() if p.grad is not None} == learning
    convolutions = {n for n in learning if n.startswith("encoder.feature_extractor")}
    encoder = {n for n in learning if n.startswith("encoder.")}
    assert bool(encoder) == (tune != "nothing")
    assert bool(convolutions) == (tune == "everything")
    assert "layer_weights" in learning


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_encoder_says_the_same_in_training(speech_checkpoints, name, clips):
    model = loaded(speech_checkpoints[name], dropout=0.0)
    quiet = model(*clips).logits_BC
    model.train()
    assert torch.equal(model(*clips).logits_BC, quiet)
    assert not model.encoder.training
    tuned = loaded(speech_checkpoints[name], dropout=0.0, tune="everything").train()
    assert tuned.encoder.training
    assert not torch.equal(tuned(*clips).logits_BC, quiet)  # its own dropout


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm-large"])
@pytest.mark.parametrize("tune", ["nothing", "everything"])
def test_tokens_attend_to_its_frames(speech_checkpoints, name, tune, clips):
    """In a fusion by cross-attention: padding changes nothing, every weight that learns is used."""
    audio = SpeechEncoderConfig(
        kind="speech_encoder", encoder=str(speech_checkpoints[name]), tune=tune
    )
    sizes = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 16, "positions": 20}
    raw = {"text": {"build": sizes}, "audio": audio.model_dump(),
           "fusion": {"kind": "cross_attention", "hidden": 8, "heads": 2}}  # fmt: skip
    torch.manual_seed(0)
    model = EmotionModel(parse(ModelConfig, raw, "test"), classes=5, sizes={"text": 60})
    waves, mask = clips
    batch = {"audio": waves, "audio_mask": mask, "tokens": torch.randint(5, 60, (4, 6)),
             "token_mask": torch.ones(4, 6) > 0}  # fmt: skip
    model(batch).square().sum().backward()
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in model.named_parameters() if p.grad is not None} == learning
    assert "audio.layer_weights" in learning
    assert "audio.hidden.weight" not in learning
    model.eval()
    longer = batch | {
        "audio": nn.functional.pad(waves, (0, 500), value=3.0),
        "audio_mask": nn.functional.pad(mask, (0, 500)),
    }
    torch.testing.assert_close(model(longer), model(batch), rtol=0, atol=1e-5)


def test_the_layer_weights_choose_layers(speech_checkpoints, clips):
    waves, mask = clips
    model = loaded(speech_checkpoints["hubert"])
    layers, frames = model.listen(waves, mask)
    for chosen, states in enumerate(layers):
        with torch.no_grad():
            model.layer_weights.fill_(-100.0)[chosen] = 100.0
            mean = torch.stack([s[f].mean(0) for s, f in zip(states, frames, strict=True)])
            expected = nn.functional.leaky_relu(model.hidden(mean), 0.01)
            torch.testing.assert_close(model(waves, mask).vector_BD, expected)


def test_normalisation_follows_the_checkpoint_unless_told_otherwise(
    speech_checkpoints, clips, tmp_path
):
    waves, mask = clips

    def hears_level(folder, **settings):
        model = loaded(folder, **settings)
        louder = model(waves * 3, mask).logits_BC
        return not torch.allclose(louder, model(waves, mask).logits_BC, rtol=0, atol=1e-3)

    large = speech_checkpoints["wav2vec2-large"]  # group norm would hide the level by itself
    assert not hears_level(large)
    assert hears_level(large, normalise=False)
    other = tmp_path / "other"
    shutil.copytree(large, other)
    file = other / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_normalize": False}))
    assert hears_level(other)
    file.unlink()  # transformers' defaults
    assert not hears_level(other)
    file.write_text("{")
    with pytest.raises(ModelError, match=r"cannot read the preprocessor_config.json"):
        loaded(other)


@pytest.mark.parametrize("name", NAMES)
def test_a_description_rebuilds_the_branch_without_the_checkpoint(
    speech_checkpoints, name, clips, tmp_path
):
    folder = tmp_path / "moved"
    shutil.copytree(speech_checkpoints[name], folder)
    config = ModelConfig(audio=SpeechEncoderConfig(kind="speech_encoder", encoder=str(folder)))
    model = EmotionModel(config, classes=5, sizes={}).eval()
    description = json.loads(json.dumps(model.describe()))
    shutil.rmtree(folder)
    again = rebuild(description)
    again.load_state_dict(model.state_dict())
    batch = dict(zip(("audio", "audio_mask"), clips, strict=True))
    assert torch.equal(again.eval()(batch), model(batch))


def test_activation_checkpointing_gives_the_same_gradients(speech_checkpoints, clips):
    gradients = []
    for flag in (False, True):
        model = loaded(
            speech_checkpoints["wav2vec2"], tune="everything", activation_checkpointing=flag
        ).train()
        torch.manual_seed(7)  # the same dropout
        model(*clips).logits_BC.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", BASE)
def test_other_precisions(speech_checkpoints, name, dtype, clips):
    waves, mask = clips
    expected = loaded(speech_checkpoints[name])(waves, mask).logits_BC
    got = loaded(speech_checkpoints[name]).to(dtype)(waves.to(dtype), mask).logits_BC
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), expected, rtol=0.1, atol=0.1)


def test_clip_norm_is_the_norm_of_each_clip():
    norm = ClipNorm(3, 3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    plain = nn.GroupNorm(3, 3)
    plain.load_state_dict(norm.state_dict())
    x = torch.randn(3, 3, 11)
    norm.frames_B = torch.tensor([11, 4, 7])
    got = norm(x.clone())
    for row, frames in enumerate((11, 4, 7)):
        torch.testing.assert_close(got[row, :, :frames], plain(x[row : row + 1, :, :frames])[0])


def test_clip_norm_counts_further_than_half_precision():
    """21 s at 16 kHz are 67,199 frames behind the first convolution; float16 ends at 65,504."""
    norm = ClipNorm(2, 2)
    norm.frames_B = torch.tensor([67_199])
    x = 3.0 + torch.randn(1, 2, 67_199)
    expected = norm(x.clone())
    got = norm.half()(x.half())
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "encoder"),
        ({"encoder": "x", "tune": "all"}, "tune"),
        ({"encoder": "x", "hiden": 3}, "did you mean 'hidden'"),
    ],
)
def test_settings_that_make_no_branch(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse(SpeechEncoderConfig, {"kind": "speech_encoder", **settings}, where="test")
