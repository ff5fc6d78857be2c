"""The package outside its repository: a wheel, installed into a folder, does what the demo does."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from shards import __version__

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the sources, by way of the source distribution, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("emo", "shards", "launch"):
        shutil.copytree(
            ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*build, str(folder / "source")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def outside(wheel, tmp_path_factory):
    """`outside(*command)` runs where nothing but the installed wheel is to be found."""
    site, work = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("work")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
    paths = [str(site / "bin"), str(Path(sys.executable).parent), "/usr/bin", "/bin"]
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("EMO_", "GIT_"))}
    environment = keep | {"PYTHONPATH": str(site), "PATH": os.pathsep.join(paths)}
    environment |= {"EMO_PROCESSES": "2", "OMP_NUM_THREADS": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.site = site
    return run


def test_the_wheel_holds_every_module_and_what_starts_a_training(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(ROOT))
        for part in ("emo", "shards")
        for path in (ROOT / part).rglob("*.py")
    }
    assert sources <= names
    launch = {
        str(path.relative_to(ROOT)) for path in (ROOT / "launch").rglob("*")
        if path.suffix in (".yaml", ".json", ".py") or path.name == "train.sh"
    }  # fmt: skip
    assert len(launch) > 10
    assert {f"emo/{name}" for name in launch} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    rest = {n for n in names - sources if not n.startswith("emo/launch/") and "dist-info" not in n}
    pages = {
        str(path.relative_to(ROOT)) for part in ("emo", "shards")
        for path in (ROOT / part).rglob("*") if path.suffix in (".html", ".css")
    }  # fmt: skip
    assert rest == pages


def test_the_demos_steps_outside_the_repository(outside, tiny, make_settings, tmp_path):
    """Configuration, preprocessing, one epoch through train.sh, the comparison."""
    assert outside("emo", "--version") == f"emo {__version__}\n"
    assert outside("emo-shards", "--version") == f"emo-shards {__version__}\n"

    shards, run = tmp_path / "shards", tmp_path / "run"
    config = tmp_path / "shards.yaml"
    shutil.copy(tiny / "config.yaml", config)
    said = outside("emo-shards", "build", config, f"output.folder={shards}", "workers=1")
    assert f"published   {shards}" in said
    assert (shards / "manifest.json").read_bytes() == (tiny / "manifest.json").read_bytes()

    experiment = tmp_path / "tiny.yaml"
    experiment.write_text(yaml.safe_dump(make_settings(shards, run, train__epochs=1)))
    assert "global_batch: 24" in outside("emo", "config", experiment)
    train = outside("python", "-c", "from emo.distributed.launch_files import TRAIN; print(TRAIN)")
    assert Path(train.strip()) == outside.site / "emo/launch/train.sh"
    said = outside(train.strip(), "cpu", experiment)
    assert "strategy cpu · 2 processes" in said
    assert f'"code": "emo-shards {__version__}"' in (run / "run.json").read_text()
    assert "tiny" in outside("emo", "compare", run)


@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_the_settings_of_deepspeed_are_found_outside_the_repository(outside, strategy, tmp_path):
    (tmp_path / "any.yaml").touch()
    train = outside.site / "emo/launch/train.sh"
    command = outside(train, strategy, tmp_path / "any.yaml", "--dry-run").split()
    for option in ("--config_file", "--deepspeed_config_file"):
        path = Path(command[command.index(option) + 1])
        assert path.is_file()
        assert path.is_relative_to(outside.site)
    code = (
        f"from emo.distributed import launch_files as f; print(f.deepspeed_settings('{strategy}'))"
    )
    assert Path(outside("python", "-c", code).strip()).is_file()
