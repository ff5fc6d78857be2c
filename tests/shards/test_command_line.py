"""Words and options in any order; what would be dropped or guessed is an error."""

import pytest

import emo.__main__
import shards.__main__
from shards.command_line import parse_words


def emo_words(*arguments):
    return parse_words(emo.__main__.parser(), arguments, emo.__main__.setting_keys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["crossval", "c.yaml", "run=R", "train.epochs=2", "--seeds", "2"],
        ["crossval", "c.yaml", "--seeds", "2", "run=R", "train.epochs=2"],
        ["crossval", "--seeds", "2", "run=R", "c.yaml", "train.epochs=2"],
        ["crossval", "run=R", "--seeds", "2", "train.epochs=2", "c.yaml"],
    ],
)
def test_options_and_settings_come_in_any_order(arguments):
    args = emo_words(*arguments)
    assert str(args.config) == "c.yaml"
    assert args.overrides == ["run=R", "train.epochs=2"]
    assert args.seeds == 2


def test_a_configuration_may_have_an_equals_sign_in_its_name(tmp_path):
    path = tmp_path / "lr=1.yaml"
    path.touch()
    assert emo_words("train", str(path), "run=R").config == path


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["predict", "R", "--audio", "a.wav", "--audio", "b.wav"],
         ["usage: emo predict", "--audio is given twice"]),
        (["predict", "R", "--text", "a", "--text=b"], ["--text is given twice"]),
        (["compare", "R", "--csv", "a", "--csv", "b"], ["--csv is given twice"]),
        (["crossval", "c", "--seed", "2"],  # not taken for --seeds
         ["usage: emo crossval", "unrecognized arguments: --seed 2",
          "data.view.seed=2 or train.seed=2"]),
        (["train", "c", "--epochs", "3"], ["usage: emo train", "without dashes: train.epochs=3"]),
        (["train", "c", "--train.global-batch=8"], ["without dashes: train.global_batch=8"]),
        (["train", "c", "--what"], ["unrecognized arguments: --what", "part.key=value"]),
        (["eval"], ["usage: emo eval", "required: RUN"]),
        (["export", "R", "F", "more"], ["usage: emo export", "unrecognized arguments: more"]),
    ],
)  # fmt: skip
def test_mistakes_are_shown_with_their_command(capsys, arguments, wanted):
    with pytest.raises(SystemExit) as caught:
        emo_words(*arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    for part in wanted:
        assert part in shown


def test_words_of_a_build_are_given_once(tmp_path, capsys):
    assert shards.__main__.main(["build", "c.yaml", "task=0", "tasks=2", "task=1"]) == 2
    assert "task= is given twice" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        shards.__main__.main(["verify", "F", "--workers", "1", "--workers", "2"])
    assert "usage: emo-shards verify" in capsys.readouterr().err


def test_a_folder_that_is_gone_under_the_shell_is_told(tmp_path):
    import subprocess
    import sys

    (tmp_path / "gone").mkdir()
    program = (
        "import os, sys; os.rmdir(os.getcwd()); from shards.__main__ import main; "
        "sys.exit(main(['verify', '/tmp']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "gone", capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "is gone" in done.stderr
    assert "Traceback" not in done.stderr
