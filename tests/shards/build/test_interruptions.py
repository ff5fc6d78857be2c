"""A build that is stopped, killed, out of space or not alone: nothing half-written is published."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from shards.__main__ import main
from shards.build.job import build
from shards.config import ShardConfig
from shards.configfile import load
from shards.errors import UserError
from shards.store import sidecar
from shards.store.verify import check_dataset


def command(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "shards", "build", str(config), *words]


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp.*")]


@pytest.fixture
def many(tmp_path: Path, small) -> Path:
    """The YAML file of a build of 160 turns, 20 shards, without text."""
    small.write_corpus(tmp_path / "corpus", turns=160)
    config = tmp_path / "many.yaml"
    settings = small.settings(tmp_path / "corpus", tmp_path / "out", text=None)
    config.write_text(yaml.safe_dump(settings))
    return config


def test_what_cannot_be_done_leaves_nothing(corpus: Path, small, tmp_path: Path) -> None:
    text = {"tokenizer": "./nowhere"}
    with pytest.raises(UserError, match="no folder"):
        build(small.config(corpus, tmp_path / "out", text=text), workers=1)
    features = {"kinds": ["logmel"], "fmax": 9000}
    with pytest.raises(UserError, match="fmax"):
        build(small.config(corpus, tmp_path / "out", features=features), workers=1)
    with pytest.raises(UserError, match="from 0 to 2"):
        build(small.config(corpus, tmp_path / "out"), task=3, tasks=3)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_publishes_nothing_and_a_restart_completes(many: Path, tmp_path: Path) -> None:
    limit = 50_000  # bytes; a shard has more, build.json less

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = subprocess.run(
        command(many, "workers=2"), preexec_fn=small_files, capture_output=True, text=True
    )
    out = tmp_path / "out"
    assert run.returncode == 2, run.stderr
    assert "no room left while writing" in run.stderr
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr
    assert not (out / "manifest.json").exists()
    assert not list(out.glob("*.tar"))
    assert not temporaries(out)
    build(load(ShardConfig, many), workers=1)
    check_dataset(out, deep=True, workers=1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`small_disk(size)`: a filesystem of `size` bytes, made or resized."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def mount(size: int) -> Path:
        nonlocal mounted
        options = f"size={size}" + (",remount" if mounted else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and not mounted:
            pytest.skip(f"no mounts here ({done.stderr.strip()}): only RLIMIT_FSIZE is tested")
        assert not done.returncode, done.stderr
        mounted = True
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not shutil.which("mount"), reason="no mount: only RLIMIT_FSIZE is tested")
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8, 0.9, 0.96, 0.99])
def test_a_full_filesystem_publishes_nothing_and_a_restart_completes(
    built: Path,
    corpus: Path,
    small,
    small_disk: Callable[[int], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    share: float,
) -> None:
    expected = small.contents(built)
    out = small_disk(int(share * sum(map(len, expected.values())))) / "out"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(small.settings(corpus, out)))
    assert main(["build", str(config), "workers=1"]) == 2
    errors = capsys.readouterr().err
    assert "no room left while writing" in errors
    assert "run the same command again" in errors
    assert not (out / "manifest.json").exists()
    assert not temporaries(out)
    for path in out.glob("shard-*.json"):  # what counts as made is whole
        assert path.with_suffix(".tar").read_bytes() == expected[path.with_suffix(".tar").name]
    small_disk(1 << 26)
    assert main(["build", str(config), "workers=1"]) == 0
    found = small.contents(out)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == ["config.yaml"]


def test_two_builds_at_once_both_finish_right(many: Path, small, tmp_path: Path) -> None:
    builds = [
        subprocess.Popen(command(many, "workers=1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for one in builds:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors.decode()
    assert not temporaries(tmp_path / "out")
    check_dataset(tmp_path / "out", deep=True, workers=1)
    build(small.config(tmp_path / "corpus", tmp_path / "alone", text=None), workers=1)
    ours, alone = small.contents(tmp_path / "out"), small.contents(tmp_path / "alone")
    assert ours.keys() == alone.keys()
    assert {name for name in ours if ours[name] != alone[name]} == {"config.yaml"}


def test_of_two_different_builds_at_once_one_is_refused(many: Path, tmp_path: Path) -> None:
    builds = [
        subprocess.Popen(
            command(many, "workers=1", f"seed={seed}"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    errors = [one.communicate(timeout=120)[1] for one in builds]
    assert sorted(one.returncode for one in builds) == [0, 2], errors
    [refused] = [text for one, text in zip(builds, errors, strict=True) if one.returncode]
    assert "holds a build with other settings:\n  seed: " in refused
    manifest = check_dataset(tmp_path / "out", deep=True, workers=1)
    assert manifest.settings["seed"] == 1 + [one.returncode for one in builds].index(0)
    assert not temporaries(tmp_path / "out")


def started(process: subprocess.Popen, out: Path) -> None:
    """Wait until the first shard is committed."""
    deadline = time.monotonic() + 180
    while not list(out.glob("shard-*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stops_at_once_when_asked(many: Path, tmp_path: Path, how: signal.Signals) -> None:
    process = subprocess.Popen(
        command(many, "workers=2"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    started(process, tmp_path / "out")
    os.killpg(process.pid, how)  # as a terminal does with Ctrl-C
    asked = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert time.monotonic() - asked < 60  # at once, also on a machine with ten times the load
    assert process.returncode == 130
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert not temporaries(tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_workers_die_with_a_killed_parent(many: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(many, "workers=2"), stderr=subprocess.DEVNULL, start_new_session=True
    )
    started(process, tmp_path / "out")
    process.kill()
    process.wait()

    def alive() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    deadline = time.monotonic() + 60
    while alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive()
    build(load(ShardConfig, many), workers=1)
    assert not temporaries(tmp_path / "out")
    check_dataset(tmp_path / "out", deep=True, workers=1)


def test_a_killed_worker_is_a_clear_error(many: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(many, "workers=2"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    started(process, tmp_path / "out")
    workers = [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if _group(path) == process.pid
        and b"spawn_main" not in _cmdline(path)
        and b"forkserver" in _cmdline(path)
    ]
    os.kill(max(workers), signal.SIGKILL)  # the youngest: no server, but one of its workers
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "workers=N" in errors
    assert not temporaries(tmp_path / "out")


def _group(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rsplit(")", 1)[1].split()[2])
    except (OSError, IndexError):
        return 0


def _cmdline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_sidecars_of_an_interrupted_build_are_enough(many: Path, tmp_path: Path) -> None:
    """A tar without its sidecar is made again, one with it is left alone."""
    build(load(ShardConfig, many), workers=1)
    out = tmp_path / "out"
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in out.glob("*.tar")}
    sidecar.sidecar_path(out, 3).unlink()
    (out / "manifest.json").unlink()
    build(load(ShardConfig, many), workers=1)
    for path in out.glob("*.tar"):
        node, data = before[path.name]
        assert path.read_bytes() == data
        assert (path.stat().st_ino == node) == (path.name != "shard-00003.tar")
