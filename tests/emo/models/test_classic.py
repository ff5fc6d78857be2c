"""The classic systems, held to answers that are known without them."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from emo.models.branch import ModelError
from emo.models.classic import BiLstmNull, DnnElm, Elm, label_likelihood, utterance_statistics
from emo.models.config import (
    AudioBranchConfig,
    BiLstmNullConfig,
    DnnElmConfig,
    ElmConfig,
    ModelConfig,
)
from emo.models.losses import emotion_loss
from emo.models.model import EmotionModel, rebuild
from shards.configfile import ConfigError, parse
from shards.extract.features.lowlevel import ENERGY, WIDTH

KINDS = [("bilstm_null", {"hidden": 12}), ("dnn_elm", {"hidden": 24, "loudest": 0.3})]


def mask_of(lengths, frames):
    return torch.arange(frames)[None] < torch.tensor(lengths)[:, None]


def model_of(kind, settings, classes=3):
    config = parse(ModelConfig, {"audio": {"kind": kind, **settings}}, "test")
    return EmotionModel(config, classes=classes, features=WIDTH, vocabulary=0)


# -- the NULL state ---------------------------------------------------------------------------


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


# -- the extreme learning machine --------------------------------------------------------------


def test_elm_is_the_ridge_solution():
    torch.manual_seed(1)
    elm = Elm(ElmConfig(hidden=120, ridge=1e-3), inputs=20, classes=5)
    x = torch.rand(400, 20, dtype=torch.float64)
    target = F.one_hot(torch.randint(0, 5, (400,)), 5).double()
    fitted = elm.fit(x, target)

    a = (x.numpy() - x.numpy().mean(0)) / x.numpy().std(0)
    h = 1 / (1 + np.exp(-(a @ elm.weight.double().numpy() + elm.bias.double().numpy())))
    # Ridge as plain least squares: rows of sqrt(penalty) times the identity are aimed at zero.
    tall = np.concatenate((h, np.sqrt(1e-3 * 400) * np.eye(120)))
    wanted = np.concatenate((target.numpy(), np.zeros((120, 5))))
    expected = np.linalg.lstsq(tall, wanted, rcond=None)[0]
    np.testing.assert_allclose(fitted["output"].numpy(), expected, atol=1e-9)

    for name, value in fitted.items():
        elm.get_buffer(name).copy_(value)
    scores = elm(x.float()).detach().numpy()
    np.testing.assert_allclose(scores, np.log(np.maximum(h @ expected, 1e-3)), atol=2e-3)


def test_elm_separates_what_no_line_does():
    torch.manual_seed(2)
    elm = Elm(ElmConfig(), inputs=2, classes=2)
    x = torch.rand(600, 2) * 2 - 1
    label = (x[:, 0] * x[:, 1] > 0).long()
    for name, value in elm.fit(x, F.one_hot(label, 2)).items():
        elm.get_buffer(name).copy_(value)
    assert (elm(x).argmax(1) == label).float().mean() > 0.95


def test_elm_says_nothing_before_it_is_fitted_and_bears_constant_inputs():
    elm = Elm(ElmConfig(), inputs=4, classes=3)
    assert elm(torch.rand(5, 4)).std(dim=1).max() < 1e-6
    fitted = elm.fit(torch.ones(9, 4), F.one_hot(torch.arange(9) % 3, 3))
    assert all(value.isfinite().all() for value in fitted.values())


def test_statistics_by_hand():
    p = torch.tensor([[[0.1, 0.9], [0.3, 0.7], [0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5]] * 4])
    found = utterance_statistics(p, mask_of([3, 0], 4), threshold=0.2)
    expected = [0.5, 0.9, 0.1, 0.5, 0.3, 0.7, 2 / 3, 1.0]
    torch.testing.assert_close(found, torch.tensor([expected, [0.0] * 8]))


# -- DNN-ELM -----------------------------------------------------------------------------------


def test_the_loudest_tenth_of_the_segments():
    model = DnnElm(DnnElmConfig(kind="dnn_elm", hidden=8), 3, WIDTH)
    x = torch.randn(2, 60, WIDTH)
    x[..., ENERGY] = 0.0
    x[0, 30:42, ENERGY] = 5.0  # in full by the segments that begin from frame 17 to 30
    mask = mask_of([60, 10], 60)
    segments, chosen = model.loudest(x * mask[..., None], mask)
    assert chosen.tolist() == [[True] * 4, [True] + [False] * 3]  # of 36 segments, and of one
    starts = [
        next(
            start
            for start in range(36)
            if torch.equal(segments[0, k].reshape(WIDTH, 25).T, x[0, start : start + 25])
            or torch.equal(segments[0, k].reshape(25, WIDTH), x[0, start : start + 25])
        )
        for k in range(4)
    ]
    assert starts == [17, 18, 19, 20]
    assert (segments[1, 0] != 0).sum() <= 10 * WIDTH


# -- both --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "settings"), KINDS)
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_padding_and_company_change_nothing(kind, settings, stride, training):
    torch.manual_seed(3)
    model = model_of(kind, settings | {"stride": stride}).double().train(training)
    lengths = [61, 25, 24, 3, 1]
    clips = [torch.randn(length, WIDTH, dtype=torch.float64) for length in lengths]
    full = [{"audio": c[None], "audio_mask": torch.ones(1, len(c)).bool()} for c in clips]
    alone = torch.cat([model.evidence(one)["audio"].logits_BC for one in full])
    vectors = torch.cat([model.evidence(one)["audio"].vector_BD for one in full])
    for frames in (61, 80):
        padded = torch.full((5, frames, WIDTH), 7.0, dtype=torch.float64)
        for row, clip in enumerate(clips):
            padded[row, : len(clip)] = clip
        found = model.evidence({"audio": padded, "audio_mask": mask_of(lengths, frames)})["audio"]
        torch.testing.assert_close(found.logits_BC, alone, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.vector_BD, vectors, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_rows_without_audio_are_finite_and_say_so(kind, settings):
    model = model_of(kind, settings)
    batch = {"audio": torch.randn(3, 40, WIDTH), "audio_mask": mask_of([40, 0, 30], 40)}
    evidence = model.evidence(batch)["audio"]
    assert evidence.present_B.tolist() == [True, False, True]
    loss = emotion_loss(evidence.logits_BC, torch.eye(3), torch.tensor([1, 0, 1]), softmax=False)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_a_fitted_model_is_loaded_with_its_fit(kind, settings):
    torch.manual_seed(4)
    model = model_of(kind, settings).eval()
    head = model.get_submodule("audio.head")
    values = head.fit(torch.rand(50, 12), F.one_hot(torch.arange(50) % 3, 3))
    for name, value in values.items():
        head.get_buffer(name).copy_(value)
    other = rebuild(model.describe())
    other.load_state_dict(model.state_dict())
    batch = {"audio": torch.randn(2, 30, WIDTH), "audio_mask": mask_of([30, 12], 30)}
    assert torch.equal(other.eval()(batch), model(batch))
    assert not torch.equal(model(batch)[0], model(batch)[1])


def test_published_sizes():
    lstm = model_of("bilstm_null", {}).get_submodule("audio.lstm")
    assert (lstm.input_size, lstm.hidden_size, lstm.num_layers) == (800, 128, 2)
    assert lstm.bidirectional
    segment = model_of("dnn_elm", {}).get_submodule("audio.segment")
    assert [tuple(p.shape) for p in segment.parameters() if p.dim() == 2] == [
        (256, 800),
        (256, 256),
        (256, 256),
        (3, 256),
    ]
    assert model_of("dnn_elm", {}).get_buffer("audio.head.weight").shape == (12, 120)


def test_settings():
    assert isinstance(parse(ModelConfig, {"audio": {}}, "test").audio, AudioBranchConfig)
    assert parse(ModelConfig, {"audio": {"kind": "dnn_elm"}}, "test").likelihoods
    assert not parse(ModelConfig, {"audio": {"hidden": 8}}, "test").likelihoods
    with pytest.raises(ConfigError, match="context must be odd"):
        parse(ModelConfig, {"audio": {"kind": "bilstm_null", "context": 24}}, "test")
    both = {"audio": {"kind": "dnn_elm"}, "text": {"build": {}}, "fusion": {"kind": "paper"}}
    with pytest.raises(ConfigError, match=r"freeze \[audio\]"):
        parse(ModelConfig, both, "test")
    assert not parse(ModelConfig, both | {"freeze": ["audio"]}, "test").likelihoods
    with pytest.raises(ModelError, match="32 low-level descriptors"):
        EmotionModel(ModelConfig(audio=DnnElmConfig(kind="dnn_elm")), 3, features=64, vocabulary=0)
