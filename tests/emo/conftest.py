"""Runs under every strategy in three groups of real processes, for the tests of exactness."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
CROSSED = (("zero1", 2), ("zero3", 4), ("fsdp", 8), ("zero2", 10), ("cpu", 0))  # stopped at
STRATEGIES = ("cpu", "zero1", "zero2", "zero3", "fsdp")


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    run: Path
    outcomes: tuple[str, ...]  # what each rank said at its end

    @property
    def outcome(self) -> str:
        """What all ranks said, but for those that only ended because another one failed."""
        said = {one for one in self.outcomes if not one.startswith("error: rank ")}
        assert len(said) == 1, self.outcomes
        return said.pop()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / "log.jsonl").read_text().splitlines()]

    @property
    def losses(self) -> dict[int, float]:
        """By step."""
        return {line["step"]: line["loss"] for line in self.log if line["group"] == "train"}

    @property
    def newest(self) -> Path:
        return max((self.run / "checkpoints").glob("step-????????"))

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.newest / "weights.safetensors")

    def weights_of(self, checkpoint: str) -> dict[str, torch.Tensor]:
        return load_file(self.run / "checkpoints" / checkpoint / "weights.safetensors")

    def moments(self) -> dict[str, torch.Tensor]:
        return load_file(self.newest / "moments.safetensors")

    def state(self) -> dict[str, Any]:
        return json.loads((self.newest / "state.json").read_text())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run_group(folder: Path, world: int, jobs: list[dict[str, Any]]) -> dict[str, Result]:
    """Do `jobs` one after the other in `world` processes; results by the run folder's name."""
    path = folder / f"jobs-{world}-{len(list(folder.glob('jobs-*.json')))}.json"
    path.write_text(json.dumps(jobs))
    ranks, port = [], str(free_port())
    for rank in range(world):
        environment = os.environ | {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        log = (folder / f"{path.stem}-rank{rank}.log").open("w")
        ranks.append(
            subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "group.py"), str(path)],
                env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    try:
        codes = [process.wait(900) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    logs = [(folder / f"{path.stem}-rank{rank}.log").read_text() for rank in range(world)]
    assert codes == [0] * world, "\n".join(logs)
    print(logs[0])
    said = [json.loads(path.with_suffix(f".rank{rank}").read_text()) for rank in range(world)]
    return {Path(run).name: Result(Path(run), tuple(one[run] for one in said)) for run in said[0]}


@pytest.fixture(scope="module", autouse=True)
def _signals() -> Iterator[None]:
    """Training in this process leaves its answer to SIGTERM behind."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def together() -> Callable[[Path, int, list[dict[str, Any]]], dict[str, Result]]:
    """`run_group` above."""
    return run_group


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, tiny: Path, make_settings: Any) -> Any:
    """Every run below by name: `{strategy}-{world}`, `fp64-{world}`, `gradient-{world}` and so on.

    `elastic*` are stopped in the middle of an epoch at 2 processes, go on and are stopped again at
    1, and end at 3; `parts` holds their losses after each, `records` the folders that say which
    rows every step used. `stopped-*` stop in the middle of an epoch and go on; `crossed` does so
    under one strategy after the other.
    """
    folder = tmp_path_factory.mktemp("runs")

    def job(name: str, strategy: str = "cpu", stop_at: int = 0, **changes: Any) -> dict[str, Any]:
        config = make_settings(tiny, folder / name, **{"dropout": 0.0} | changes)
        record = str(records[name]) if name in records else None
        return {"strategy": strategy, "config": config, "stop_at": stop_at, "record": record,
                "as_ranks": name == "long-split-1"}  # fmt: skip

    fp64 = {"runtime": {"precision": "fp64"}}
    whole = {"train__global_batch": 144, "train__epochs": 1, "optim__clip": None}  # one step
    # Without schedule and clipping, and at a high rate: rounding grows until it can be compared.
    hot = {"lr": 0.02, "weight_decay": 1e-2}
    long = {"train__epochs": 9, "optim": hot}
    frozen = {"model__freeze": ["text", "audio"]}
    on = {"resume": "auto"}
    branches = make_settings(tiny, folder, dropout=0.0)["model"]
    recomputed = {
        f"model__{branch}": branches[branch] | {"activation_checkpointing": True}
        for branch in ("text", "audio")
    }
    elastic = {"train__epochs": 4, "resume": "auto"}
    stops = [("elastic", "cpu", fp64), ("elastic-zero2", "zero2", {})]

    records = {name: folder / f"{name}-rows" for name, *_ in stops}
    for path in records.values():
        path.mkdir()

    found = run_group(
        folder,
        2,
        [
            *(job(f"{strategy}-2", strategy) for strategy in STRATEGIES if strategy != "zero3"),
            job("fp64-2", **fp64),
            job("gradient-2", **whole),
            job("long-2", **long),
            *(
                job(f"bf16-{strategy}-2", strategy, runtime={"precision": "bf16"})
                for strategy in ("cpu", "zero2", "fsdp")
            ),
            job("accumulated-2", train__accumulation=3),
            job("frozen-zero1-2", "zero1", **frozen),
            job("frozen-fsdp-2", "fsdp", **frozen),
            *(job(name, how, 3, **elastic, **more) for name, how, more in stops),
            job("recomputed-2", **recomputed),
            *(job(f"stopped-{how}", how, at, **on) for how in ("zero1", "fsdp") for at in (8, 0)),
            # The last: ZeRO-3 puts another torch.nn.functional.linear into its process, for good.
            job("zero3-2", "zero3"),
            job("frozen-zero3-2", "zero3", **frozen),
            *(job("stopped-zero3", "zero3", at, **on) for at in (8, 0)),
            *(job("crossed", how, at, **on) for how, at in CROSSED),
        ],
    )
    parts = {name: [found[name].losses] for name, *_ in stops}
    found |= run_group(
        folder,
        1,
        [
            job("cpu-1"),
            job("fsdp-1", "fsdp"),
            job("adamw-1", optim__name="adamw"),
            job("fp64-1", **fp64),
            job("gradient-1", **whole),
            job("long-1", **long),
            job("long-split-1", **long, train__accumulation=2),
            job("elastic-whole", **elastic, **fp64),
            job("elastic-zero2-whole", "zero2", **elastic),
            *(job(name, how, 10, **elastic, **more) for name, how, more in stops),
        ],
    )
    for name, *_ in stops:
        parts[name].append(found[name].losses)
    found |= run_group(
        folder,
        3,
        [
            job("fp64-3", **fp64),
            *(job(name, how, **elastic, **more) for name, how, more in stops),
        ],
    )
    for name, *_ in stops:
        parts[name].append(found[name].losses)
    return found | {"parts": parts, "records": records}


@pytest.fixture(scope="session")
def trained_runs(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, make_settings: Any
) -> dict[str, Path]:
    """Runs "text", "audio" and "fusion" of frozen branches, trained by this process; read only."""
    from emo.config import ExperimentConfig
    from emo.training.train import train
    from shards.configfile import parse

    before = signal.getsignal(signal.SIGTERM)
    folder = tmp_path_factory.mktemp("trained")
    branches = make_settings(tiny, folder)["model"]
    models: dict[str, dict[str, Any]] = {
        "text": {"text": branches["text"]},
        "audio": {"audio": branches["audio"]},
        "fusion": branches
        | {"fusion": {"kind": "paper", "identity_start": True}, "freeze": ["text", "audio"]},
    }
    for kind, model in models.items():
        init = {name: str(folder / name) for name in ("text", "audio")} if kind == "fusion" else {}
        changes = {"optim__lr": 0.01, "train__epochs": 4, "data__view__test": 0.3, "init": init}
        settings = make_settings(tiny, folder / kind, name=f"tiny-{kind}", model=model, **changes)
        assert train(parse(ExperimentConfig, settings, "the tests")) == "done"
    signal.signal(signal.SIGTERM, before)
    return {kind: folder / kind for kind in models}


@pytest.fixture(scope="session")
def tiny_corpus(tiny: Path) -> Path:
    """The corpus that the tiny dataset was built from: `turns.jsonl` and its recordings."""
    return tiny.parent / "corpus"
