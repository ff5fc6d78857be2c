"""Adapters and partial tuning: what is trained, and that merging changes no prediction."""

import pytest
import torch
import transformers

from emo.models.branch import ModelError
from emo.models.config import ModelConfig
from emo.models.model import EmotionModel, rebuild
from emo.models.tuning import has_adapters, merged
from shards.configfile import ConfigError, parse


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wavlm")
    torch.manual_seed(0)
    config = transformers.WavLMConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64,
        conv_dim=(32, 32), conv_kernel=(10, 4), conv_stride=(5, 4), num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    transformers.WavLMModel(config).save_pretrained(folder)
    return folder


def audio_model(encoder, **settings):
    torch.manual_seed(0)
    branch = {"kind": "speech_encoder", "encoder": str(encoder), "hidden": 4, "dropout": 0.0}
    config = parse(ModelConfig, {"audio": branch | settings}, "the test")
    return EmotionModel(config, 4, sizes={})


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def batch():
    wave = torch.randn(3, 900, generator=torch.Generator().manual_seed(1))
    return {"audio": wave, "audio_mask": torch.arange(900) < torch.tensor([[900], [500], [60]])}


def learn(model, steps=3):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch()), torch.tensor([0, 1, 2])).backward()
        optimizer.step()


def test_adapters_are_few_and_all_that_is_trained_of_the_encoder(wavlm):
    model = audio_model(wavlm, lora={"rank": 1, "layers": "upper"})
    names = {name for name in trained(model) if ".encoder." in name}
    assert len(names) == 2 * 2 * 2  # two layers, two linear layers each, two factors
    assert all("lora_" in name and "layers.0" not in name for name in names)
    share = sum(p.numel() for p in model.parameters() if p.requires_grad) / sum(
        p.numel() for p in model.parameters()
    )
    print(f"{100 * share:.2f} % of the parameters are trained")
    assert share < 0.02


def test_they_begin_as_nothing_learn_and_merge_without_a_trace(wavlm):
    plain = audio_model(wavlm).eval()
    model = audio_model(wavlm, lora={"rank": 4, "alpha": 8})
    before = {k: x.clone() for k, x in model.state_dict().items()}
    # The heads of both are drawn from other places of one random stream.
    plain.load_state_dict({k: before[k.replace(".weight", ".base_layer.weight")
                              if k.replace(".weight", ".base_layer.weight") in before else
                              k.replace(".bias", ".base_layer.bias")
                              if k.replace(".bias", ".base_layer.bias") in before else k]
                           for k in plain.state_dict()})  # fmt: skip
    torch.testing.assert_close(model.eval()(batch()), plain(batch()), rtol=0, atol=0)
    learn(model.train())
    moved = {k for k, x in model.state_dict().items() if not torch.equal(x, before[k])}
    assert any("lora_B" in key for key in moved)
    assert moved <= trained(model)
    description = model.describe()
    assert has_adapters(description)
    learnt = model.eval()(batch())
    assert (learnt - plain(batch())).abs().max() > 1e-2
    again = rebuild(description)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(batch()), learnt, rtol=0, atol=0)
    weights, bare = merged(again, description)
    assert not has_adapters(bare)
    exported = rebuild(bare)
    exported.load_state_dict(weights)
    torch.testing.assert_close(exported.eval()(batch()), learnt, rtol=0, atol=1e-6)


def test_dropout_of_the_encoder_is_on_only_where_it_learns(wavlm):
    assert not audio_model(wavlm).train().audio.encoder.training
    assert audio_model(wavlm, lora={}).train().audio.encoder.training


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"targets": ["q_proj"]}, "q_proj without calling the layer"),
        ({"targets": ["intermediate"]}, r"called intermediate; there are .*intermediate_dense"),
    ],
)
def test_targets_that_would_do_nothing_are_refused(wavlm, lora, said):
    with pytest.raises(ModelError, match=said):
        audio_model(wavlm, lora=lora)


def test_one_way_of_tuning_at_a_time(wavlm):
    with pytest.raises(ConfigError, match="lora stands for tuning"):
        audio_model(wavlm, lora={}, tune="everything")
    with pytest.raises(ConfigError, match="frozen_layers leaves the others"):
        audio_model(wavlm, frozen_layers=2)


def text_model(**settings):
    torch.manual_seed(0)
    sizes = {"hidden": 16, "layers": 3, "heads": 2, "intermediate": 32, "positions": 32}
    branch = {"build": sizes | {"dropout": 0.0}, "pooling": "mean", "dropout": 0.0}
    config = parse(ModelConfig, {"text": branch | settings}, "the test")
    return EmotionModel(config, 4, sizes={"text": 50})


TOKENS = {
    "tokens": torch.arange(24).reshape(2, 12),
    "token_mask": torch.arange(12) < torch.tensor([[12], [7]]),
}


def test_text_reads_a_weighting_of_all_layers():
    model = text_model(layers="weighted", tune="nothing")
    assert trained(model) == {"text.layer_weights", "text.head.weight", "text.head.bias"}
    encoder, branch = model.text.encoder, model.text
    states = encoder(TOKENS["tokens"], TOKENS["token_mask"].long(), output_hidden_states=True)
    model.text.layer_weights.data = torch.tensor([0.0, 1.0, -1.0, 2.0])
    share = torch.softmax(model.text.layer_weights, 0)
    summed = sum(a * x for a, x in zip(share, states.hidden_states, strict=True))
    pooled = torch.stack([x[:n].mean(0) for x, n in zip(summed, (12, 7), strict=True)])
    torch.testing.assert_close(model(TOKENS), branch.head(pooled))
    model(TOKENS).sum().backward()
    assert branch.layer_weights.grad.abs().sum() > 0


def test_text_takes_adapters_and_frozen_layers_too():
    lora = text_model(tune="nothing", lora={"rank": 2})
    assert {name for name in trained(lora) if "encoder" in name} == {
        name for name, _ in lora.named_parameters() if "lora_" in name
    }
    assert all(p.grad is None for p in lora.parameters())
    lora(TOKENS).sum().backward()
    assert all(p.grad is not None for p in lora.parameters() if p.requires_grad)
    partly = text_model(frozen_layers=2)
    inside = {name for name in trained(partly) if "encoder." in name}
    assert inside
    assert all(".layer.2." in name for name in inside)
