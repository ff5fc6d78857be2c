"""Transcripts are cleaned, vocabularies learnt and loaded."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from shards.extract.text import (
    TextConfig,
    TokenizerError,
    Tokens,
    WordPieceConfig,
    clean,
    learn_wordpiece,
)

LINES = [
    "I told you not to call me at work.",
    "Why didn't you tell me? I was waiting all night!",
    "That's wonderful, that is just wonderful.",
    "Nobody was waiting for the café to open at night.",
] * 5


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Yeah. [LAUGHTER] I  know\t[BREATHING] it. ", "Yeah. I know it."),
        ("[GARBAGE]", ""),
        ("[LAUGHTER][LAUGHTER]", ""),
        ("  \n ", ""),
        ("cafe\u0301", "café"),
        ("non\u00a0breaking\u2003space", "non breaking space"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("don\x92t \x93quote\x94", "don’t “quote”"),
        ("bell\x07 and \ud800 half", "bell and half"),
        ("an [open bracket", "an [open bracket"),
        ("(laughs) stays", "(laughs) stays"),
        ("👩‍👩‍👧 stays whole", "👩‍👩‍👧 stays whole"),
    ],
)
def test_clean(raw, expected):
    assert clean(raw) == expected
    assert clean(expected) == expected


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    learn_wordpiece(LINES, folder, WordPieceConfig(vocab_size=120))
    return folder


def test_learnt_tokenizer_splits_words_and_joins_them(learnt):
    tokens = Tokens(learnt, 64)
    ids, cut = tokens("You told me at night.")
    assert ids.dtype == np.int32
    assert cut == 0
    assert ids[0] == 2  # [CLS]
    assert ids[-1] == 3  # [SEP]
    assert tokens.pad == 0
    assert ids.max() < tokens.size <= 120
    assert 1 not in ids  # no [UNK]: all its letters were seen
    assert 1 in tokens("日")[0]


def test_long_lines_are_cut_and_counted(learnt):
    whole, cut = Tokens(learnt, 64)(LINES[1])
    assert cut == 0
    tokens = Tokens(learnt, 8)
    ids, cut = tokens(LINES[1])
    assert len(ids) == 8
    assert cut == len(whole) - 8
    assert ids[-1] == 3
    np.testing.assert_array_equal(ids[:-1], whole[:7])
    assert tokens.identity == Tokens(learnt, 64).identity


def test_transformers_loads_the_folder_and_gives_the_same_ids(learnt):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(learnt), local_files_only=True)
    ours = Tokens(learnt, 64)
    for line in LINES[:4]:
        assert theirs(line)["input_ids"] == ours(line)[0].tolist()
    assert theirs.pad_token == "[PAD]"
    assert theirs.mask_token_id == 4
    assert theirs.decode(ours(LINES[0])[0], skip_special_tokens=True) == LINES[0].lower()


def test_a_saved_copy_is_the_same_tokenizer(learnt, tmp_path):
    tokens = Tokens(learnt, 64)
    tokens.save(tmp_path / "copy")
    assert Tokens(tmp_path / "copy", 64).identity == tokens.identity


def test_another_vocabulary_has_another_identity(learnt, tmp_path):
    learn_wordpiece(LINES, tmp_path, WordPieceConfig(vocab_size=100))
    assert Tokens(tmp_path, 64).identity != Tokens(learnt, 64).identity


def changed(learnt, folder, file, **changes):
    """A copy of the tokenizer `learnt` in `folder`, with other values in one of its files."""
    shutil.copytree(learnt, folder)
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | changes))
    return folder


def test_a_folder_without_a_vocabulary_is_refused(tmp_path):
    """transformers makes a tokenizer of five special tokens of it; every word would be [UNK]."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 100}))
    with pytest.raises(TokenizerError, match="has no vocabulary, only 5 special tokens"):
        Tokens(tmp_path, 64)


