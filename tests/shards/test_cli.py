import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from shards.__main__ import main


def config_file(small, corpus: Path, tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small.settings(corpus, tmp_path / "out", **changes)))
    return str(path)


@pytest.mark.parametrize("words", [[], ["build"], ["verify"], ["sample-corpus"]])
def test_help_answers_within_a_second(words: list[str]) -> None:
    best = 9.0
    for _ in range(3):  # other programs may be at work on this machine
        began = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", "shards", *words, "--help"], capture_output=True
        )
        best = min(best, time.monotonic() - began)
        assert run.returncode == 0
        assert run.stdout.startswith(b"usage: emo-shards")
    assert best < 1


def test_build_then_everything_else(
    small, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = config_file(small, corpus, tmp_path), str(tmp_path / "out")
    assert main(["build", config, "task=0", "tasks=2", "workers=1"]) == 0
    assert "array task 0 of 2 is done" in capsys.readouterr().out
    assert main(["merge", config, "tasks=2"]) == 2
    assert "task=1" in capsys.readouterr().err
    assert main(["build", config, "task=1", "tasks=2", "workers=1"]) == 0
    assert main(["merge", config]) == 0
    summary = capsys.readouterr().out
    for part in (
        "66 samples of 24 turns in 3 shards",
        "anger 6",
        "outside the set 3",
        "sessions    1 8, 2 8, 3 8",
        "noise 21",
        "rejected    none",
        "SNR of the recordings",
        "learnt",
    ):
        assert part in summary
    assert main(["build", config, "workers=1"]) == 0  # nothing left to do
    assert "3 of 3 shards are there already" in capsys.readouterr().err
    assert main(["verify", out]) == 0
    assert main(["verify", out, "--deep", "--workers", "1"]) == 0
    assert "66 samples in 3 shards are whole" in capsys.readouterr().out
    assert main(["inspect", out]) == 0
    assert "66 samples of 24 turns" in capsys.readouterr().out
    for key in ("turn0003", "turn0003__noise"):
        assert main(["inspect", out, key]) == 0
        text = capsys.readouterr().out
        assert "float16 [" in text
        assert "turn0003" in text
        assert "int32 [" in text


def test_overrides_reach_the_configuration(
    small, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_file(small, corpus, tmp_path)
    words = ["augment.variants=[shift]", "labels=five", "features.kinds=[logmel]"]
    assert main(["build", config, "workers=1", *words]) == 0
    text = capsys.readouterr().out
    assert "clean 24, shift 21" in text
    assert "frustration 0" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "nowhere.yaml"], "cannot read the configuration nowhere.yaml"),
        (["build", "ROOT/.."], "is a folder, not a configuration file: did you mean"),
        (["verify", "CONFIG"], "is a file: give the dataset's folder"),
        (["inspect", "CONFIG"], "is a file: give the dataset's folder"),
        (["build", "CONFIG", "sed=3"], "did you mean 'seed'"),
        (["build", "CONFIG", "seed=3", "what"], "write it as key=value"),
        (["build", "CONFIG", "task=1"], "belong together"),
        (["build", "CONFIG", "tasks=4"], "belong together"),
        (["build", "CONFIG", "task=4", "tasks=4"], "from 0 to 3"),
        (["build", "CONFIG", "workers=0"], "from 1 up"),
        (["build", "CONFIG", "workers=two"], "from 1 up"),
        (["build", "CONFIG", "check=full"], "check=deep"),
        (["build", "CONFIG", "worker=2"], "worker=2: did you mean workers=2?"),
        (["build", "CONFIG", "corpus.root=/nowhere"], "/nowhere"),
        (["merge", "CONFIG"], "nothing was built here yet"),
        (["verify", "/nowhere"], "is this the dataset's folder?"),
        (["verify", "/nowhere", "--workers", "0"], "at least 1"),
        (["inspect", "/nowhere"], "is this the dataset's folder?"),
        (["sample-corpus", "ROOT", "--dialogues", "0"], "dialogues"),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(
    small,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    names = {"CONFIG": config_file(small, corpus, tmp_path), "ROOT": str(tmp_path / "root")}
    names["ROOT/.."] = str(tmp_path)
    assert main([names.get(word, word) for word in words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert message in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_unknown_key_of_a_dataset(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(built), "turn9999"]) == 2
    assert "for example: turn0000__clean" in capsys.readouterr().err


def test_merge_refuses_other_settings(
    small, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_file(small, corpus, tmp_path)
    assert main(["build", config, "workers=1"]) == 0
    assert main(["merge", config, "seed=4"]) == 2
    assert "seed: was 1, now 4" in capsys.readouterr().err


def test_a_file_that_is_no_text_is_no_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_bytes(bytes(range(128, 256)))
    assert main(["build", str(tmp_path / "config.yaml")]) == 2
    assert "is not valid YAML" in capsys.readouterr().err


def test_what_is_left_out_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build"])
    assert capsys.readouterr().err.strip().endswith("required: CONFIG")


def test_standard_output_on_a_full_disk_is_told_without_a_traceback():
    program = "from shards.errors import run_command_line as r; exit(r(lambda: print('x')))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == "error: standard output cannot be written: no room left there\n"
    assert done.returncode == 2
