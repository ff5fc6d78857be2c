"""What an older version of the code has made: it opens, verifies, resumes and says the same.

`tests/old_work` holds a corpus, its dataset, a dataset of what branches say of it, four runs (one
stopped in the middle), an export, and what the code of that commit made of them afterwards. Where
that was recorded on a machine like this one, every bit must come out again; elsewhere other vector
instructions round otherwise, and numbers may differ by 1e-5.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
OLD = Path(__file__).parent / "old_work"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())
_spec = importlib.util.spec_from_file_location("old_work_make", OLD / "make.py")
assert _spec is not None
assert _spec.loader is not None
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)
TOLERANCE = 0.0 if make.machine() == EXPECTED["machine"] else 1e-5
RUNS = ("text", "fusion", "context")


def unpack(folder: Path) -> Path:
    with tarfile.open(OLD / "work.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old folder; of what is in it, tests rewrite the results of an evaluation alone."""
    return unpack(tmp_path_factory.mktemp("old"))


@pytest.fixture
def here(work: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same, as the working directory and with one thread, as it was made."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(work)
    yield work
    torch.set_num_threads(threads)


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """What of `old` is missing or different in `new`, which may hold more."""
    if isinstance(old, dict):
        if not isinstance(new, dict):
            return [f"{where}: {new!r} is no mapping"]
        return [
            line
            for key in old
            for line in (
                differences(old[key], new[key], f"{where}/{key}")
                if key in new
                else [f"{where}/{key} is missing"]
            )
        ]
    if isinstance(old, list):
        if not isinstance(new, list) or len(old) != len(new):
            return [f"{where}: {old!r} became {new!r}"]
        pairs = enumerate(zip(old, new, strict=True))
        return [line for n, (a, b) in pairs for line in differences(a, b, f"{where}/{n}")]
    if isinstance(old, float) and isinstance(new, float):
        near = math.isclose(old, new, rel_tol=0, abs_tol=TOLERANCE)
        return [] if near or (math.isnan(old) and math.isnan(new)) else [f"{where}: {old} {new}"]
    return [] if old == new else [f"{where}: {old!r} became {new!r}"]


def results(path: Path) -> dict[str, Any]:
    """A metrics.json, without the commit that wrote it, and with each metric's present name."""
    facts: dict[str, Any] = json.loads(path.read_text())
    del facts["code"]
    for part in facts["parts"].values():
        for one in part.get("alone", {}).values():
            if "f1" in one:
                one["weighted_f1"] = one.pop("f1")
    return facts


def test_the_archive_is_small():
    assert sum(path.stat().st_size for path in OLD.iterdir() if path.is_file()) < 300_000


@pytest.mark.parametrize("name", ["shards", "vectors"])
def test_datasets_are_whole_and_keep_their_hash(here, name, capsys):
    from shards.__main__ import main
    from shards.store.index import open_dataset

    assert main(["verify", name, "--deep", "--workers", "1"]) == 0
    dataset = open_dataset(Path(name))
    assert dataset.manifest.dataset_hash == EXPECTED["datasets"][name]
    assert f"{dataset.manifest.summary.samples} samples" in capsys.readouterr().out


def test_a_build_finds_every_shard_there(here, tmp_path, capsys):
    from shards.__main__ import main

    shutil.copytree("shards", tmp_path / "shards")
    before = {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("shard-*")}
    settings = [f"output.folder={tmp_path / 'shards'}", "workers=1", "check=deep"]
    assert main(["build", "shards.yaml", *settings]) == 0
    assert "3 of 3 shards are there already" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("shard*")}
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert manifest["dataset_hash"] == EXPECTED["datasets"]["shards"]


def test_a_new_build_makes_the_same_dataset(here, tmp_path):
    from shards.__main__ import main
    from shards.store.index import open_dataset

    assert main(["build", "shards.yaml", f"output.folder={tmp_path / 'new'}", "workers=1"]) == 0
    old, new = open_dataset(Path("shards")), open_dataset(tmp_path / "new")
    if TOLERANCE == 0:
        assert new.manifest.dataset_hash == old.manifest.dataset_hash
    else:
        assert new.manifest.settings == old.manifest.settings
        assert new.manifest.summary.samples == old.manifest.summary.samples


