"""A recording that was replaced after its shard was made is noticed by the next build."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import yaml

from shards.__main__ import main
from shards.build.job import build
from shards.build.recordings import OtherRecordings
from shards.configfile import digest
from shards.store import sidecar
from shards.store.index import load_manifest
from shards.store.sidecar import sidecar_path

TURNS = 96  # so many that a build's probes of the corpus leave turns out
REPLACED = "turn0007"  # none of the probes


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    """A corpus, and a dataset of its recordings alone."""
    folder = tmp_path_factory.mktemp("replaced")
    small.write_corpus(folder / "corpus", TURNS, 0.15)
    build(_config(small, folder), workers=1)
    return folder


@pytest.fixture
def place(made, tmp_path):
    return shutil.copytree(made, tmp_path / "place")


def _settings(small, place):
    return small.settings(
        place / "corpus",
        place / "out",
        augment={"variants": []},
        text=None,
        output={"folder": str(place / "out"), "utterances_per_shard": 48},
    )


def _config(small, place):
    from shards.config import ShardConfig
    from shards.configfile import parse

    return parse(ShardConfig, _settings(small, place), "the test")


def _replace(place, longer):
    path = place / "corpus" / f"{REPLACED}.wav"
    wave, rate = soundfile.read(path, dtype="float32")
    wave = np.concatenate((wave, wave)) if longer else wave[::-1]
    soundfile.write(path, wave, rate)


def test_a_recording_of_another_size_ends_the_build_with_the_turns_name(
    place, small, tmp_path, capsys
):
    before = load_manifest(place / "out")
    _replace(place, longer=True)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(_settings(small, place)))
    for words in ([], ["check=deep"]):
        assert main(["build", str(tmp_path / "c.yaml"), "workers=1", *words]) == 2
        said = capsys.readouterr().err
        assert f"1 of {TURNS} recordings are not those that the shards in" in said
        assert f"{REPLACED}: {place / 'corpus' / REPLACED}.wav has " in said
        assert "put the old recordings back, or build into another output.folder" in said
    assert load_manifest(place / "out") == before


def test_another_sound_of_the_same_size_is_noticed_by_a_deep_build(place, small, capsys):
    _replace(place, longer=False)
    build(_config(small, place), workers=1)
    assert "check=deep compares the sound" in capsys.readouterr().err
    with pytest.raises(OtherRecordings, match=rf"{REPLACED}: .*{REPLACED}\.wav has another sound"):
        build(_config(small, place), workers=1, deep=True)


def test_a_recording_that_cannot_be_decoded_any_more_is_another(place, small):
    path = place / "corpus" / f"{REPLACED}.wav"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(OtherRecordings, match=rf"1 of {TURNS} recordings(?s:.*){REPLACED}"):
        build(_config(small, place), workers=1, deep=True)


def test_an_array_task_compares_its_own_shards(place, small):
    _replace(place, longer=True)
    assert build(_config(small, place), task=1, tasks=2, workers=1) is None
    with pytest.raises(OtherRecordings, match=r"1 of 48 recordings"):
        build(_config(small, place), task=0, tasks=2, workers=1)


def test_other_versions_of_the_decoders_make_no_recording_another(place, small, capsys):
    """Their last bits may differ, so a deep build falls back to the sizes."""
    path = place / "out" / "build.json"
    content = json.loads(path.read_text())
    content["software"]["soxr"] = "0.0.1"
    path.write_text(json.dumps(content))
    _replace(place, longer=False)
    build(_config(small, place), workers=1, deep=True)
    assert "(not the sound: soxr has another version now)" in capsys.readouterr().err


def test_shards_that_know_no_sizes_are_joined_with_a_word(place, small, capsys):
    for number in range(2):
        path = sidecar_path(place / "out", number)
        content = json.loads(path.read_bytes())
        del content["digest"]
        for sample in content["samples"]:
            del sample["recording"], sample["recording_bytes"]
        path.write_text(json.dumps(content | {"digest": digest(content)}))
        assert sidecar.load(place / "out", number).entries[0].recording_bytes is None
    _replace(place, longer=True)
    build(_config(small, place), workers=1)
    said = capsys.readouterr().err
    assert "a recording replaced since is not noticed otherwise" in said


@pytest.fixture
def with_rejections(small, tmp_path):
    """A corpus and its dataset, which lacks two turns: one silent recording, one that is gone."""
    place = tmp_path / "rejected"
    small.write_corpus(place / "corpus", TURNS, 0.15)
    silent, gone = place / "corpus/turn0004.wav", place / "corpus/turn0005.wav"
    good = silent.read_bytes(), gone.read_bytes()
    soundfile.write(silent, np.zeros((len(good[0]) - 44) // 2), 16000)
    gone.unlink()
    gone.symlink_to("nowhere.wav")
    settings = _settings(small, place)
    settings["output"]["max_rejected"] = 0.5
    from shards.config import ShardConfig
    from shards.configfile import parse

    config = parse(ShardConfig, settings, "the test")
    assert build(config, workers=1).summary.rejected == {"missing": 1, "silent": 1}
    build(config, workers=1)
    build(config, workers=1, deep=True)
    return config, (silent, gone), good


def test_a_missing_recording_that_came_is_noticed(with_rejections):
    config, (_, gone), (_, content) = with_rejections
    gone.unlink()
    gone.write_bytes(content)
    with pytest.raises(OtherRecordings, match=r"turn0005: .* was missing, and is there now"):
        build(config, workers=1)


def test_a_rejected_recording_that_was_replaced_is_noticed(with_rejections):
    config, (silent, _), (content, _) = with_rejections
    silent.write_bytes(content + bytes(100))
    with pytest.raises(OtherRecordings, match=r"turn0004: .* has [\d,]+ bytes, not [\d,]+"):
        build(config, workers=1)
    silent.write_bytes(content)  # of the same size as the silent one: only its sound can tell
    build(config, workers=1)
    with pytest.raises(OtherRecordings, match=r"turn0004: .* was rejected \(silent\), and can be"):
        build(config, workers=1, deep=True)
