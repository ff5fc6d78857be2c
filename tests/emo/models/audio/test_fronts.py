"""Encoders beside wav2vec 2.0 and its kin: they hear what their own extractors give them."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from emo.models.branch import ModelError
from tests.emo.models.audio.loaded import four_clips, loaded

CONVOLUTIONS = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": (8, 8, 12), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 3, "num_conv_pos_embedding_groups": 2, "conv_pos_kernel_size": 5,
}  # fmt: skip
LAYERS = {"whisper": 3, "w2v-bert": 3, "data2vec": 4, "unispeech-sat": 4}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of tiny models as they are published; Whisper has positions for 1 s."""
    folder = tmp_path_factory.mktemp("encoders")
    made = {
        "whisper": (
            transformers.WhisperModel(
                transformers.WhisperConfig(
                    d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24,
                    decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=24,
                    max_source_positions=50, num_mel_bins=80, vocab_size=60, pad_token_id=0,
                    bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, encoder_layerdrop=0.4,
                    begin_suppress_tokens=None, suppress_tokens=None,
                )
            ),
            transformers.WhisperFeatureExtractor(chunk_length=1),
        ),
        "w2v-bert": (
            transformers.Wav2Vec2BertModel(
                transformers.Wav2Vec2BertConfig(
                    hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                    intermediate_size=24, mask_time_prob=0.5, layerdrop=0.3,
                )
            ),
            transformers.SeamlessM4TFeatureExtractor(),
        ),
        "data2vec": (
            transformers.Data2VecAudioModel(transformers.Data2VecAudioConfig(**CONVOLUTIONS)),
            transformers.Wav2Vec2FeatureExtractor(),
        ),
        "unispeech-sat": (
            transformers.UniSpeechSatModel(transformers.UniSpeechSatConfig(**CONVOLUTIONS)),
            transformers.Wav2Vec2FeatureExtractor(),
        ),
    }  # fmt: skip
    for name, (model, extractor) in made.items():
        model.save_pretrained(folder / name)
        extractor.save_pretrained(folder / name)
    return {name: folder / name for name in made}


def clips():
    """Four clips of several lengths and levels, one hardly a frame long, padded with noise."""
    return four_clips(9000, 12001, 100, 6060)


@pytest.mark.parametrize("name", LAYERS)
def test_hears_what_transformers_hears(encoders, name):
    """Of one clip, preprocessed by the checkpoint's own extractor: every layer is the same."""
    wave = clips()[0][0, :9000]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(encoders[name])
    values = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    values.pop("decoder_input_ids", None)
    reference = transformers.AutoModel.from_pretrained(encoders[name]).eval()
    reference = reference.get_encoder() if name == "whisper" else reference
    branch = loaded(encoders[name])
    with torch.no_grad():
        found = reference(**values, output_hidden_states=True)
        got, frames = branch.listen(wave[None], torch.ones(1, 9000, dtype=torch.bool))
    expected = (*found.hidden_states[:-1], found.last_hidden_state)
    assert len(got) == len(expected) == LAYERS[name]
    assert branch.layer_weights.shape == (LAYERS[name],)
    count = int(frames.sum())
    assert count == (28 if name == "whisper" else got[0].shape[1])
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours[:, :count] - theirs[:, :count]).abs().max() < 1e-4


@pytest.mark.parametrize("name", LAYERS)
def test_padding_changes_nothing_and_gradients_reach_the_encoder(encoders, name):
    waves, mask = clips()
    branch = loaded(encoders[name], tune="everything")
    expected = branch(waves, mask).logits_BC
    assert (expected[0] - expected[1:]).abs().max(1).values.min() > 1e-5  # clips are told apart
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = branch(waves[row : row + 1, :length], mask[row : row + 1, :length]).logits_BC
        torch.testing.assert_close(alone[0], expected[row], rtol=0, atol=1e-5)
    longer = nn.functional.pad(waves, (0, 5555), value=5.0)  # anything may stand there
    got = branch(longer, nn.functional.pad(mask, (0, 5555))).logits_BC
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    branch.train()
    branch(waves, mask).logits_BC.square().sum().backward()
    lost = [key for key, p in branch.named_parameters() if p.requires_grad and p.grad is None]
    assert not lost, "DDP would wait for these for ever"


def test_whisper_hears_no_further_than_its_positions(encoders):
    branch = loaded(encoders["whisper"])
    wave = torch.randn(1, 24000, generator=torch.Generator().manual_seed(0))
    whole = torch.ones(1, 24000, dtype=torch.bool)
    layers, frames = branch.listen(wave, whole)
    assert frames.shape == layers[0].shape[:2] == (1, 50)
    assert frames.all()
    other = torch.cat([wave[:, :16000], -wave[:, 16000:]], dim=1)
    torch.testing.assert_close(branch.listen(other, whole)[0][-1], layers[-1])


def test_no_decoder_and_the_lower_half_is_left_alone(encoders):
    branch = loaded(encoders["whisper"], tune="transformer", frozen_layers=1)
    assert not any("decoder" in name for name, _ in branch.named_parameters())
    trained = {name for name, p in branch.encoder.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith(("layers.1.", "layer_norm.")) for name in trained)
    with pytest.raises(ModelError, match=r"model\.audio\.frozen_layers=2: the encoder has 2"):
        loaded(encoders["whisper"], tune="transformer", frozen_layers=2)


def test_what_cannot_be_read_is_refused_by_name(tmp_path):
    bert = transformers.BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(bert).save_pretrained(tmp_path / "text")
    with pytest.raises(ModelError, match="is a bert which reads neither waveforms"):
        loaded(tmp_path / "text")
    conformer = transformers.Wav2Vec2ConformerConfig(**CONVOLUTIONS)
    transformers.Wav2Vec2ConformerModel(conformer).save_pretrained(tmp_path / "conformer")
    with pytest.raises(ModelError, match="batch normalisation"):
        loaded(tmp_path / "conformer")


def test_features_of_silence_are_finite(encoders):
    for name in ("whisper", "w2v-bert"):
        branch = loaded(encoders[name])
        mask = torch.arange(8000)[None] < torch.tensor([[8000], [0]])
        assert np.isfinite(branch(torch.zeros(2, 8000), mask).logits_BC.detach().numpy()).all()
