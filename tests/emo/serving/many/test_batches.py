"""Many inputs: results keep their order, equal single ones, and bad inputs are told one by one."""

import json

import numpy as np
import pytest
import soundfile

from emo import load
from emo.__main__ import main
from emo.evaluation.predictions import read_lines
from emo.runs.finished import read_results
from emo.serving.items import Item, Prediction, Refusal
from emo.serving.predict import CannotPredict


@pytest.fixture(scope="module")
def turns(tiny_corpus):
    """The turns of the tiny corpus, with paths from its folder."""
    return [json.loads(line) for line in (tiny_corpus / "turns.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def table(trained_runs, tiny_corpus, turns):
    """Its test part as JSON lines."""
    labels = {one["utterance"]: one["label"] for one in read_lines(trained_runs["text"], "test")}
    path = tiny_corpus / "test-part.jsonl"
    rows = [one | {"label": labels[one["id"]]} for one in turns if one["id"] in labels]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("kind", ["text", "audio", "fusion"])
def test_the_test_part_as_a_table_gives_what_evaluation_gave(kind, trained_runs, table, capsys):
    run = trained_runs[kind]
    assert main(["predict", str(run), str(table), "--format", "json", "--batch", "7"]) == 0
    shown = capsys.readouterr()
    found = {line["id"]: line["probabilities"] for line in lines_of(shown.out)}
    expected = {one["utterance"]: one["probabilities"] for one in read_lines(run, "test")}
    assert found.keys() == expected.keys()
    for name, probabilities in found.items():
        assert probabilities == pytest.approx(expected[name], abs=2e-6)
    test = read_results(run)["parts"]["test"]
    assert f"WA {100 * test['wa']:.1f} UA {100 * test['ua']:.1f}" in shown.err
    unread = {"text": "audio", "audio": "text"}.get(kind)
    assert (f"the {unread} was not used" in shown.err) == (unread is not None)


def test_ten_bad_among_a_hundred(trained_runs, tiny_corpus, turns, tmp_path, capsys):
    good = [str(tiny_corpus / one["audio"]) for one in turns[:90]]
    bad = []
    for number in range(10):
        path = tmp_path / f"bad{number}.wav"
        if number % 3 == 0:
            path.write_bytes(b"no sound at all")
        elif number % 3 == 1:
            soundfile.write(path, np.zeros(8000), 8000)
        bad.append(str(path))  # every third is missing
    mixed = [*good]
    for number, path in enumerate(bad):
        mixed.insert(number * 9, path)
    out = tmp_path / "out.csv"
    run = str(trained_runs["audio"])
    assert main(["predict", run, *mixed, "--format", "csv", "--output", str(out)]) == 3
    rows = [line.split(",", 4) for line in out.read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == mixed
    assert sum(row[3] != "" for row in rows) == 90
    shown = capsys.readouterr().err
    assert all(sum(path in line for line in shown.splitlines()) == 1 for path in bad)
    assert "90 predicted, 10 not" in shown


def test_bad_lines_of_a_table_keep_their_place(trained_runs, tmp_path, capsys, monkeypatch):
    late = '{"id": "c", "text": "smile", "start": "soon"}'
    lines = ['{"id": "a", "text": "shout hate"}', "{broken", '{"id": "b"}', "[]", late]
    lines.append('{"id": "d", "text": "alone"}')
    path = tmp_path / "lines.jsonl"
    path.write_text("\n".join(lines))
    monkeypatch.setattr("sys.stdin", path.open())
    assert main(["predict", str(trained_runs["text"]), "-", "--json"]) == 3
    found = lines_of(capsys.readouterr().out)
    assert [("label" in one, one["id"]) for one in found] == [
        (True, "a"), (False, "standard input:2"), (False, "b"), (False, "standard input:4"),
        (False, "c"), (True, "d"),
    ]  # fmt: skip


def test_mistakes_are_told_before_anything_is_read(trained_runs, tmp_path, capsys):
    run = str(trained_runs["text"])
    (tmp_path / "t.csv").write_text("txt,who\nhello,me\n")
    for words, wanted in (
        ([], "give recordings"),
        (["a.wav", "--text", "b"], "not both"),
        (["--text", "b", "--format", "jsonn"], "did you mean 'json'"),
        (["--text", "b", "--every", "1"], "add --window"),
        (["--text", "b", "--batch", "0"], "at least 1"),
        ([str(tmp_path / "t.csv")], "did you mean 'text'"),
        ([str(tmp_path)], "no recording"),
        (["--text", "b", "--device", "gpu"], "give auto, cpu or cuda"),
    ):
        assert main(["predict", run, *words]) == 2
        assert wanted in capsys.readouterr().err


def test_the_object_takes_files_arrays_lists_and_batches(trained_runs, tiny_corpus, turns):
    model = load(trained_runs["fusion"])
    path, words = tiny_corpus / turns[0]["audio"], turns[0]["text"]
    one = model(path, words)
    assert one.label in model.classes
    assert one.confidence == max(one.probabilities.values())
    samples, rate = soundfile.read(path, dtype="int16")
    assert model(samples, words, rate=rate).probabilities == pytest.approx(one.probabilities)
    stereo = np.stack([samples, samples]).astype(np.float32) / 32768  # torchaudio's order
    assert model(stereo, words, rate=rate).probabilities == pytest.approx(one.probabilities)
    some = model([path, str(path)], [words, "smile"])
    assert some[0].probabilities == pytest.approx(one.probabilities, abs=1e-6)
    assert some[1].probabilities != pytest.approx(one.probabilities, abs=1e-4)
    assert "without audio" in model(text=words).notes[0]
    with pytest.raises(CannotPredict, match="2 recordings and 1 texts"):
        model([path, path], [words])
    with pytest.raises(CannotPredict, match="rate=16000"):
        model(samples, words)
    with pytest.raises(CannotPredict, match="missing"):
        model([path, "nowhere.wav"])


def test_items_may_be_endless(trained_runs):
    def endless():
        while True:
            yield Item("one", text="shout hate")
            yield Item("two", text="[LAUGHTER]")

    results = load(trained_runs["text"]).predictions(endless(), batch=4)
    found = [next(results) for _ in range(200)]
    results.close()
    assert [type(one) for one in found[:4]] == [Prediction, Refusal, Prediction, Refusal]