def test_a_tokenizer_of_a_newer_library_is_refused_in_words(learnt, tmp_path):
    folder = changed(learnt, tmp_path / "new", "tokenizer.json", model={"type": "NewModel"})
    with pytest.raises(TokenizerError, match=r"not newer than the one here \(\d"):
        Tokens(folder, 64)


def test_a_tokenizers_own_program_is_never_run(learnt, tmp_path):
    """Nor is one asked for it: with "y" on standard input nothing comes of it."""
    names = {"auto_map": {"AutoTokenizer": ["mine.Mine", None]}, "tokenizer_class": "Mine"}
    folder = changed(learnt, tmp_path / "theirs", "tokenizer_config.json", **names)
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    code = "import sys; from shards.extract.text import Tokens; Tokens(sys.argv[1], 64)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], input="y\ny\n", capture_output=True, text=True
    )
    assert "TokenizerError" in done.stderr
    assert "programs of tokenizers are never run" in done.stderr
    assert "Do you wish to run" not in done.stdout + done.stderr
    assert not (tmp_path / "ran").exists()


def test_case_is_kept_where_asked(tmp_path):
    learn_wordpiece(LINES, tmp_path, WordPieceConfig(vocab_size=120, lowercase=False))
    tokens = Tokens(tmp_path, 64)
    assert tokens("Why")[0].tolist() != tokens("why")[0].tolist()


LEARN = """
import json, sys
from pathlib import Path
from shards.extract.text import WordPieceConfig, learn_wordpiece
lines = json.loads(Path(sys.argv[1]).read_text())
learn_wordpiece(lines, Path(sys.argv[2]), WordPieceConfig(vocab_size=400))
"""


def test_the_same_texts_give_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnoprstuvw'é")
    words = ["".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(500)]
    lines = [" ".join(rng.choice(words, 9)) for _ in range(800)]
    contents = set()
    for i in range(3):
        (tmp_path / "lines.json").write_text(json.dumps(lines))
        where = tmp_path / f"made{i}"
        subprocess.run(
            [sys.executable, "-c", LEARN, str(tmp_path / "lines.json"), str(where)],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": str(i)},
        )
        contents.add(b"".join(path.read_bytes() for path in sorted(where.iterdir())))
        lines.reverse() if i else rng.shuffle(lines)
    assert len(contents) == 1


def test_learning_from_nothing(tmp_path):
    with pytest.raises(TokenizerError, match="no words"):
        learn_wordpiece(["", " "], tmp_path / "x", WordPieceConfig())
    assert not (tmp_path / "x").exists()


def test_more_letters_than_entries(tmp_path):
    lines = ["".join(chr(0x3B1 + i) + chr(0x430 + i) for i in range(24))] * 3
    with pytest.raises(TokenizerError, match=r"vocab_size = 64 .*raise it to 98 or more"):
        learn_wordpiece(lines, tmp_path / "x", WordPieceConfig(vocab_size=64))
    assert not (tmp_path / "x").exists()


def test_folders_that_hold_no_tokenizer(tmp_path):
    with pytest.raises(TokenizerError, match=r"no folder .*nowhere"):
        Tokens(tmp_path / "nowhere", 64)
    with pytest.raises(TokenizerError, match=r"needs tokenizer\.json"):
        Tokens(tmp_path, 64)
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"needs tokenizer\.json"):
        Tokens(tmp_path, 64)


def test_a_hub_name_out_of_reach_names_the_remedy():
    script = "from shards.extract.text import Tokens; Tokens('no-such/model-anywhere', 64)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert "TokenizerError" in done.stderr
    assert "hf download no-such/model-anywhere --local-dir FOLDER" in done.stderr


def test_room_for_special_tokens(learnt):
    with pytest.raises(TokenizerError, match="max_tokens = 2 leaves no room"):
        Tokens(learnt, 2)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"tokenizer": "bert-base-cased", "learn": {}}, {"tokenizer": "x", "max_tokens": 2}],
)
def test_settings_name_one_source(wrong):
    with pytest.raises(ValidationError):
        TextConfig(**wrong)
