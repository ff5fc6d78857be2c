"""Batches, and tiny checkpoints saved the way a user's would be."""

import pytest
import torch
import transformers

VOCABULARY = 60
FEATURES = 24
CLASSES = 5


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def batch():
    """Four rows of several lengths, both modalities, padded with zeros."""
    generator = torch.Generator().manual_seed(1)
    frames, tokens = torch.tensor([33, 1, 18, 7]), torch.tensor([9, 2, 5, 7])
    audio_mask = torch.arange(33)[None] < frames[:, None]
    token_mask = torch.arange(9)[None] < tokens[:, None]
    return {
        "audio": torch.randn(4, 33, FEATURES, generator=generator) * audio_mask[..., None],
        "audio_mask": audio_mask,
        "tokens": torch.randint(5, VOCABULARY, (4, 9), generator=generator) * token_mask,
        "token_mask": token_mask,
    }


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folders of a BERT with its pretraining heads and of a RoBERTa without a pooler."""
    folder = tmp_path_factory.mktemp("encoders")
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 20,
    }
    torch.manual_seed(0)
    bert = transformers.BertForPreTraining(transformers.BertConfig(**sizes))
    roberta = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**sizes, pad_token_id=1))
    for name, model in (("bert", bert), ("roberta", roberta)):
        model.save_pretrained(folder / name)
    return {"bert": folder / "bert", "roberta": folder / "roberta"}


@pytest.fixture(scope="session")
def speech_checkpoints(tmp_path_factory):
    """Folders of the shapes in which speech encoders are published.

    Base models normalise over time (group) and hear clips as they are, or normalised; large ones
    normalise each frame (layer). One is saved with the heads of its pretraining.
    """
    folder = tmp_path_factory.mktemp("speech-encoders")
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": (8, 8, 12),
        "conv_kernel": (10, 3, 2),
        "conv_stride": (5, 2, 2),
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "layerdrop": 0.5,
        "mask_time_prob": 0.5,
        "mask_time_length": 2,
    }
    quantizer = {"num_codevectors_per_group": 4, "codevector_dim": 8, "proj_codevector_dim": 8}
    large = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    kinds = {
        "wav2vec2": (
            transformers.Wav2Vec2ForPreTraining,
            transformers.Wav2Vec2Config(**sizes, **quantizer),
            True,
        ),
        "wav2vec2-large": (
            transformers.Wav2Vec2Model,
            transformers.Wav2Vec2Config(**sizes, **large),
            True,
        ),
        "hubert": (transformers.HubertModel, transformers.HubertConfig(**sizes), True),
        "wavlm": (transformers.WavLMModel, transformers.WavLMConfig(**sizes), False),
        "wavlm-large": (transformers.WavLMModel, transformers.WavLMConfig(**sizes, **large), True),
    }
    torch.manual_seed(0)
    for name, (kind, config, normalise) in kinds.items():
        model = kind(config)
        for parameter in model.parameters():  # biases and norms start at 0 and 1, which hides bugs
            parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(folder / name)
        transformers.Wav2Vec2FeatureExtractor(
            sampling_rate=8000, do_normalize=normalise
        ).save_pretrained(folder / name)
    return {name: folder / name for name in kinds}
