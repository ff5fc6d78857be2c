"""The fusions by hand-made evidence."""

import pytest
import torch

from emo.models.branch import Evidence
from emo.models.config import GatedFusionConfig, PaperFusionConfig
from emo.models.fusion import FUSIONS, build_fusion

WIDTHS = {"text": 6, "audio": 4}
CONFIGS = {
    "paper": PaperFusionConfig(),
    "gated": GatedFusionConfig(kind="gated", hidden=8, dropout=0.0),
}


def evidence(rows=3, seed=0, dtype=torch.float32, **present):
    """Random evidence of both branches; `text=[...]` says in which rows it is there."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, width in WIDTHS.items():
        flags = torch.tensor(present.get(name, [True] * rows))
        logits = torch.randn(rows, 5, generator=generator).to(dtype)
        vector = torch.randn(rows, width, generator=generator).to(dtype)
        result[name] = Evidence(logits.requires_grad_(), vector.requires_grad_(), flags)
    return result


def fusion(kind, **changes):
    torch.manual_seed(0)
    return build_fusion(CONFIGS[kind].model_copy(update=changes), 5, WIDTHS)


def test_every_kind_is_tested_here():
    assert set(CONFIGS) == set(FUSIONS)


def test_the_papers_formula():
    """Section 5.3: probabilities through a Linear each, summed."""
    model, given = fusion("paper"), evidence()
    text, audio = model.linear["text"], model.linear["audio"]
    expected = (
        given["text"].logits_BC.softmax(1) @ text.weight.T
        + text.bias
        + given["audio"].logits_BC.softmax(1) @ audio.weight.T
        + audio.bias
    )
    torch.testing.assert_close(model(given), expected)
    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * (5 * 5 + 5)


def test_identity_start_predicts_what_both_branches_together_say():
    model, given = fusion("paper", identity_start=True, scale=3.0), evidence(50)
    summed = given["text"].logits_BC.softmax(1) + given["audio"].logits_BC.softmax(1)
    torch.testing.assert_close(model(given), 3.0 * summed)


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_absent_modality_counts_for_nothing(kind):
    model = fusion(kind)
    half = model(evidence(audio=[True, False, True], text=[True, True, False]))
    both = model(evidence())
    torch.testing.assert_close(half[0], both[0])
    for row, name in ((1, "text"), (2, "audio")):
        alone = model({name: evidence()[name]})
        torch.testing.assert_close(half[row], alone[row])
        assert not torch.allclose(half[row], both[row])
    # What an absent branch's numbers are makes no difference.
    other = evidence(audio=[True, False, True], text=[True, True, False])
    with torch.no_grad():
        other["audio"].logits_BC[1] = 7.0
        other["audio"].vector_BD[1] = 7.0
    torch.testing.assert_close(model(other), half)


@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_reach_the_branches_that_are_there_and_only_those(kind):
    model = fusion(kind)
    given = evidence(audio=[True, False, False], text=[True, True, False])
    logits = model(given)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    for name, rows in (("text", [True, True, False]), ("audio", [True, False, False])):
        read = given[name].logits_BC if model.reads == "logits" else given[name].vector_BD
        assert (read.grad.abs().sum(1) > 0).tolist() == rows
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(kind, dtype):
    model, given = fusion(kind), evidence()
    other = fusion(kind).to(dtype)(evidence(dtype=dtype))
    assert other.dtype == dtype
    torch.testing.assert_close(other.float(), model(given), rtol=0.05, atol=0.05)


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
        given[name] = Evidence((likelihood + 1e-6).log(), vector, torch.ones(rows) > 0)
    ceiling = (posterior.argmax(1) == truth).float().mean().item()
    assert ceiling > 0.78

    model = fusion(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(200):
        loss = torch.nn.functional.cross_entropy(model(given), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    reached = (model(given).argmax(1) == truth).float().mean().item()
    assert reached > ceiling - 0.015
