"""Checkpoints: damaged ones are named and passed over, and nothing in them is ever run."""

import json
import os
import pickle
import shutil
import signal

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from safetensors.torch import load_file, save_file

from emo.config import ExperimentConfig
from emo.distributed.state import loss_scale, set_loss_scale
from emo.runs import checkpoint
from emo.runs.checkpoint import CheckpointError
from emo.training.train import train
from shards.configfile import parse


def run_of(settings):
    """In this process, as a lone one."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return train(parse(ExperimentConfig, settings, "the test"))
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory, make_settings):
    """The settings of a run of 6 steps that kept every checkpoint; do not change its folder."""
    settings = make_settings(
        tiny, tmp_path_factory.mktemp("whole") / "run", train__epochs=1, resume="auto",
        train__checkpoint_steps=1, train__keep=9,
    )  # fmt: skip
    assert run_of(settings) == "done"
    return settings


@pytest.fixture
def again(whole, tmp_path):
    """A copy of that run, as it was after step 4, and its settings."""
    settings = whole | {"run": str(tmp_path / "run")}
    shutil.copytree(whole["run"], settings["run"])
    folder = tmp_path / "run/checkpoints"
    (folder / "best.json").unlink()
    for step in (5, 6):
        shutil.rmtree(folder / f"step-{step:08d}")
    return settings, folder


def seal(folder):
    """Make the manifest fit what the files hold now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    names = [path for path in folder.iterdir() if path.name != "manifest.json"]
    manifest["files"] = {path.name: checkpoint._fingerprint(path) for path in names}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "weights.safetensors has changed": lambda folder: flip(folder / "weights.safetensors"),
    "moments.safetensors has changed": lambda folder: os.truncate(
        folder / "moments.safetensors", 1000
    ),
    "rng-0.pt is missing": lambda folder: (folder / "rng-0.pt").unlink(),
    "state.json has changed": lambda folder: (folder / "state.json").write_text("{}"),
    "manifest cannot be read": lambda folder: flip_first(folder / "manifest.json"),
}


def flip_first(path):
    path.write_bytes(b"x" + path.read_bytes()[1:])


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_one_is_named_and_passed_over(what, again):
    _, folder = again
    DAMAGE[what](folder / "step-00000004")
    path, lines = checkpoint.newest(folder)
    assert path == folder / "step-00000003"
    assert len(lines) == 1
    assert "step-00000004" in lines[0]
    assert what in lines[0]
    assert (folder / "step-00000004.damaged").is_dir()
    assert checkpoint.newest(folder) == (path, [])  # said once


def test_resume_takes_the_newest_whole_one_and_ends_the_same(again, whole, capfd):
    settings, folder = again
    flip(folder / "step-00000004/weights.safetensors")
    (folder / "step-00000003/manifest.json").unlink()
    (folder / "step-00000005.tmp").mkdir()  # a killed save
    assert run_of(settings) == "done"
    said = capfd.readouterr().out
    assert "step-00000004 is damaged (weights.safetensors has changed" in said
    assert "step-00000003 is damaged (its manifest cannot be read)" in said
    assert f"resuming from {folder / 'step-00000002'}" in said
    assert not list(folder.glob("*.tmp"))
    for name in ("weights", "moments"):
        one = load_file(f"{whole['run']}/checkpoints/step-00000006/{name}.safetensors")
        two = load_file(folder / f"step-00000006/{name}.safetensors")
        assert one.keys() == two.keys()
        assert all(one[key].equal(two[key]) for key in one)


def test_without_a_whole_one_it_starts_again(again, capfd):
    settings, folder = again
    for path in folder.glob("step-*"):
        flip(path / "weights.safetensors")
    assert run_of(settings) == "done"
    said = capfd.readouterr().out
    assert said.count("is damaged") == 4
    assert "no checkpoint yet: from the start" in said


def test_a_missing_random_state_is_an_error(again):
    settings, folder = again
    (folder / "step-00000004/rng-0.pt").unlink()
    seal(folder / "step-00000004")
    with pytest.raises(CheckpointError, match=r"rng-0\.pt is missing"):
        run_of(settings)


def test_a_pickle_that_does_more_is_not_loaded(again, tmp_path):
    """Even where the manifest fits it: a run folder may come from anybody."""
    settings, folder = again
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {canary}",))

    with (folder / "step-00000004/rng-0.pt").open("wb") as file:
        pickle.dump(Evil(), file)
    seal(folder / "step-00000004")
    with pytest.raises(CheckpointError, match="more than tensors"):
        run_of(settings)
    assert not canary.exists()


def test_weights_of_another_model_are_refused_by_name(again):
    settings, folder = again
    path = folder / "step-00000004/weights.safetensors"
    weights = load_file(path)
    weights["stray"] = weights.pop("fusion.head.bias")
    save_file(weights, path)
    seal(folder / "step-00000004")
    with pytest.raises(CheckpointError, match=r"missing \['fusion\.head\.bias'.*'stray'"):
        run_of(settings)


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    for step in range(1, 7):
        (tmp_path / f"step-{step:08d}").mkdir()
    (tmp_path / "step-00000007.tmp").mkdir()
    (tmp_path / "best.json").write_text(json.dumps({"step": 2, "score": 0.5}))
    checkpoint._prune(tmp_path, 2)
    names = {path.name for path in tmp_path.glob("step-*")}
    assert names == {"step-00000002", "step-00000005", "step-00000006"}


def test_the_search_for_a_loss_scale_goes_on_where_it_was():
    """fp16 itself needs a GPU; what searches for its scale does not."""

    def scaler():
        return torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=5)

    def step(one, overflow):
        weight = torch.ones(1, requires_grad=True)
        one.scale(weight.sum() * (float("inf") if overflow else 1.0)).backward()
        one.step(torch.optim.SGD([weight], lr=0.1))
        one.update()

    first, second = scaler(), scaler()
    for overflow in (False, True, True, False, False, False):
        step(first, overflow)
    set_loss_scale(second, json.loads(json.dumps(loss_scale(first))))
    assert loss_scale(second) == loss_scale(first) == {"scale": 2.0**6, "since": 3}
    for overflow in (False, False, False, False, True, False):
        step(first, overflow)
        step(second, overflow)
        assert loss_scale(second) == loss_scale(first)
    assert loss_scale(None) is None


def test_deepspeeds_search_goes_on_too():
    """Without an overflow: DeepSpeed reports one to a process group, which is not there."""
    first, second = (DynamicLossScaler(2.0**8, 5, 1.0, 2, False, dtype=torch.half) for _ in "ab")
    first.cur_hysteresis = 1
    for _ in range(3):
        first.update_scale(False)
    set_loss_scale(second, json.loads(json.dumps(loss_scale(first))))
    assert second.cur_hysteresis == 1
    scales = []
    for _ in range(12):
        first.update_scale(False)
        second.update_scale(False)
        assert loss_scale(second) == loss_scale(first)
        scales.append(second.cur_scale)
    assert len(set(scales)) > 1
