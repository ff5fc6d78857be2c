"""A corpus that has changed: only what is different is done again, and it is as if built anew."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from shards.__main__ import main
from shards.build import claim
from shards.build.claim import OtherBuild
from shards.build.job import build
from shards.build.worker import SampleMaker
from shards.store.index import load_manifest, open_dataset
from shards.store.read import ShardReader
from shards.store.verify import check_dataset

PLACES = ("shard", "key")


@pytest.fixture(scope="module")
def tokenizer(built: Path) -> str:
    return str(built / "tokenizer")


class Place:
    """A corpus of 24 turns in 3 shards, its dataset, and ways to change the corpus."""

    def __init__(self, root: Path, small, tokenizer: str) -> None:
        self.root, self.small, self.tokenizer = root, small, tokenizer
        self.corpus, self.out = root / "corpus", root / "out"

    def config(self, folder: Path | None = None, update: bool = True, **changes):
        output = {"folder": str(folder or self.out), "utterances_per_shard": 8, "update": update}
        output["max_rejected"] = 0.3
        text = {"tokenizer": self.tokenizer, "max_tokens": 8}
        return self.small.config(
            self.corpus, self.out, **{"output": output, "text": text} | changes
        )

    def rows(self, change) -> None:
        path = self.corpus / "turns.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        change({row["id"]: row for row in rows}, rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def add(self, name: str, label: str = "ang") -> None:
        shutil.copy(self.corpus / "turn0002.wav", self.corpus / f"{name}.wav")
        wave, rate = soundfile.read(self.corpus / f"{name}.wav")
        soundfile.write(self.corpus / f"{name}.wav", wave[::-1] * 0.9, rate)
        row = {"id": name, "audio": f"{name}.wav", "text": "yes why", "label": label}
        row |= {"votes": [label], "speaker": "s1", "session": "1", "dialogue": name, "turn": 0}
        self.rows(lambda by_id, rows: rows.append(row))

    def replace(self, turn: str) -> None:
        wave, rate = soundfile.read(self.corpus / f"{turn}.wav")
        soundfile.write(self.corpus / f"{turn}.wav", wave[::-1], rate)


@pytest.fixture(scope="module")
def made(small, tmp_path_factory, tokenizer):
    place = Place(tmp_path_factory.mktemp("update"), small, tokenizer)
    small.write_corpus(place.corpus)
    (place.corpus / "turn0005.wav").write_bytes(b"")  # rejected, and stays so
    place.rows(lambda by_id, rows: by_id["turn0009"].update(text="[LAUGHTER]"))
    build(place.config(), workers=1)
    return place


@pytest.fixture
def place(made, small, tokenizer, tmp_path):
    shutil.copytree(made.root, tmp_path / "place")
    return Place(tmp_path / "place", small, tokenizer)


@pytest.fixture
def made_turns(monkeypatch):
    """Ids of the turns that are made of their recordings from here on."""
    names = []
    items = SampleMaker.items

    def noted(self, one, reader):
        names.append(one.id)
        return items(self, one, reader)

    monkeypatch.setattr(SampleMaker, "items", noted)
    return names


def rows_of(folder: Path) -> dict[str, dict]:
    """Index rows by key, less what says where a sample lies."""
    rows = open_dataset(folder).table.to_pylist()
    return {
        row["key"]: {k: v for k, v in row.items() if k != "shard" and not k.endswith(".offset")}
        for row in rows
    }


def remarks(path: Path) -> list[tuple[str, ...]]:
    """Sorted, less what names the folder."""
    lines = map(json.loads, path.read_text().splitlines())
    return sorted((one["utterance"], one["kind"], one.get("content", "")) for one in lines)


def assert_as_built_anew(place: Place) -> None:
    """The updated dataset has the samples, counts and lists of a build from nothing."""
    updated = check_dataset(place.out, deep=True, workers=1)
    anew = build(place.config(place.root / "anew"), workers=1)
    assert anew is not None
    assert rows_of(place.out) == rows_of(place.root / "anew")
    one, other = updated.summary.model_dump(), anew.summary.model_dump()
    # Tars are padded to whole records, and there may be more of them.
    assert one | {"bytes": 0} == other | {"bytes": 0}
    home = place.out / updated.home
    for name in ("rejected.jsonl", "flagged.jsonl"):
        assert remarks(home / name) == remarks(place.root / "anew" / name)
    ours, theirs = open_dataset(place.out), open_dataset(place.root / "anew")
    members = ("logmel", "tokens")
    readers = ShardReader(place.out, members), ShardReader(place.root / "anew", members)
    rows = {key: row for row, key in enumerate(theirs.column("key"))}
    for row, key in enumerate(ours.column("key")):
        one, other = readers[0].read(row), readers[1].read(rows[key])
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert updated.build == anew.build
    again = build(place.config(), workers=1)  # the same corpus: nothing is left to do
    assert again == updated
    assert not list(place.out.glob("shard-*.tar.tmp*"))


def test_a_label_and_its_votes_are_corrected_without_the_sound(place, made_turns, capsys):
    before = load_manifest(place.out)
    old = {path.name: path.stat().st_ino for path in place.out.glob("shard-*.tar")}
    place.rows(lambda by_id, rows: by_id["turn0010"].update(label="sad", votes=["sad"] * 3))
    with pytest.raises(OtherBuild, match=r"(?s)before it changed.*another label: turn0010 \(neu "
                       r"→ sad\).*output\.update=yes"):  # fmt: skip
        build(place.config(update=False), workers=1)
    manifest = build(place.config(), workers=1)
    assert made_turns == []
    assert [shard.name for shard in manifest.shards] == [
        "shard-00000.tar", "v2/shard-00001.tar", "shard-00002.tar",
    ]  # fmt: skip
    assert (place.out / "shard-00000.tar").stat().st_ino == old["shard-00000.tar"]
    assert not (place.out / "shard-00001.tar").exists()
    [change] = manifest.history
    assert change.turns == {"changed": 1}
    assert change.facts == {"label": 1, "votes": 1}
    assert change.dataset_hash == before.dataset_hash != manifest.dataset_hash
    assert "version 2   changed 1; before: " + before.dataset_hash[:12] in _said(place, capsys)
    assert_as_built_anew(place)
    # No turn was added or gone, so even the bytes of the shards are those of a build from nothing.
    assert load_manifest(place.root / "anew").dataset_hash == manifest.dataset_hash


def _said(place, capsys) -> str:
    capsys.readouterr()
    assert main(["inspect", str(place.out)]) == 0
    return capsys.readouterr().out


def test_every_fact_may_change(place, made_turns):
    def change(by_id, rows):
        by_id["turn0000"].update(speaker="s9", session="3")
        by_id["turn0003"].update(text="no no no no no no no no no no no no tomorrow")
        by_id["turn0004"].update(text="never [LAUGHTER] alone")
        by_id["turn0011"].update(label="xxx")  # its variants go
        by_id["turn0017"].update(dialogue="d9", turn=3)

    place.rows(change)
    manifest = build(place.config(), workers=1)
    assert made_turns == []
    assert manifest.summary.flagged["text cut"] == 1
    assert_as_built_anew(place)


def test_turns_that_are_new_gone_replaced_or_have_a_class_now(place, made_turns):
    place.add("turn0001b")
    place.add("zz")
    place.rows(lambda by_id, rows: rows.remove(by_id["turn0012"]))
    place.rows(lambda by_id, rows: by_id["turn0007"].update(label="hap"))  # gets variants
    place.rows(lambda by_id, rows: by_id["turn0009"].update(text="listen"))  # was rejected
    place.rows(lambda by_id, rows: by_id["turn0020"].update(text="[LAUGHTER]"))  # is rejected
    place.replace("turn0021")
    manifest = build(place.config(), workers=1)
    assert sorted(made_turns) == [
        "turn0001b", "turn0007", "turn0009", "turn0020", "turn0021", "zz",
    ]  # fmt: skip
    assert [shard.utterances for shard in manifest.shards] == [8, 7, 8, 2]
    # Five of the changed ones follow the turn that is gone in its dialogue.
    assert manifest.history[0].turns == {"added": 2, "gone": 1, "changed": 9}
    assert_as_built_anew(place)


def test_updates_follow_updates_and_nothing_is_left_over(place):
    place.add("zz")
    build(place.config(), workers=1)
    place.rows(lambda by_id, rows: by_id["zz"].update(label="sad"))
    place.rows(lambda by_id, rows: rows.remove(by_id["turn0000"]))
    build(place.config(), workers=1)
    place.rows(lambda by_id, rows: [rows.remove(by_id[f"turn{n:04d}"]) for n in range(16, 24)])
    manifest = build(place.config(), workers=1)
    # The turns after one that is gone have another number in their dialogue.
    assert [change.turns for change in manifest.history] == [
        {"added": 1}, {"gone": 1, "changed": 5}, {"gone": 8},
    ]  # fmt: skip
    assert_as_built_anew(place)
    found = {path for path in place.small.contents(place.out) if not path.startswith("tokenizer")}
    named = {shard.name for shard in manifest.shards}
    named |= {name.replace(".tar", ".json") for name in named}
    assert found == named | {"manifest.json"} | {
        f"v4/{name}" for name in ("build.json", "config.yaml", "flagged.jsonl", "index.parquet",
                                  "manifest.json", "rejected.jsonl")
    }  # fmt: skip


def test_one_replaced_recording_changes_its_samples_alone(place, tmp_path):
    before, old = open_dataset(place.out), ShardReader(place.out, ("json", "tokens", "logmel"))
    samples = {key: old.read(row) for row, key in enumerate(before.column("key"))}
    place.replace("turn0013")  # of the same size
    with pytest.raises(OtherBuild, match=r"1 turn has another recording: turn0013"):
        build(place.config(update=False), workers=1)
    manifest = build(place.config(), workers=1)
    assert manifest.history[0].facts == {"recording": 1}
    assert manifest.corpus != before.manifest.corpus  # so `emo compare` refuses runs of both
    after, new = open_dataset(place.out), ShardReader(place.out, ("json", "tokens", "logmel"))
    different = {
        utterance
        for row, (key, utterance) in enumerate(
            zip(after.column("key"), after.column("utterance"), strict=True)
        )
        if any(
            not np.array_equal(value, samples[key][name]) for name, value in new.read(row).items()
        )
    }
    assert different == {"turn0013"}
    assert_as_built_anew(place)


def test_a_damaged_updated_dataset_is_repaired(place):
    place.add("zz")
    place.replace("turn0013")
    manifest = build(place.config(), workers=1)
    expected = place.small.contents(place.out)
    for shard in manifest.shards:
        path = place.out / shard.name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    (place.out / "manifest.json").write_bytes(b"{}")
    config = str(place.out / manifest.home / "config.yaml")
    assert main(["build", config, "check=deep", "workers=1"]) == 0
    found = place.small.contents(place.out)
    assert found.keys() == expected.keys()
    differ = {name for name in found if found[name] != expected[name]}
    assert differ <= {"v2/rejected.jsonl", "shard-00000.json"}  # these name the corpus' folder
    assert claim.load(place.out).slots is not None


def test_a_damaged_shard_is_not_copied(place):
    path = place.out / "shard-00001.tar"
    data = path.read_bytes()
    place.rows(lambda by_id, rows: by_id["turn0010"].update(label="sad"))
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    before = load_manifest(place.out)
    assert main(["build", _file(place), "workers=1"]) == 2
    assert load_manifest(place.out) == before


def _file(place) -> str:
    config = place.root / "c.yaml"
    config.write_text(yaml.safe_dump(place.config().model_dump(mode="json")))
    return str(config)


def test_what_an_update_does_not_do(place, capsys):
    assert main(["build", _file(place), "task=0", "tasks=2"]) == 2
    assert "output.update=yes is one job" in capsys.readouterr().err
    assert main(["build", _file(place), "seed=4", "workers=1"]) == 2
    assert "seed: was 1, now 4" in capsys.readouterr().err


def test_a_moved_corpus_and_other_tags_are_no_change_of_a_sample(place, made_turns):
    before = load_manifest(place.out)
    place.rows(
        lambda by_id, rows: by_id["turn0000"].update(text=by_id["turn0000"]["text"] + " [X]")
    )
    place.corpus = place.corpus.rename(place.root / "moved")
    manifest = build(place.config(), workers=1)
    assert manifest.dataset_hash == before.dataset_hash
    assert made_turns == []
    assert manifest.history[0].turns == {}
    assert build(place.config(update=False), workers=1) == manifest


def test_a_dataset_of_an_older_program_is_compared_by_its_sound(place, made_turns):
    from shards.build.merge import merge
    from shards.configfile import digest

    for number in range(3):  # as they were before files were hashed
        path = place.out / f"shard-{number:05d}.json"
        content = json.loads(path.read_bytes())
        del content["digest"]
        for sample in content["samples"]:
            sample.pop("content", None)
            sample.pop("unknown", None)
        path.write_text(json.dumps(content | {"digest": digest(content)}))
    assert merge(place.out, claim.load(place.out), 0.5) is not None
    assert "content" not in open_dataset(place.out).table.schema.names or not any(
        open_dataset(place.out).column("content")
    )
    place.replace("turn0021")
    place.rows(lambda by_id, rows: by_id["turn0010"].update(label="sad"))
    build(place.config(), workers=1)
    assert made_turns == ["turn0021"]