def test_views_choose_the_same_turns(here):
    from emo.runs.folder import load_config
    from shards.store.index import open_dataset
    from shards.views.view import COLUMNS, make_view

    for name, wanted in EXPECTED["views"].items():
        config = load_config(Path("runs") / name)
        dataset = open_dataset(config.data.shards)
        view = make_view(dataset.columns(*COLUMNS), config.data.view)
        assert view.digest == wanted["view"], name
        found = {"val": len(view.val), "test": len(view.test)}
        assert found.items() <= wanted["counts"].items(), name


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    """In two processes, as it began, and with its own configuration."""
    from safetensors.numpy import load_file

    work = unpack(tmp_path)
    commands = make.Commands(ROOT, work)
    output = commands.train("runs/audio/config.yaml", "resume=auto", processes=2)
    assert "resuming from runs/audio/checkpoints/step-000000" in output
    newest = max((work / "runs/audio/checkpoints").glob("step-*"))
    assert newest.name == EXPECTED["last_step"]
    for name in ("weights", "moments"):
        old = load_file(work / f"expected/audio-{name}.safetensors")
        new = load_file(newest / f"{name}.safetensors")
        assert old.keys() == new.keys()
        for key in old:
            assert old[key].dtype == new[key].dtype, key
            assert abs(old[key] - new[key]).max(initial=0) <= TOLERANCE, key
    wanted, found = (
        results(path) for path in (work / "expected/audio.json", work / "runs/audio/metrics.json")
    )
    assert not differences(wanted, found)


def test_evaluation_and_comparison_find_the_same_numbers(work):
    commands = make.Commands(ROOT, work)
    before = {name: (work / f"runs/{name}/predictions-test.jsonl").read_text() for name in RUNS}
    for name in RUNS:
        (work / "runs" / name / "metrics.json").unlink()
    commands.emo("eval", *make.COMPARED)
    for name in RUNS:
        wanted = results(work / f"expected/{name}.json")
        assert not differences(wanted, results(work / "runs" / name / "metrics.json")), name
        after = (work / f"runs/{name}/predictions-test.jsonl").read_text()
        pairs = zip(before[name].splitlines(), after.splitlines(), strict=True)
        for old, new in pairs:
            assert not differences(json.loads(old), json.loads(new)), name

    commands.emo("compare", *make.COMPARED, "--csv", "table.csv")
    wanted_rows = list(csv.DictReader(EXPECTED["table"]))
    rows = list(csv.DictReader((work / "table.csv").read_text().splitlines()))
    assert len(rows) == len(wanted_rows)
    for old_row, new_row in zip(wanted_rows, rows, strict=True):
        for column, value in old_row.items():
            assert not differences(number(value), number(new_row[column])), column


def number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


@pytest.mark.parametrize("which", sorted(make.PREDICTIONS))
def test_runs_and_exports_predict_the_same(here, which, capsys):
    from emo.__main__ import main

    assert main(["predict", "--json", *make.PREDICTIONS[which]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not differences(EXPECTED["predictions"][which], found)


def test_an_export_of_an_old_run_is_the_old_export(here, tmp_path):
    from safetensors.numpy import load_file

    from emo.__main__ import main

    assert main(["export", "runs/fusion", str(tmp_path / "again")]) == 0
    old, new = (load_file(f / "model.safetensors") for f in (Path("export"), tmp_path / "again"))
    assert old.keys() == new.keys()
    assert all((old[key] == new[key]).all() for key in old)


def test_branches_say_the_same_of_every_turn(work, tmp_path):
    """`emo features` of a finished and a stopped run writes the old dataset again."""
    commands = make.Commands(ROOT, work)
    commands.emo("features", "runs/text", "runs/audio", str(tmp_path / "vectors"))
    old, new = (
        json.loads((folder / "vectors" / "manifest.json").read_text())
        for folder in (work, tmp_path)
    )
    assert new["settings"] == old["settings"]
    if TOLERANCE == 0:
        assert new["dataset_hash"] == old["dataset_hash"]
