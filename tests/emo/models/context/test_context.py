"""Known answers on hand-made dialogues: who is seen, who is not, and what attention gives."""

import numpy as np
import pytest
import torch
from torch import nn

from emo.models.branch import ModelError
from emo.models.config import ModelConfig
from emo.models.context.bc_lstm import TwoWayLstm, turned
from emo.models.context.icon import attend, carried, histories
from emo.models.context.model import ContextModel
from emo.models.losses.cross_entropy import emotion_loss
from emo.models.model import rebuild
from shards.configfile import ConfigError, parse

CLASSES = 3
WIDTHS = {"text": 4, "audio": 2}
# The third speaks like the first; A B A A B ...
SPEAKERS = torch.tensor([[0, 1, 0, 0, 1, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0, 1, 0, 1]])


def build(kind, modalities=("text", "audio"), **settings):
    sizes = {"icon": {"width": 8}, "bclstm": {"hidden": 8, "dense": 5, "fused": 7}}[kind]
    context = {"kind": kind, "modalities": list(modalities), "dropout": 0.0, **sizes, **settings}
    config = parse(ModelConfig, {"context": context}, "a test")
    torch.manual_seed(0)
    return ContextModel(config, CLASSES, WIDTHS).double().eval()


def dialogues(lengths=(9, 6), turns=None):
    """Float64 vectors of ragged dialogues, zeros behind them."""
    turns = turns or max(lengths)
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(turns)[None] < torch.tensor(lengths)[:, None]
    batch = {"turn_mask": mask, "speaker": nn.functional.pad(SPEAKERS, (0, turns))[:, :turns]}
    for name, width in WIDTHS.items():
        x = torch.randn(2, 40, width, generator=generator, dtype=torch.float64)
        batch[name] = x[:, :turns] * mask[..., None]
    return batch


def scores(model, batch):
    return model(batch).unflatten(0, batch["turn_mask"].shape)


def moved_by(model, batch, turn, name="text"):
    """Which turns of the first dialogue change their scores when `turn` changes its vector."""
    other = {**batch, name: batch[name].clone()}
    other[name][0, turn] += 1.0
    difference = (scores(model, batch) - scores(model, other)).abs()
    assert difference[1].max() == 0  # never the other dialogue
    return (difference[0].amax(-1) > 1e-12).tolist()


def test_icon_sees_the_past_and_never_the_future():
    model, batch = build("icon"), dialogues()
    for turn in range(9):
        assert moved_by(model, batch, turn) == [place >= turn for place in range(9)]
        assert moved_by(model, batch, turn, "audio") == [place >= turn for place in range(9)]


def test_icon_sees_only_the_last_turns():
    model, batch = build("icon", past=3), dialogues()
    assert moved_by(model, batch, 2) == [2 <= place <= 5 for place in range(9)]


def test_the_published_forty_turns():
    model = build("icon", past=40)
    batch = {
        "turn_mask": torch.ones(1, 50, dtype=torch.bool),
        "speaker": torch.arange(50)[None] % 2,
        **{name: torch.randn(1, 50, width).double() for name, width in WIDTHS.items()},
    }
    other = {**batch, "text": batch["text"].clone()}
    other["text"][0, 3] += 1.0
    moved = (scores(model, batch) - scores(model, other))[0].abs().amax(-1) > 0
    assert moved.tolist() == [3 <= place <= 43 for place in range(50)]


def test_icon_can_tell_speakers_apart():
    """Renaming both changes nothing; giving one turn to the other speaker does, from then on."""
    model, batch = build("icon"), dialogues()
    renamed = {**batch, "speaker": 7 - batch["speaker"]}
    torch.testing.assert_close(model(batch), model(renamed))
    swapped = {**batch, "speaker": batch["speaker"].clone()}
    swapped["speaker"][0, 4] = 0
    moved = (scores(model, batch) - scores(model, swapped))[0].abs().amax(-1) > 1e-12
    assert moved.tolist() == [place >= 4 for place in range(9)]


@pytest.mark.parametrize(("zeroed", "speaker"), [("other", 0), ("own", 1)])
def test_each_gru_reads_one_side(zeroed, speaker):
    """Without the GRU of the others, a turn hears its own speaker alone, and the reverse."""
    model, batch = build("icon"), dialogues()
    for weight in getattr(model.context, zeroed).parameters():
        nn.init.zeros_(weight)
    said = SPEAKERS[0].tolist()
    for turn in range(8):
        heard = [
            place == turn or (place > turn and (said[place] == said[turn]) == (speaker == 0))
            for place in range(9)
        ]
        assert moved_by(model, batch, turn) == heard


