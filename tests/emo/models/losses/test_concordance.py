"""The CCC loss, by itself and as ranks and micro-batches compute it in real processes."""

import multiprocessing
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emo.models.attributes.config import AttributesConfig
from emo.models.losses.concordance import concordance, concordance_loss
from emo.models.losses.config import CrossEntropyConfig
from emo.models.losses.objective import Objective

FACTORS = (1.0, 0.5, 2.0)


def lin(x: np.ndarray, y: np.ndarray) -> float:
    """As it is defined, with numpy's own moments."""
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_is_lins_and_1_only_for_equal_vectors():
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, 50), rng.normal(2, 1, 50)
    assert float(concordance(*map(torch.from_numpy, (x, y)))) == pytest.approx(lin(x, y), abs=1e-12)
    y = torch.arange(5.0, dtype=torch.float64)
    assert float(concordance(y, y)) == pytest.approx(1)
    assert float(concordance(y.flip(0), y)) == pytest.approx(-1)
    # A shift and a factor lower it, though the correlation stays 1.
    assert float(concordance(y + 1, y)) == pytest.approx(4 / 5)
    assert float(concordance(2 * y, y)) == pytest.approx(2 * 2 * 2 / (2 + 8 + 4))


@pytest.mark.parametrize("y", [[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("x", [[2.0, 2.0, 2.0], [0.5, 0.6, 0.7]])
def test_no_variance_is_no_nan(x, y):
    x = torch.tensor([x], dtype=torch.float64).T.requires_grad_()
    loss = concordance_loss(x, torch.tensor([y], dtype=torch.float64).T, (1.0,))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()


def test_rows_without_an_attribute_are_left_out_of_it_alone():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(2, 20, 3))
    y[3:7, 0] = np.nan
    y[1:, 2] = np.nan  # one turn is too few: it adds nothing
    given = torch.from_numpy(x).requires_grad_()
    loss = concordance_loss(given, torch.from_numpy(y), FACTORS)
    there = ~np.isnan(y[:, 0])
    wanted = FACTORS[0] * (1 - lin(x[there, 0], y[there, 0])) + FACTORS[1] * (
        1 - lin(x[:, 1], y[:, 1])
    )
    assert loss.item() == pytest.approx(wanted, abs=1e-12)
    loss.backward()
    assert (given.grad[3:7, 0] == 0).all()
    assert (given.grad[:, 2] == 0).all()
    assert (given.grad[:, 1] != 0).all()


def test_settings_are_checked():
    with pytest.raises(ValueError, match="did you mean 'valence'"):
        AttributesConfig(names=("valence",), weights={"valense": 1})
    with pytest.raises(ValueError, match="twice"):
        AttributesConfig(names=("valence", "valence"))
    config = AttributesConfig(names=("valence", "arousal"), weight=2, weights={"arousal": 0.5})
    assert config.factors == (2, 0.5)


ROWS, WIDTH, ATTRIBUTES = 48, 5, ("arousal", "valence", "dominance")


def _data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, targets with gaps, and which rows count."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(ROWS, WIDTH)), rng.uniform(size=(ROWS, len(ATTRIBUTES)))
    y[rng.uniform(size=y.shape) < 0.2] = np.nan
    valid = rng.uniform(size=ROWS) < 0.9
    return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(valid)


def _head() -> torch.nn.Linear:
    torch.manual_seed(3)
    return torch.nn.Linear(WIDTH, len(ATTRIBUTES))  # in float32, as models are


def _whole() -> tuple[float, torch.Tensor]:
    """The loss and its gradient by the weights, of the whole batch at once."""
    x, y, valid = _data()
    head = _head()
    predicted = torch.sigmoid(head(x.float())).double()
    loss = concordance_loss(predicted[valid], y[valid], FACTORS)
    loss.backward()
    return float(loss), head.weight.grad.double()


def _objective() -> Objective:
    weights = dict(zip(ATTRIBUTES, FACTORS, strict=True))
    config = AttributesConfig(names=ATTRIBUTES, weights=weights)
    return Objective(CrossEntropyConfig(), ["a", "b"], np.ones(2), attributes=config)


def _rank(rank: int, world: int, port: int, results) -> None:
    """One rank: its share of the batch, in 1, 2 and 3 micro-batches, through the real code."""
    import torch.distributed as dist

    from emo.data.plan import rank_slices
    from emo.distributed.collectives import Collectives
    from emo.training import whole_batch

    torch.set_num_threads(1)
    if world > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    x, y, valid = _data()
    objective = _objective()
    found = []
    for accumulation in (1, 2, 3):
        head = _head()
        micro = [
            SimpleNamespace(
                row=torch.from_numpy(rows), valid=valid[rows], target=torch.zeros(len(rows), 2)
            )
            for rows in rank_slices(np.arange(ROWS), world, rank, accumulation)
        ]

        def outputs(batch, head=head):
            return {"attributes": torch.sigmoid(head(x[batch.row].float()))}

        run = SimpleNamespace(
            runtime=Collectives(rank, world, 60.0),
            experiment=SimpleNamespace(
                objective=objective, attributes=SimpleNamespace(values=y.numpy())
            ),
        )
        with torch.no_grad():
            before = [outputs(batch) for batch in micro]
        value, ahead = whole_batch.pulls(run, before, micro)
        for batch, pull in zip(micro, ahead, strict=True):
            whole_batch.pulled(outputs(batch), pull, batch.valid).backward()
        gradient = head.weight.grad.double()
        if world > 1:
            dist.all_reduce(gradient)  # the sum: nothing was divided by ranks
        found.append((value, gradient.numpy()))
    if rank == 0:
        results.put(found)
    if world > 1:
        dist.destroy_process_group()


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_and_micro_batches_get_the_whole_batchs_loss_and_gradient(world):
    """To 1e-6, though the model is in float32: moments are in float64 over all turns."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")  # torch is loaded, and has no threads here
    results = context.Queue()
    ranks = [context.Process(target=_rank, args=(n, world, port, results)) for n in range(world)]
    for one in ranks:
        one.start()
    found = results.get(timeout=120)
    for one in ranks:
        one.join(60)
        assert one.exitcode == 0
    wanted, gradient = _whole()
    for value, summed in found:
        assert value == pytest.approx(wanted, abs=1e-6)
        assert np.abs(summed - gradient.numpy()).max() < 1e-6
    assert len(found) == 3


def test_the_mean_of_micro_batches_is_another_number():
    """What is compared above tells them apart."""
    x, y, valid = _data()
    predicted = torch.sigmoid(_head()(x.float())).double().detach()
    parts = [slice(n, n + 12) for n in range(0, ROWS, 12)]
    mean = np.mean(
        [float(concordance_loss(predicted[p][valid[p]], y[p][valid[p]], FACTORS)) for p in parts]
    )
    assert abs(mean - _whole()[0]) > 1e-3
