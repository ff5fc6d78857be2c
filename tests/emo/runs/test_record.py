"""What a run folder says of how to repeat the run, and where a run goes that names no folder."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from emo.config import ExperimentConfig
from shards.configfile import ConfigError, dump, parse


def test_the_command_works_from_any_folder(trained_runs: dict[str, Path], tmp_path: Path) -> None:
    script = (trained_runs["text"] / "command.sh").read_text()
    found = re.search(r"(/\S+/train\.sh) cpu", script)
    assert found
    # The launcher replaced by one that says where it is and what it is given.
    says = tmp_path / "says.sh"
    says.write_text('#!/usr/bin/env bash\npwd\nls "$2"\n')
    says.chmod(0o755)
    changed = tmp_path / "command.sh"
    changed.write_text(script.replace(found[1], str(says)))
    assert os.access(found[1], os.X_OK)
    done = subprocess.run(
        ["bash", str(changed)], cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [os.getcwd(), str(trained_runs["text"] / "config.yaml")]


def test_a_run_without_a_folder_is_in_one_of_its_name(make_settings, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "x")
    del settings["run"]
    config = parse(ExperimentConfig, settings, "the tests")
    assert config.run == Path("runs/tiny")
    assert "\nrun: runs/tiny\n" in dump(config)
    with pytest.raises(ConfigError, match=r"^1 problem in the tests:\n  name: "):
        parse(ExperimentConfig, settings | {"name": "a/b"}, "the tests")