def test_histories_by_hand():
    x = torch.arange(1.0, 5.0).reshape(1, 4, 1)
    mask = torch.tensor([[True, True, True, False]])
    past, there, same = histories(x, mask, torch.tensor([[0, 1, 0, 0]]), 2)
    assert past[..., 0].tolist() == [[0, 0], [1, 0], [1, 2], [0, 0]]
    assert there.tolist() == [[False, False], [True, False], [True, True], [False, False]]
    assert (same & there).tolist() == [[False] * 2, [False] * 2, [True, False], [False] * 2]


def test_a_state_is_carried_over_the_turns_of_others():
    torch.manual_seed(0)
    gru = nn.GRU(2, 3, batch_first=True).double()
    x = torch.randn(2, 5, 2, dtype=torch.float64)
    takes = torch.tensor([[False, True, False, True, False], [True, True, False, False, True]])
    found = carried(gru, x, takes)
    for row in range(2):
        state = torch.zeros(1, 1, 3, dtype=torch.float64)
        for place in range(5):
            if takes[row, place]:
                _, state = gru(x[row, place][None, None], state)
            torch.testing.assert_close(found[row, place], state[0, 0])


def test_attention_by_hand():
    memory = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    query = torch.tensor([[np.log(3.0), np.log(2.0)]], dtype=torch.float32)
    found, weights = attend(query, memory, mask)
    # exp(q·m) is 3 for the first and 2 squared for the second; the third is not there.
    torch.testing.assert_close(weights, torch.tensor([[3 / 7, 4 / 7, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[3 / 7, 8 / 7]]))
    nothing, weights = attend(query, memory, torch.zeros(1, 3, dtype=torch.bool))
    assert nothing.tolist() == [[0, 0]]
    assert weights.tolist() == [[0, 0, 0]]


def test_icon_by_hand():
    """One hop on a dialogue of three turns, step by step as the paper writes it."""
    model, batch = build("icon", hops=1), dialogues((9, 3))
    icon, found = model.context, scores(model, batch)[1, 2]
    x = torch.cat([batch["text"], batch["audio"]], -1)[1]  # said by 1, 0, 1
    _, own_0 = icon.own(x[None, 0:1])
    _, other_1 = icon.other(x[None, 1:2])
    before = torch.stack([own_0[0, 0], own_0[0, 0] + other_1[0, 0]])
    memories, _ = icon.memory(torch.tanh(before)[None])
    query = torch.tanh(icon.query(x[2]))
    weights = torch.softmax(memories[0] @ query, 0)
    query = torch.tanh(query + weights @ memories[0])
    torch.testing.assert_close(found, icon.head(query))


@pytest.mark.parametrize("modalities", [("text",), ("audio",), ("text", "audio")])
def test_bclstm_sees_both_sides(modalities):
    model, batch = build("bclstm", modalities), dialogues()
    for turn in range(9):
        assert all(moved_by(model, batch, turn, modalities[0]))


def test_bclstm_is_told_who_speaks_only_on_demand():
    batch = dialogues()
    other = {**batch, "speaker": 1 - batch["speaker"].clone()}
    other["speaker"][0, 4] = batch["speaker"][0, 4]
    silent, told = build("bclstm"), build("bclstm", speakers=True)
    assert torch.equal(silent(batch), silent(other))
    assert not torch.allclose(told(batch), told(other))


def test_bclstm_knows_sides_and_not_names():
    """A turn is read from its own speaker's side: who is called first makes no difference."""
    model = build("bclstm", speakers=True)
    batch = dialogues((9, 9))
    for name in WIDTHS:
        batch[name][1] = batch[name][0]
    batch["speaker"][1] = 7 - batch["speaker"][0]
    first, second = scores(model, batch)
    torch.testing.assert_close(first, second)
    for turn in range(9):  # and both sides still hear everybody
        assert all(moved_by(model, dialogues(), turn))


def test_the_lstm_is_truly_bidirectional():
    """torch's own bidirectional LSTM on packed sequences is the reference."""
    torch.manual_seed(0)
    ours, lengths = TwoWayLstm(4, 3).double(), torch.tensor([9, 6, 1])
    reference = nn.LSTM(4, 3, batch_first=True, bidirectional=True).double()
    state = dict(ours.forth.named_parameters())
    state |= {f"{name}_reverse": p for name, p in ours.back.named_parameters()}
    reference.load_state_dict(state)
    x = torch.randn(3, 9, 4, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    expected, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    found = ours(x, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row, :length], expected[row, :length])


def test_turned_in_its_own_length():
    x = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [1, 1, 2, 2]]).unsqueeze(-1)
    found = turned(x, torch.tensor([4, 2, 0]))[..., 0]
    assert found.tolist() == [[4, 3, 2, 1], [6, 5, 7, 8], [1, 1, 2, 2]]


