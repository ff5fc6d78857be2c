import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from shards.build import claim
from shards.build.claim import OtherBuild
from shards.build.job import build
from shards.build.merge import IncompleteDataset, merge
from shards.build.pool import preloaded
from shards.build.publish import TooManyRejected
from shards.config import ShardConfig
from shards.configfile import parse
from shards.store.index import load_manifest, open_dataset
from shards.store.read import ShardReader
from shards.store.verify import check_dataset
from shards.views.turns import ViewError


def test_any_layout_of_workers_and_tasks_writes_the_same_bytes(
    built: Path, corpus: Path, small, tmp_path: Path
) -> None:
    expected = small.contents(built)
    del expected["config.yaml"]  # it names the folder
    for name, workers, tasks in (("two", 2, 1), ("tasks", 1, 3), ("many", 1, 7)):
        config = small.config(corpus, tmp_path / name)
        if tasks == 1:
            build(config, workers=workers)
        else:
            for task in reversed(range(tasks)):
                assert build(config, task, tasks, workers) is None
            merge(tmp_path / name, claim.load(tmp_path / name), 0.0)
        found = small.contents(tmp_path / name)
        del found["config.yaml"]
        assert found == expected


def test_merge_names_missing_shards_and_their_tasks(corpus: Path, small, tmp_path: Path) -> None:
    config = small.config(corpus, tmp_path / "out")
    build(config, 1, 2, workers=1)
    found = claim.load(tmp_path / "out")
    with pytest.raises(IncompleteDataset) as caught:
        merge(tmp_path / "out", found, 0.0, tasks=2)
    message = str(caught.value)
    for part in ("2 of 3 shards", "shard-00000.tar", "shard-00002.tar", "task=0"):
        assert part in message
    assert "task=0,1" not in message
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_other_settings_are_refused_by_key(dataset: Path, corpus: Path, small) -> None:
    before = small.contents(dataset)
    with pytest.raises(OtherBuild) as caught:
        build(small.config(corpus, dataset, seed=9, labels="five"), workers=1)
    message = str(caught.value)
    assert "seed: was 1, now 9" in message
    assert "labels: was 'four', now 'five'" in message
    assert "augment" not in message
    settings = small.settings(corpus, dataset)["features"] | {"mels": 32}
    with pytest.raises(OtherBuild, match=r"features\.mels"):
        build(small.config(corpus, dataset, features=settings), workers=1)
    assert small.contents(dataset) == before


def test_another_corpus_is_refused(dataset: Path, corpus: Path, small, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "moved")
    build(small.config(tmp_path / "moved", dataset), workers=1)  # the same, elsewhere
    wave, rate = soundfile.read(tmp_path / "moved" / "turn0000.wav")
    soundfile.write(tmp_path / "moved" / "turn0000.wav", wave * 0.5, rate)
    with pytest.raises(OtherBuild, match=r"1 turn has another recording: turn0000\n.*update=yes"):
        build(small.config(tmp_path / "moved", dataset), workers=1)


def test_shards_of_another_build_are_never_taken(
    dataset: Path, corpus: Path, built: Path, small
) -> None:
    (dataset / "build.json").unlink()
    build(small.config(corpus, dataset, seed=9), workers=1)
    assert load_manifest(dataset).settings["seed"] == 9
    check_dataset(dataset, deep=True, workers=1)
    clean, other = ShardReader(built, ("logmel",)), ShardReader(dataset, ("logmel",))
    noise = open_dataset(built).column("variant").tolist().index("noise")
    assert np.array_equal(clean.read(0)["logmel"], other.read(0)["logmel"])
    assert not np.array_equal(clean.read(noise)["logmel"], other.read(noise)["logmel"])


