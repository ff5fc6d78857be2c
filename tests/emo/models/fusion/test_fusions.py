"""The fusions by hand-made outputs of branches."""

import pytest
import torch

from emo.models.branch import BranchOutput
from emo.models.fusion.config import CrossAttentionConfig, GatedFusionConfig, PaperFusionConfig
from emo.models.fusion.cross_attention import CrossAttention
from emo.models.fusion.dropout import drop_modalities
from emo.models.registry import FUSIONS

WIDTHS = {"text": 6, "audio": 4}
CONFIGS = {
    "paper": PaperFusionConfig(),
    "gated": GatedFusionConfig(kind="gated", hidden=8, dropout=0.0),
    "cross_attention": CrossAttentionConfig(kind="cross_attention", hidden=8, heads=2, dropout=0.0),
}
PLACES = {"text": 5, "audio": 7}  # tokens and frames of the longest row


def outputs(rows=3, seed=0, dtype=torch.float32, **present):
    """Random outputs of both branches; `text=[...]` says in which rows it is there."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, width in WIDTHS.items():
        flags = torch.tensor(present.get(name, [True] * rows))
        logits = torch.randn(rows, 5, generator=generator).to(dtype)
        vector = torch.randn(rows, width, generator=generator).to(dtype)
        states = torch.randn(rows, PLACES[name], width, generator=generator).to(dtype)
        lengths = torch.randint(1, PLACES[name] + 1, (rows,), generator=generator) * flags
        result[name] = BranchOutput(
            logits.requires_grad_(),
            vector.requires_grad_(),
            flags,
            states.requires_grad_(),
            torch.arange(PLACES[name]) < lengths[:, None],
        )
    return result


def read_by(kind, branch):
    """The part of a branch's outputs that the fusion reads."""
    return {"logits": branch.logits_BC, "vector": branch.vector_BD, "states": branch.states_BTD}[
        CONFIGS[kind].reads
    ]


def fusion(kind, **changes):
    torch.manual_seed(0)
    return FUSIONS[kind](CONFIGS[kind].model_copy(update=changes), 5, WIDTHS)


def test_every_kind_is_tested_here():
    assert set(CONFIGS) == set(FUSIONS)


def test_the_papers_formula():
    """Section 5.3: probabilities through a Linear each, summed."""
    model, given = fusion("paper"), outputs()
    text, audio = model.linear["text"], model.linear["audio"]
    expected = (
        given["text"].logits_BC.softmax(1) @ text.weight.T
        + text.bias
        + given["audio"].logits_BC.softmax(1) @ audio.weight.T
        + audio.bias
    )
    torch.testing.assert_close(model(given).logits_BC, expected)
    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * (5 * 5 + 5)


def test_identity_start_predicts_what_both_branches_together_say():
    model, given = fusion("paper", identity_start=True, scale=3.0), outputs(50)
    summed = given["text"].logits_BC.softmax(1) + given["audio"].logits_BC.softmax(1)
    torch.testing.assert_close(model(given).logits_BC, 3.0 * summed)


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_absent_modality_counts_for_nothing(kind):
    model = fusion(kind)
    half = model(outputs(audio=[True, False, True], text=[True, True, False])).logits_BC
    both = model(outputs()).logits_BC
    torch.testing.assert_close(half[0], both[0])
    for row, name in ((1, "text"), (2, "audio")):
        alone = model({name: outputs()[name]}).logits_BC
        torch.testing.assert_close(half[row], alone[row])
        assert not torch.allclose(half[row], both[row])
    # What an absent branch's numbers are makes no difference.
    other = outputs(audio=[True, False, True], text=[True, True, False])
    with torch.no_grad():
        other["audio"].logits_BC[1] = 7.0
        other["audio"].vector_BD[1] = 7.0
        other["audio"].states_BTD[1] = 7.0
    torch.testing.assert_close(model(other).logits_BC, half)