@pytest.mark.parametrize("kind", ["icon", "bclstm"])
@pytest.mark.parametrize("garbage", [0.0, 1e6, float("nan")])
def test_padding_changes_nothing(kind, garbage):
    model, short = build(kind), dialogues()
    long = dialogues(turns=15)
    for name in WIDTHS:
        long[name][~long["turn_mask"]] = garbage
    found = scores(model, long)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0, :9], scores(model, short)[0])
    torch.testing.assert_close(found[1, :6], scores(model, short)[1, :6])
    alone = {name: value[1:, :6] for name, value in short.items()}
    torch.testing.assert_close(found[1, :6], scores(model, alone)[0])


@pytest.mark.parametrize("kind", ["icon", "bclstm"])
def test_turns_without_a_loss_are_context_all_the_same(kind):
    """Masked turns add nothing to the loss, and their vectors still get gradients through it."""
    model, batch = build(kind), dialogues()
    batch["text"].requires_grad_()
    valid = torch.zeros(2, 9, dtype=torch.bool)
    valid[0, 5] = True
    target = torch.full((18, CLASSES), 1 / CLASSES)
    emotion_loss(model(batch), target, valid.flatten()).backward()
    reached = batch["text"].grad.abs().amax(-1) > 0
    assert reached[0].tolist() == [kind == "bclstm" or place <= 5 for place in range(9)]
    assert not reached[1].any()


@pytest.mark.parametrize("kind", ["icon", "bclstm"])
@pytest.mark.parametrize("modalities", [("text",), ("text", "audio")])
def test_every_weight_is_trained(kind, modalities):
    """DDP waits for the gradient of every weight, also on a rank without a dialogue."""
    model, batch = build(kind, modalities).train(), dialogues((0, 0), turns=4)
    emotion_loss(model(batch), torch.zeros(8, CLASSES), torch.zeros(8)).backward()
    assert all(p.grad is not None for p in model.parameters())
    batch = dialogues()
    emotion_loss(model(batch), torch.full((18, CLASSES), 0.2), torch.ones(18)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("kind", ["icon", "bclstm"])
def test_a_model_is_rebuilt_from_its_description(kind):
    model, batch = build(kind, ("audio",)), dialogues()
    again = rebuild(model.describe()).double().eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(batch), model(batch))


@pytest.mark.parametrize("kind", ["icon", "bclstm"])
def test_silenced_turns_are_so_in_training_alone(kind):
    """Without any vector all dialogues are alike but for their lengths and speakers."""
    model, batch = build(kind, turn_dropout=0.999999), dialogues()
    nothing = {**batch, **{name: torch.zeros_like(batch[name]) for name in WIDTHS}}
    assert not torch.allclose(model(batch), model(nothing))
    model.train()
    torch.testing.assert_close(model(batch), model(nothing))


def test_vectors_that_are_not_there_are_named():
    config = parse(ModelConfig, {"context": {"kind": "icon", "modalities": ["audio"]}}, "a test")
    with pytest.raises(ModelError, match="no vectors of audio"):
        ContextModel(config, CLASSES, {"text": 4})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"audio": {}}, "stands alone"),
        ({"context": {"kind": "icon", "modalities": []}}, "at least 1"),
        ({"context": {"kind": "icon", "modalities": ["text", "text"]}}, "twice"),
    ],
)
def test_configurations_that_cannot_be(more, message):
    with pytest.raises(ConfigError, match=message):
        parse(ModelConfig, {"context": {"kind": "icon", "modalities": ["text"]}} | more, "a test")
