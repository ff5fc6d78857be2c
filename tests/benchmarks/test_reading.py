"""What benchmarks/reading.py counts, on a dataset whose last batch is not full."""

import sys
from pathlib import Path

import pytest

SAMPLES = 80  # two batches and a half, and two shards of different length


@pytest.fixture(scope="module")
def reading():
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    import reading

    yield reading
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def made(reading, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reading") / "shards"
    reading.make_dataset(folder, SAMPLES)
    return folder


def test_every_reader_can_be_measured_when_the_last_batch_is_not_full(reading, made):
    sizes = [len(batch["audio"]) for batch in reading.Ours(made, 0)]
    assert sizes == [reading.BATCH] * 3
    for make in (
        lambda: reading.Ours(made, 0, 2),
        lambda: reading.stream(made, 0),
        lambda: reading.Limit(made),
    ):
        rate, _ = reading.measure(make, SAMPLES, 1)
        assert rate > 0


@pytest.mark.parametrize("change", [-1, 33])
def test_a_reader_that_leaves_out_or_repeats_samples_is_not_measured(reading, made, change):
    with pytest.raises(AssertionError, match=f"80 samples, not {SAMPLES - change}"):
        reading.measure(lambda: reading.stream(made, 0), SAMPLES - change, 1)