@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_reach_the_branches_that_are_there_and_only_those(kind):
    model = fusion(kind)
    given = outputs(audio=[True, False, False], text=[True, True, False])
    logits = model(given).logits_BC
    assert logits.isfinite().all()
    logits.square().sum().backward()
    for name, rows in (("text", [True, True, False]), ("audio", [True, False, False])):
        gradient = read_by(kind, given[name]).grad
        assert (gradient.abs().flatten(1).sum(1) > 0).tolist() == rows
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(kind, dtype):
    model, given = fusion(kind), outputs()
    other = fusion(kind).to(dtype)(outputs(dtype=dtype)).logits_BC
    assert other.dtype == dtype
    torch.testing.assert_close(other.float(), model(given).logits_BC, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", CONFIGS)
def test_learns_bayes_rule(kind):
    """Two independent noisy witnesses, right with chance 0.75 and 0.6: together about 0.8 of the
    answers can be right, which a plain choice of the better one (0.75) misses."""
    generator = torch.Generator().manual_seed(0)
    rows = 4000
    truth = torch.randint(0, 5, (rows,), generator=generator)
    posterior, given = torch.zeros(rows, 5), {}
    for (name, width), right in zip(WIDTHS.items(), (0.75, 0.6), strict=True):
        # Errors go to the next class mostly, so that the witnesses can be told apart.
        wrong = torch.tensor([0.0, 0.7, 0.1, 0.1, 0.1]) * (1 - right)
        channel = torch.stack([torch.roll(wrong, k) for k in range(5)]) + right * torch.eye(5)
        seen = torch.multinomial(channel[truth], 1, generator=generator)[:, 0]
        likelihood = channel.T[seen]
        posterior += likelihood.log()
        vector = torch.zeros(rows, width)
        vector.scatter_(1, (seen % width)[:, None], 1.0 + (seen >= width)[:, None].float())
        there = torch.ones(rows) > 0
        states = torch.stack((torch.zeros_like(vector), vector), dim=1)  # at the second place
        mask = torch.ones(rows, 2) > 0
        given[name] = BranchOutput((likelihood + 1e-6).log(), vector, there, states, mask)
    ceiling = (posterior.argmax(1) == truth).float().mean().item()
    assert ceiling > 0.78

    model = fusion(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(200):
        loss = torch.nn.functional.cross_entropy(model(given).logits_BC, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    reached = (model(given).logits_BC.argmax(1) == truth).float().mean().item()
    assert reached > ceiling - 0.015


def test_cross_attention_does_not_see_the_padding():
    model, given = fusion("cross_attention"), outputs()
    expected = model(given).logits_BC
    longer = {}
    for name, branch in given.items():
        states = branch.states_BTD.detach().masked_fill(~branch.mask_BT.unsqueeze(-1), 9.0)
        longer[name] = branch._replace(
            states_BTD=torch.nn.functional.pad(states, (0, 0, 0, 4), value=-3.0),
            mask_BT=torch.nn.functional.pad(branch.mask_BT, (0, 4)),
        )
    torch.testing.assert_close(model(longer).logits_BC, expected)


def test_cross_attention_by_hand():
    """One head: softmax of scaled products over what the mask leaves, through the last layer."""
    layer = CrossAttention(4, 1, 0.0)
    x, other = torch.randn(1, 3, 4), torch.randn(1, 5, 4)
    mask = torch.tensor([[True, True, True, False, False]])
    scores = layer.query(x)[0] @ layer.key(other)[0, :3].T / 2
    expected = layer.out(scores.softmax(-1) @ layer.value(other)[0, :3])
    torch.testing.assert_close(layer(x, other, mask)[0], expected)
    assert not layer(x, other, mask & False).any()


def test_cross_attention_puts_tokens_and_frames_together():
    """Only which token meets which frame tells the class: neither modality alone says anything."""
    generator = torch.Generator().manual_seed(0)
    rows = 1500
    word, tone = torch.randint(0, 2, (2, rows), generator=generator)
    label = word ^ tone
    given = {}
    for (name, width), seen in zip(WIDTHS.items(), (word, tone), strict=True):
        states = 0.3 * torch.randn(rows, PLACES[name], width, generator=generator)
        place = torch.randint(0, PLACES[name], (rows,), generator=generator)
        states[torch.arange(rows), place, seen] += 3.0
        there = torch.ones(rows) > 0
        mask = torch.ones(rows, PLACES[name]) > 0
        given[name] = BranchOutput(torch.zeros(rows, 5), states[:, 0], there, states, mask)
    model = fusion("cross_attention", hidden=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train, test = slice(0, 1200), slice(1200, rows)

    def some(part):
        return {
            name: BranchOutput(*(value[part] for value in branch)) for name, branch in given.items()
        }

    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(model(some(train)).logits_BC, label[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(some(test)).logits_BC.argmax(1) == label[test]).float().mean() > 0.95


def test_modality_dropout_takes_one_of_two_never_both():
    given = outputs(rows=6000, text=[True] * 5000 + [False] * 1000)
    torch.manual_seed(3)
    dropped = drop_modalities(given, 0.4)
    lost = {n: given[n].present_B & ~dropped[n].present_B for n in given}
    assert not (lost["text"] & lost["audio"]).any()
    for flags in lost.values():
        assert not flags[5000:].any()  # what has one modality keeps it
        assert abs(flags[:5000].float().mean().item() - 0.2) < 0.02
    for name, branch in dropped.items():
        assert torch.equal(branch.mask_BT.any(1), branch.present_B)
        assert torch.equal(branch.logits_BC, given[name].logits_BC)
    torch.manual_seed(3)
    again = drop_modalities(given, 0.4)
    assert torch.equal(again["text"].present_B, dropped["text"].present_B)
    alone = {"text": given["text"]}
    assert torch.equal(drop_modalities(alone, 0.9)["text"].present_B, given["text"].present_B)


@pytest.mark.parametrize("kind", ["gated", "cross_attention"])
def test_modality_dropout_makes_a_missing_modality_cost_no_more_than_it_must(kind):
    """Two bits make four classes. Words tell the first bit surely and the second at 80 %, the voice
    the other way round: both together are sure, each alone is worth 80 %. What the other one tells
    surely, a fusion that always has both need not learn; with modality dropout it does."""
    generator = torch.Generator().manual_seed(0)
    rows = 3000
    bits = torch.randint(0, 2, (2, rows), generator=generator)
    label = 2 * bits[0] + bits[1]
    given = {}
    for number, name in enumerate(WIDTHS):
        flipped = torch.rand(2, rows, generator=generator) < 0.2
        flipped[number] = False
        told = bits ^ flipped
        vector = torch.zeros(rows, WIDTHS[name])
        vector[:, :4] = torch.cat((told, 1 - told)).T.float()
        there = torch.ones(rows) > 0
        given[name] = BranchOutput(
            torch.zeros(rows, 5), vector, there, vector[:, None], there[:, None]
        )
    train, test = slice(0, 2000), slice(2000, rows)

    def some(names, part):
        return {name: BranchOutput(*(value[part] for value in given[name])) for name in names}

    right = {}
    for share in (0.0, 0.3):
        model = fusion(kind, hidden=16)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(100):
            outputs = drop_modalities(some(WIDTHS, train), share)
            loss = torch.nn.functional.cross_entropy(model(outputs).logits_BC, label[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for names in (tuple(WIDTHS), ("text",), ("audio",)):
            said = model(some(names, test)).logits_BC.argmax(1)
            right[share, names] = (said == label[test]).float().mean().item()
    print(kind, right)
    assert right[0.0, ("text", "audio")] > 0.99
    assert right[0.3, ("text", "audio")] > 0.99
    for name in WIDTHS:
        assert abs(right[0.3, (name,)] - 0.8) < 0.04
    assert min(right[0.0, (name,)] for name in WIDTHS) < 0.75


@pytest.mark.parametrize("kind", CONFIGS)
def test_fusions_take_any_number_of_modalities(kind):
    """With three, losing one equals never having had it; every weight gets its gradient."""
    widths = WIDTHS | {"video": 3}
    torch.manual_seed(0)
    model = FUSIONS[kind](CONFIGS[kind], 5, widths).eval()
    given = outputs()
    states = torch.randn(3, 4, 3)
    there = torch.ones(3, dtype=torch.bool)
    places = torch.ones(3, 4, dtype=torch.bool)
    given["video"] = BranchOutput(torch.randn(3, 5), states[:, 0], there, states, places)
    for name in widths:
        lost = given | {name: given[name].without(there)}
        left = {other: one for other, one in given.items() if other != name}
        torch.testing.assert_close(model(lost).logits_BC, model(left).logits_BC)
        assert not torch.allclose(model(lost).logits_BC, model(given).logits_BC)
    model(given).logits_BC.square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_modality_dropout_takes_each_of_three_alike():
    torch.manual_seed(0)
    rows = 30_000
    zeros, there = torch.zeros(rows, 1), torch.ones(rows, dtype=torch.bool)
    given = {name: BranchOutput(zeros, zeros, there) for name in ("text", "audio", "video")}
    kept = torch.stack([one.present_B for one in drop_modalities(given, 0.3).values()])
    assert kept.sum(dim=0).min() == 2  # no row loses two
    torch.testing.assert_close(
        (~kept).double().mean(1), torch.full((3,), 0.1).double(), rtol=0, atol=0.01
    )
