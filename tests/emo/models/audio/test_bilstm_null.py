"""Frames that say an emotion or NULL, held to answers that are known without the system."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from emo.models.audio.bilstm_null import BiLstmNull, label_likelihood
from emo.models.audio.config import BiLstmNullConfig
from emo.models.losses.cross_entropy import emotion_loss
from shards.extract.features.lowlevel import WIDTH


def mask_of(lengths, frames):
    return torch.arange(frames)[None] < torch.tensor(lengths)[:, None]


def test_likelihood_is_the_sum_over_all_labellings_of_frames():
    """Every way to label 5 frames with 3 emotions or NULL, kept if it says NULL* c c* NULL*."""
    logs = torch.log_softmax(torch.randn(2, 5, 4, dtype=torch.float64), -1)
    for length in (1, 2, 5):
        expected = torch.zeros(2, 3, dtype=torch.float64)
        for frames in itertools.product(range(4), repeat=length):
            said = [c for c, _ in itertools.groupby(frames) if c != 3]
            if len(said) == 1:
                path = logs[:, torch.arange(length), list(frames)].sum(1)
                expected[:, said[0]] += path.exp()
        got = label_likelihood(logs, mask_of([length, length], 5))
        torch.testing.assert_close(got, expected.log())


def test_likelihood_and_its_gradient_are_torchs_ctc():
    lengths = [40, 17, 1]
    scores = torch.randn(3, 40, 6, dtype=torch.float64, requires_grad=True)
    label = torch.tensor([4, 0, 2])
    ours = label_likelihood(torch.log_softmax(scores, -1), mask_of(lengths, 40))
    (gradient,) = torch.autograd.grad(-ours[range(3), label].sum(), scores)
    loss = F.ctc_loss(
        torch.log_softmax(scores, -1).transpose(0, 1),
        label[:, None],
        torch.tensor(lengths),
        torch.ones(3, dtype=torch.long),
        blank=5,
        reduction="sum",
    )
    torch.testing.assert_close(-ours[range(3), label].sum(), loss)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, scores)[0])


def test_likelihood_of_long_and_sure_utterances_is_finite():
    scores = torch.zeros(1, 4000, 6)
    scores[..., 5] = 30.0
    scores[0, 2000, 5], scores[0, 2000, 1] = 0.0, 30.0
    found = label_likelihood(torch.log_softmax(scores, -1), mask_of([4000], 4000))
    assert found[0, 1] == pytest.approx(0, abs=1e-2)
    assert found[0, 0] < -25
    assert label_likelihood(scores, mask_of([0], 4000)).tolist() == [[0.0] * 5]


def test_null_is_learnt_where_nothing_is_said():
    """Three frames of twelve hold the cue of an emotion; the others, alike for all, nothing.

    What is said of each kind of frame has one solution, where an utterance's likelihood is 1: its
    emotion at a cue, NULL where there is none.
    """
    torch.manual_seed(0)
    said = torch.zeros(3, 3, requires_grad=True)  # of nothing, cue 0, cue 1: emotion 0, 1, NULL
    optimizer = torch.optim.Adam([said], lr=0.2)
    for _ in range(150):
        label, begin = torch.randint(0, 2, (32,)), torch.randint(0, 10, (32, 1))
        cue = (torch.arange(12) >= begin) & (torch.arange(12) < begin + 3)
        logs = torch.log_softmax(said[cue * (1 + label[:, None])], -1)
        scores = label_likelihood(logs, torch.ones(32, 12, dtype=torch.bool))
        loss = emotion_loss(scores, F.one_hot(label, 2), torch.ones(32), softmax=False) / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(torch.softmax(said.detach(), -1), expected, rtol=0, atol=0.01)


def test_windows_see_twelve_frames_on_either_side():
    model = BiLstmNull(BiLstmNullConfig(kind="bilstm_null", hidden=4), 3, WIDTH).double().eval()
    windows = []
    model.lstm.register_forward_hook(lambda _m, inputs, _o: windows.append(inputs[0].data))
    audio = torch.randn(1, 40, WIDTH, dtype=torch.float64)
    model(audio, torch.ones(1, 40, dtype=torch.bool))
    assert windows[0].shape == (40, 800)
    # `unfold` puts the window's frames last: features come first, frames within them.
    middle = windows[0][20].reshape(WIDTH, 25).T
    torch.testing.assert_close(middle, audio[0, 8:33])
