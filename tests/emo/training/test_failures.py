"""What may go wrong while two processes train: every rank ends, the cause is said, nothing is lost.

One group of two ranks goes from one failure to the next; launch/train.sh's own part in it is tested
in tests/launch.
"""

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A real file system of 300 kB: one checkpoint of a run fits into it, a second one does not."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny, make_settings, together, small_disk):
    """Every run by name."""
    folder = tmp_path_factory.mktemp("failures")

    def job(name, strategy="cpu", where=folder, copy_of=None, more=None, **changes):
        basis = {"train__epochs": 1, "train__checkpoint_steps": 1, "train__keep": 9}
        config = make_settings(tiny, where / name, resume="auto", **(basis | changes))
        made = {"strategy": strategy, "config": config} | (more or {})
        return made | ({"copy_of": str(folder / copy_of)} if copy_of else {})

    def broken(name, fault, *arguments, **changes):
        return job(name, *arguments, **changes, more={"fault": fault})

    exploding = {"optim__lr": 1e30, "optim__clip": None, "optim__schedule": "constant"}
    skip = {"train__nonfinite": "skip"}
    jobs = [
        job("plain"),
        broken("nan", "1:3:nan"),
        job("nan-resumed", copy_of="nan"),
        broken("nan-zero2", "1:3:nan", "zero2"),
        broken("gradient", "0:3:gradient"),
        broken("gradient-zero2", "0:3:gradient", "zero2"),
        broken("skipped", "1:3:nan", **skip),
        job("exploding", **skip, train__max_nonfinite=2, **exploding),
        broken("no-room", "0:3:no_room"),
        job("no-room-resumed", copy_of="no-room"),
        broken("no-room-on-1", "1:3:no_room"),
        job("no-time", train__max_minutes=0.0001),
        job("no-time-resumed", copy_of="no-time"),
        job(
            "user-signal", runtime={"preempt_signals": ["USR1"]},
            more={"stop_at": 2, "signal": "SIGUSR1"},
        ),
        job("user-signal-resumed", copy_of="user-signal"),
    ]  # fmt: skip
    if small_disk:
        jobs.append(job("full", where=small_disk))
    # The last: ZeRO-3 puts another torch.nn.functional.linear into its process, for good.
    jobs.append(broken("gradient-zero3", "0:3:gradient", "zero3"))
    return together(folder, 2, jobs)


def same(one, two):
    return one.keys() == two.keys() and all(one[n].equal(two[n]) for n in one)


def steps(result):
    return [int(path.name[5:]) for path in sorted(result.run.glob("checkpoints/step-????????"))]


def at(result, step):
    return load_file(result.run / f"checkpoints/step-{step:08d}/weights.safetensors")


@pytest.mark.parametrize(
    "name", ["nan", "nan-zero2", "gradient", "gradient-zero2", "gradient-zero3"]
)
def test_a_step_that_is_not_finite_ends_the_run_before_it_harms_it(name, found):
    result = found[name]
    assert result.outcome.startswith("error: step 3 is not finite")
    facts = json.loads((result.run / "bad-step.json").read_text())
    assert facts["step"] == 3
    assert len(facts["utterances"]) == 24
    assert all(utterance in result.outcome for utterance in facts["utterances"][:8])
    assert "and 16 more in" in result.outcome
    assert len(facts["gradient_norms"]) == 3
    assert f"gradient norms up to it {facts['gradient_norms'][0]:.3g}" in result.outcome
    assert steps(result) == [1, 2]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in at(result, 2).values())


@pytest.mark.parametrize("name", ["nan", "no-room", "no-time", "user-signal"])
def test_what_stopped_goes_on_as_if_it_had_not(name, found):
    assert found[f"{name}-resumed"].outcome == "done"
    assert same(found[f"{name}-resumed"].weights(), found["plain"].weights())
    assert same(found[f"{name}-resumed"].moments(), found["plain"].moments())


def test_a_step_left_out_is_counted_and_changes_nothing(found):
    result = found["skipped"]
    assert result.outcome == "done"
    assert result.state()["bad_steps"] == 1
    assert same(at(result, 3), at(result, 2))
    assert not same(at(result, 4), at(result, 3))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in result.weights().values())


def test_steps_left_out_are_bounded(found):
    assert "3 such steps so far, 2 allowed" in found["exploding"].outcome
    assert steps(found["exploding"])  # the steps before are there


@pytest.mark.parametrize("name", ["no-room", "no-room-on-1"])
def test_no_room_for_a_checkpoint(name, found):
    """The kernel refuses rank 0's weights, or rank 1's random state: EFBIG."""
    result = found[name]
    assert result.outcome.startswith("error: no room left while writing")
    assert "free some space" in result.outcome
    assert steps(result) == [1, 2]
    assert not list(result.run.glob("checkpoints/*.tmp"))
    assert same(at(result, 2), at(found["plain"], 2))


def test_a_full_disk(found, small_disk):
    """ENOSPC of a real file system."""
    if small_disk is None:
        pytest.skip("mounting a file system needs root")
    result = found["full"]
    assert result.outcome.startswith("error: no room left"), result.outcome
    saved = steps(result)
    assert saved
    assert not list(result.run.glob("checkpoints/*.tmp"))
    assert same(at(result, saved[-1]), at(found["plain"], saved[-1]))


def test_time_and_signals_stop_with_a_checkpoint_of_the_step(found):
    assert found["no-time"].outcome == "out of time"
    assert steps(found["no-time"]) == [0]
    assert found["user-signal"].outcome == "preempted"
    last = steps(found["user-signal"])[-1]
    assert 2 <= last < 6
    assert max(found["user-signal"].losses) == last
