"""The CNN: what is not there must not count, whatever the length, layout and precision."""

import pytest
import torch
from torch import nn

from emo.models.audio.cnn import Cnn, ConvolutionBlock
from emo.models.audio.config import CnnConfig
from emo.models.losses.cross_entropy import emotion_loss
from shards.configfile import ConfigError, parse


def branch(features=24, classes=5, **settings):
    torch.manual_seed(0)
    built = Cnn(parse(CnnConfig, settings, where="test"), classes, features)
    with torch.no_grad():  # the first scores are nearly nothing by design; here they must show
        built.head.weight.mul_(100)
    return built.eval()


def lengths_to_mask(lengths, frames):
    return torch.arange(frames)[None] < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("pooling", ["mean", "mean_max"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_padding_changes_nothing(pooling, channels_last):
    """Each length alone, in its own batch, and padded further, with garbage in the padding."""
    model = branch(pooling=pooling, channels_last=channels_last).double()
    lengths = [1, 2, 3, 31, 32, 33, 47, 63]
    clips = [torch.randn(length, 24, dtype=torch.float64) for length in lengths]
    alone = torch.cat(
        [model(clip[None], torch.ones(1, len(clip), dtype=torch.bool)).logits_BC for clip in clips]
    )
    assert alone.std(dim=0).min() > 0.01  # the rows differ, so that equality below means something
    for frames in (63, 64, 65, 97):
        padded = torch.full((len(clips), frames, 24), 50.0, dtype=torch.float64)
        for row, clip in enumerate(clips):
            padded[row, : len(clip)] = clip
        together = model(padded, lengths_to_mask(lengths, frames)).logits_BC
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_padding_changes_nothing_in_single_precision():
    model = branch()
    audio, mask = torch.randn(3, 40, 24), lengths_to_mask([40, 13, 1], 40)
    audio = audio * mask[..., None]
    longer = nn.functional.pad(audio, (0, 0, 0, 29))
    expected = model(audio, mask).logits_BC
    got = model(longer, nn.functional.pad(mask, (0, 29))).logits_BC
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_gradients_ignore_padding_too():
    gradients = []
    for frames in (19, 40):
        model = branch().double()
        torch.manual_seed(1)
        clip = torch.randn(1, 19, 24, dtype=torch.float64)
        padded = nn.functional.pad(clip, (0, 0, 0, frames - 19), value=9.0)
        model(padded, lengths_to_mask([19], frames)).logits_BC.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for short, long in zip(*gradients, strict=True):
        torch.testing.assert_close(long, short, rtol=0, atol=1e-10)


def test_a_block_is_the_textbook_one_where_all_is_valid():
    block = ConvolutionBlock(3, 6, kernel=3, slope=0.1)
    x = torch.randn(2, 3, 10, 8)
    expected = nn.functional.max_pool2d(nn.functional.leaky_relu(block.convolution(x), 0.1), 2)
    got = block(x, torch.ones(2, 10, dtype=torch.bool))
    torch.testing.assert_close(got, expected)


def test_rows_without_audio_are_finite_and_say_so():
    model = branch(pooling="mean_max").train()
    audio = torch.randn(3, 20, 24)
    mask = lengths_to_mask([20, 0, 5], 20)
    evidence = model(audio, mask)
    evidence.logits_BC.sum().backward()
    assert evidence.present_B.tolist() == [True, False, True]
    assert evidence.logits_BC.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_rows_do_not_see_each_other_and_no_statistics_are_kept():
    model = branch().train()
    model.dropout.p = 0.0
    audio, mask = torch.randn(4, 30, 24, dtype=torch.float64), lengths_to_mask([30, 9, 22, 4], 30)
    model.double()
    whole = model(audio, mask).logits_BC
    halves = [model(audio[rows], mask[rows]).logits_BC for rows in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.cat(halves), whole, rtol=0, atol=1e-12)
    assert not list(model.buffers())


def test_layouts_and_checkpointing_give_the_same_gradients():
    results = []
    for settings in ({}, {"channels_last": False}, {"activation_checkpointing": True}):
        model = branch(dropout=0.0, **settings).train()
        torch.manual_seed(2)
        audio, mask = torch.randn(4, 21, 24), lengths_to_mask([21, 3, 8, 20], 21)
        model(audio, mask).logits_BC.square().sum().backward()
        results.append([parameter.grad for parameter in model.parameters()])
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("features", [1, 13, 40, 64, 128])
def test_any_number_of_bins(features):
    audio, mask = torch.randn(2, 11, features), lengths_to_mask([11, 4], 11)
    assert branch(features=features)(audio, mask).logits_BC.shape == (2, 5)


def test_half_precision_weights_take_single_precision_input():
    model = branch().bfloat16()
    evidence = model(torch.randn(2, 9, 24), lengths_to_mask([9, 0], 9))
    assert evidence.logits_BC.dtype == torch.bfloat16
    assert evidence.logits_BC.isfinite().all()


def test_five_convolutions_and_two_linear_layers_by_default():
    """The paper's section 5.2."""
    layers = list(Cnn(CnnConfig(), 5, 64).modules())
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == 5
    assert sum(isinstance(layer, nn.Linear) for layer in layers) == 2
    assert not any("Norm" in type(layer).__name__ for layer in layers)


def test_learns_from_the_first_steps_at_its_usual_rate():
    """Which band is loud, told by clips of many lengths: 60 steps at 1e-3 are plenty."""
    torch.manual_seed(0)
    model = Cnn(CnnConfig(), 4, 16).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for step in range(60):
        generator = torch.Generator().manual_seed(step)
        label = torch.randint(0, 4, (32,), generator=generator)
        mask = lengths_to_mask(torch.randint(5, 40, (32,), generator=generator).tolist(), 40)
        audio = torch.randn(32, 40, 16, generator=generator)
        for row in range(32):
            audio[row, :, label[row] * 4 : label[row] * 4 + 4] += 1.5
        logits = model(audio, mask).logits_BC
        loss = emotion_loss(logits, torch.eye(4)[label], torch.ones(32)) / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1.386, abs=0.05)  # log 4: it begins as a guess
    assert losses[-1] < 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 4}, "kernel must be odd"),
        ({"channels": []}, "channels"),
        ({"channels": [8, 0]}, "channels"),
        ({"dropout": 1.0}, "dropout"),
        ({"chanels": [8]}, "did you mean 'channels'"),
    ],
)
def test_settings_that_make_no_network(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse(CnnConfig, settings, where="test")