def test_variants_are_seeded_by_the_turn(built: Path, small, corpus: Path, tmp_path: Path) -> None:
    """The last turns alone, in shards of other sizes: the same features."""
    shutil.copytree(corpus, tmp_path / "part")
    rows = (corpus / "turns.jsonl").read_text().splitlines()[12:]
    (tmp_path / "part" / "turns.jsonl").write_text("\n".join(rows) + "\n")
    output = {"folder": str(tmp_path / "out"), "utterances_per_shard": 5}
    build(small.config(tmp_path / "part", tmp_path / "out", text=None, output=output), workers=1)
    whole, part = open_dataset(built), open_dataset(tmp_path / "out")
    places = {key: row for row, key in enumerate(whole.column("key"))}
    ours, theirs = ShardReader(part, ("mfcc",)), ShardReader(whole, ("mfcc",))
    for row, key in enumerate(part.column("key")):
        assert np.array_equal(ours.read(row)["mfcc"], theirs.read(places[key])["mfcc"])


class TestRejected:
    @pytest.fixture
    def broken(self, corpus: Path, tmp_path: Path) -> Path:
        root = tmp_path / "broken"
        shutil.copytree(corpus, root)
        (root / "turn0001.wav").write_bytes(b"")
        (root / "turn0005.wav").write_bytes((root / "turn0005.wav").read_bytes()[:500])
        soundfile.write(root / "turn0009.wav", np.zeros(8000), 16000)
        rows = [json.loads(line) for line in (root / "turns.jsonl").read_text().splitlines()]
        rows[3]["text"] = "[LAUGHTER]"
        (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return root

    def test_are_counted_listed_and_left_out(self, broken: Path, small, tmp_path: Path) -> None:
        output = {"folder": str(tmp_path / "out"), "utterances_per_shard": 8, "max_rejected": 0.2}
        manifest = build(small.config(broken, tmp_path / "out", output=output), workers=1)
        assert manifest is not None
        kinds = {"empty": 1, "empty text": 1, "silent": 1, "truncated": 1}
        assert manifest.summary.rejected == kinds
        assert manifest.summary.variants["clean"] == 20
        lines = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
        facts = {json.loads(line)["utterance"]: json.loads(line) for line in lines}
        assert facts.keys() == {"turn0001", "turn0003", "turn0005", "turn0009"}
        assert "turns.jsonl" in facts["turn0001"]["source"]
        kept = open_dataset(tmp_path / "out").column("utterance")
        assert not facts.keys() & set(kept)

    def test_are_bounded(self, broken: Path, small, tmp_path: Path) -> None:
        with pytest.raises(TooManyRejected) as caught:
            build(small.config(broken, tmp_path / "out"), workers=1)
        for part in ("of 24 turns", "turn0001", "max_rejected=0.05", "raise output.max_rejected"):
            assert part in str(caught.value)
        assert not (tmp_path / "out" / "manifest.json").exists()
        # A higher limit is no other build: what was made is taken.
        output = {"folder": str(tmp_path / "out"), "utterances_per_shard": 8, "max_rejected": 1.0}
        assert build(small.config(broken, tmp_path / "out", output=output), workers=1)

    def test_incomplete_turns_can_be_kept(self, broken: Path, small, tmp_path: Path) -> None:
        output = {
            "folder": str(tmp_path / "out"),
            "utterances_per_shard": 8,
            "max_rejected": 0.2,
            "incomplete": "keep",
        }
        manifest = build(small.config(broken, tmp_path / "out", output=output), workers=1)
        assert manifest is not None
        assert "empty text" not in manifest.summary.rejected
        assert manifest.summary.flagged["empty text"] == 1
        dataset = open_dataset(tmp_path / "out")
        row = dataset.column("utterance").tolist().index("turn0003")
        read = ShardReader(dataset, ("logmel", "tokens")).read(row)
        assert set(read) == {"logmel"}
        assert dataset.column("tokens")[row] == 0
        check_dataset(tmp_path / "out", deep=True, workers=1)

    def test_low_snr_flags_or_drops(self, corpus: Path, small, tmp_path: Path) -> None:
        audio = {"sample_rate": 16000, "min_snr": 100.0}
        manifest = build(small.config(corpus, tmp_path / "flag", audio=audio), workers=1)
        assert manifest is not None
        assert manifest.summary.flagged["low SNR"] == 24
        assert manifest.summary.variants["clean"] == 24
        drop = audio | {"low_snr": "drop"}
        with pytest.raises(TooManyRejected, match="low SNR"):
            build(small.config(corpus, tmp_path / "drop", audio=drop), workers=1)


def test_a_long_temporary_folder_does_not_matter(built, corpus, small, tmp_path):
    """A socket's path has at most 107 bytes."""
    long = tmp_path / ("t" * 90)
    long.mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small.settings(corpus, tmp_path / "out")))
    command = [sys.executable, "-m", "shards"]
    for words in (["build", tmp_path / "config.yaml", "workers=2"], ["verify", tmp_path / "out",
                  "--deep", "--workers", "2"]):  # fmt: skip
        done = subprocess.run(
            [*command, *map(str, words)], env=os.environ | {"TMPDIR": str(long)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "the corpus they were made of was not read" in done.stdout
    assert load_manifest(tmp_path / "out").dataset_hash == load_manifest(built).dataset_hash


def test_a_second_build_says_what_it_compared(dataset, corpus, small, capsys):
    build(small.config(corpus, dataset), workers=1)
    said = capsys.readouterr().err
    assert "3 of 3 shards are there already: all labels, texts and times" in said
    assert "so is the size of each recording in them (check=deep compares the sound)" in said
    build(small.config(corpus, dataset), workers=1, deep=True)
    assert "so is the sound of each recording in them" in capsys.readouterr().err


def test_workers_load_librosa_once_and_only_for_low_level_descriptors(corpus, small, tmp_path):
    plain = small.config(corpus, tmp_path / "a")
    lld = small.config(
        corpus, tmp_path / "c", features={"kinds": ["lld"]}, augment={"variants": []}
    )
    text = small.config(corpus, tmp_path / "b", features=None, augment={"variants": []})
    assert not any(name.startswith("librosa") for name in (*preloaded(plain), *preloaded(text)))
    assert "soxr" in preloaded(plain)
    assert "soxr" not in preloaded(text)
    added = set(preloaded(lld)) - set(preloaded(plain))
    assert {name.partition(".")[0] for name in added} == {"librosa"}
    # Each name is a module, and none is left that computing would load: librosa loads lazily.
    program = """
import importlib, sys
import numpy
from shards.extract.features.lowlevel import LowLevel, LowLevelConfig
for name in sys.argv[1:]:
    importlib.import_module(name)
before = set(sys.modules)
wave = numpy.random.default_rng(0).standard_normal(16000, "float32")
LowLevel(LowLevelConfig(pitch="yin"), 16000)(wave)
print(sorted(name for name in set(sys.modules) - before if name.startswith("librosa")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *preloaded(lld)], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_vocabulary_view_that_cannot_be_drawn_is_named(corpus, small, tmp_path):
    view = {"protocol": "official"}
    with pytest.raises(ViewError, match=r"text\.learn takes .* vocabulary_view .*official split"):
        build(small.config(corpus, tmp_path / "out", vocabulary_view=view), workers=1)
    assert not (tmp_path / "out").exists()


def test_a_tiny_corpus_learns_its_words_from_all_turns_that_are_not_held_out(
    small, tmp_path, capsys
):
    root = tmp_path / "tiny"
    small.write_corpus(root, turns=6)
    rows = [json.loads(line) for line in (root / "turns.jsonl").read_text().splitlines()]
    for row, text in zip(rows, ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"], strict=True):
        row |= {"dialogue": text, "text": text, "part": "test" if text == "zeta" else "train"}
    (root / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = small.settings(root, tmp_path)["corpus"]["spec"]
    spec = spec | {"fields": spec["fields"] | {"split": "part"}}
    folder = tmp_path / "out"
    raw = small.settings(root, folder, features=None, augment={"variants": []})
    raw["corpus"]["spec"] = spec
    raw["text"] = {"learn": {"vocab_size": 200, "min_frequency": 1}}
    build(parse(ShardConfig, raw, "the test"), workers=1)
    assert "too small for vocabulary_view" in capsys.readouterr().err
    words = json.loads((folder / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    assert {"alpha", "gamma", "epsilon"} <= words.keys()
    assert "zeta" not in words
