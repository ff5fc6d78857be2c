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
