"""The machine behind both classic systems, and what the two have in common."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from emo.models.audio.config import CnnConfig, DnnElmConfig, ElmConfig
from emo.models.audio.elm import Elm, utterance_statistics
from emo.models.branch import ModelError
from emo.models.config import ModelConfig
from emo.models.losses.cross_entropy import emotion_loss
from emo.models.model import EmotionModel, rebuild
from shards.configfile import ConfigError, parse
from shards.extract.features.lowlevel import WIDTH

KINDS = [("bilstm_null", {"hidden": 12}), ("dnn_elm", {"hidden": 24, "loudest": 0.3})]
OUTPUTS = ("scores", "log_likelihoods", "statistics")


def mask_of(lengths, frames):
    return torch.arange(frames)[None] < torch.tensor(lengths)[:, None]


def model_of(kind, settings, classes=3):
    config = parse(ModelConfig, {"audio": {"kind": kind, **settings}}, "test")
    return EmotionModel(config, classes=classes, sizes={"audio": WIDTH})


# -- the extreme learning machine --------------------------------------------------------------


def test_elm_is_the_ridge_solution():
    torch.manual_seed(1)
    elm = Elm(ElmConfig(hidden=120, ridge=1e-3), inputs=20, classes=5)
    x = torch.rand(400, 20, dtype=torch.float64)
    target = F.one_hot(torch.randint(0, 5, (400,)), 5).double()
    fitted = elm.solution(x, target)

    a = (x.numpy() - x.numpy().mean(0)) / x.numpy().std(0)
    h = 1 / (1 + np.exp(-(a @ elm.weight.double().numpy() + elm.bias.double().numpy())))
    # Ridge as plain least squares: rows of sqrt(penalty) times the identity are aimed at zero.
    tall = np.concatenate((h, np.sqrt(1e-3 * 400) * np.eye(120)))
    wanted = np.concatenate((target.numpy(), np.zeros((120, 5))))
    expected = np.linalg.lstsq(tall, wanted, rcond=None)[0]
    np.testing.assert_allclose(fitted["output"].numpy(), expected, atol=1e-9)

    elm.fit(x, target)
    scores = elm(x.float()).detach().numpy()
    np.testing.assert_allclose(scores, np.log(np.maximum(h @ expected, 1e-3)), atol=2e-3)


def test_elm_separates_what_no_line_does():
    torch.manual_seed(2)
    elm = Elm(ElmConfig(), inputs=2, classes=2)
    x = torch.rand(600, 2) * 2 - 1
    label = (x[:, 0] * x[:, 1] > 0).long()
    elm.fit(x, F.one_hot(label, 2))
    assert (elm(x).argmax(1) == label).float().mean() > 0.95


def test_elm_says_nothing_before_it_is_fitted_and_bears_constant_inputs():
    elm = Elm(ElmConfig(), inputs=4, classes=3)
    assert elm(torch.rand(5, 4)).std(dim=1).max() < 1e-6
    elm.fit(torch.ones(9, 4), F.one_hot(torch.arange(9) % 3, 3))
    assert all(value.isfinite().all() for value in elm.buffers())


def test_statistics_by_hand():
    p = torch.tensor([[[0.1, 0.9], [0.3, 0.7], [0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5]] * 4])
    found = utterance_statistics(p, mask_of([3, 0], 4), threshold=0.2)
    expected = [0.5, 0.9, 0.1, 0.5, 0.3, 0.7, 2 / 3, 1.0]
    torch.testing.assert_close(found, torch.tensor([expected, [0.0] * 8]))


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
    expected = {output: torch.cat([model(one, output) for one in full]) for output in OUTPUTS}
    for frames in (61, 80):
        padded = torch.full((5, frames, WIDTH), 7.0, dtype=torch.float64)
        for row, clip in enumerate(clips):
            padded[row, : len(clip)] = clip
        batch = {"audio": padded, "audio_mask": mask_of(lengths, frames)}
        for output in OUTPUTS:
            torch.testing.assert_close(model(batch, output), expected[output], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_rows_without_audio_are_finite_and_say_so(kind, settings):
    model = model_of(kind, settings)
    batch = {"audio": torch.randn(3, 40, WIDTH), "audio_mask": mask_of([40, 0, 30], 40)}
    assert model.branch_outputs(batch)["audio"].present_B.tolist() == [True, False, True]
    assert all(model(batch, output).isfinite().all() for output in OUTPUTS)
    logits = model(batch, "log_likelihoods")
    loss = emotion_loss(logits, torch.eye(3), torch.tensor([1, 0, 1]), softmax=False)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_a_fitted_model_is_loaded_with_its_fit(kind, settings):
    torch.manual_seed(4)
    model = model_of(kind, settings).eval()
    model.branch("audio").fit(torch.rand(50, 12), F.one_hot(torch.arange(50) % 3, 3))
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
    assert isinstance(parse(ModelConfig, {"audio": {}}, "test").audio, CnnConfig)
    assert parse(ModelConfig, {"audio": {"kind": "dnn_elm"}}, "test").fits_head
    assert not parse(ModelConfig, {"audio": {"hidden": 8}}, "test").fits_head
    with pytest.raises(ConfigError, match="context must be odd"):
        parse(ModelConfig, {"audio": {"kind": "bilstm_null", "context": 24}}, "test")
    both = {"audio": {"kind": "dnn_elm"}, "text": {"build": {}}, "fusion": {"kind": "paper"}}
    with pytest.raises(ConfigError, match=r"freeze \[audio\]"):
        parse(ModelConfig, both, "test")
    assert not parse(ModelConfig, both | {"freeze": ["audio"]}, "test").fits_head
    with pytest.raises(ModelError, match="32 low-level descriptors"):
        EmotionModel(ModelConfig(audio=DnnElmConfig(kind="dnn_elm")), 3, sizes={"audio": 64})
