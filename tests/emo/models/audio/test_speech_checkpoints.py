"""Checkpoints of speech encoders in the shapes in which they are published, and what is refused."""

import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from emo.models.audio.speech_encoder import SpeechBranch
from emo.models.branch import ModelError
from tests.emo.models.audio.loaded import loaded

BASE = ("wav2vec2", "hubert", "wavlm")


@pytest.fixture
def clips():
    """Two clips of unlike lengths, padded with noise."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.arange(900)[None] < torch.tensor([700, 900])[:, None]
    return 0.2 * torch.randn(2, 900, generator=generator), mask


@pytest.fixture
def spoil(speech_checkpoints, tmp_path):
    """`spoil(change)`: the wav2vec 2.0 checkpoint with its weights changed in place."""

    def make(change):
        folder = tmp_path / "spoilt"
        shutil.copytree(speech_checkpoints["wav2vec2"], folder)
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


@pytest.mark.parametrize("name", BASE)
def test_old_names_of_weights_and_restricted_pickles_load(
    speech_checkpoints, name, tmp_path, clips
):
    """As the base models are published: `weight_g` and `weight_v`, in pytorch_model.bin."""
    folder = tmp_path / "old"
    shutil.copytree(speech_checkpoints[name], folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    convolution = ("wav2vec2." if name == "wav2vec2" else "") + "encoder.pos_conv_embed.conv"
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        weights[f"{convolution}.{old}"] = weights.pop(
            f"{convolution}.parametrizations.weight.{new}"
        )
    torch.save(weights, folder / "pytorch_model.bin")
    expected = loaded(speech_checkpoints[name])(*clips).logits_BC
    assert torch.equal(loaded(folder)(*clips).logits_BC, expected)


def test_a_checkpoint_without_the_masking_vector_loads(spoil):
    loaded(spoil(lambda weights: weights.pop("wav2vec2.masked_spec_embed")))


def test_missing_weights_are_listed(spoil):
    name = "encoder.layers.1.attention.k_proj.weight"
    with pytest.raises(ModelError, match=rf"model.audio.encoder: .*\n  missing \(1\): {name}"):
        loaded(spoil(lambda weights: weights.pop(f"wav2vec2.{name}")))


def test_half_a_weight_norm_is_missing(spoil):
    key = "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0"
    with pytest.raises(ModelError, match=r"missing \(1\): encoder.pos_conv_embed"):
        loaded(spoil(lambda weights: weights.pop(key)))


def test_left_over_and_misshapen_weights_are_listed(spoil):
    def deepen(weights):
        weights["wav2vec2.encoder.layers.3.layer_norm.weight"] = torch.zeros(16)
        weights["wav2vec2.feature_projection.projection.bias"] = torch.zeros(17)

    with pytest.raises(ModelError) as caught:
        loaded(spoil(deepen))
    assert "feature_projection.projection.bias: (17,) in the file, (16,) in" in str(caught.value)
    assert "not in the model (1): wav2vec2.encoder.layers.3.layer_norm.weight" in str(caught.value)


def test_under_zero_3_an_encoder_is_loaded_whole(speech_checkpoints, clips):
    """transformers would cut it into shards while it builds it, and fail at the weight norm."""
    from transformers.integrations import deepspeed as integration

    folder = speech_checkpoints["wav2vec2"]
    expected = loaded(folder)(*clips).logits_BC
    settings = {"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1}
    held = integration.HfDeepSpeedConfig(settings)
    try:
        assert integration.is_deepspeed_zero3_enabled()
        model = loaded(folder)
        assert integration.is_deepspeed_zero3_enabled()  # the rest is still DeepSpeed's
        again = SpeechBranch(model.config, 5, architecture=model.describe())
    finally:
        integration.unset_hf_deepspeed_config()
        del held
    assert torch.equal(model(*clips).logits_BC, expected)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(*clips).logits_BC, expected)


def test_other_encoders_are_refused(checkpoints, tmp_path):
    with pytest.raises(ModelError, match=r"is a bert which reads neither waveforms"):
        loaded(checkpoints["bert"])
    with pytest.raises(ModelError, match=r"model.audio.encoder: there is no folder /no/such"):
        loaded("/no/such/folder")
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,), conv_kernel=(10,), conv_stride=(5,), num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2, add_adapter=True,
    )  # fmt: skip
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="with an adapter"):
        loaded(tmp_path)
