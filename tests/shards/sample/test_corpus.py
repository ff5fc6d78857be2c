"""The sample corpus as a user of it sees it: on disk, through the IEMOCAP reader, and by ear."""

import hashlib
import itertools
import json
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from scipy.stats import chi2_contingency
from torch import nn

from shards.corpora.iemocap.reader import IemocapConfig
from shards.corpora.labels import label_set
from shards.corpora.read import read_corpus
from shards.sample.ceilings import ceilings, read_truth, release_code
from shards.sample.corpus import MAX_DIALOGUES, SampleError, dialogue_name, write_corpus
from shards.sample.emotions import EMOTIONS
from shards.sample.espeak import version

DIALOGUES = 40  # about 1,100 turns


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("sample") / "corpus"
    assert write_corpus(root, seed=3, dialogues=DIALOGUES, workers=2)
    return root


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """The same turns, all spoken in one manner."""
    root = tmp_path_factory.mktemp("flat") / "corpus"
    write_corpus(root, seed=3, dialogues=DIALOGUES, workers=2, prosody=False)
    return root


@pytest.fixture(scope="module")
def utterances(corpus):
    return read_corpus(IemocapConfig(root=corpus)).utterances


@pytest.fixture(scope="module")
def records(corpus):
    lines = (corpus / "truth.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def digest(root):
    """The relative path and content of every file."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# ------------------------------------------------------------------------------- on disk


def test_the_same_seed_writes_the_same_bytes_whatever_the_number_of_processes(tmp_path):
    for name, workers in (("a", 1), ("b", 2)):
        write_corpus(tmp_path / name, seed=5, dialogues=4, workers=workers)
    write_corpus(tmp_path / "other", seed=6, dialogues=4, workers=1)
    first, second, other = (digest(tmp_path / name) for name in ("a", "b", "other"))
    assert first == second
    assert len(first) > 4 * 24
    assert not set(first.values()) & set(other.values()) - {first["README.txt"]}


def test_a_larger_corpus_begins_with_the_smaller_one(tmp_path, corpus):
    write_corpus(tmp_path / "small", seed=3, dialogues=2, workers=1)
    small, large = digest(tmp_path / "small"), digest(corpus)
    assert {name: large[name] for name in small if name != "truth.jsonl"} == {
        name: content for name, content in small.items() if name != "truth.jsonl"
    }


def test_it_is_written_once_and_replaced_only_by_another_of_its_kind(tmp_path):
    root = tmp_path / "corpus"
    seen = []
    assert write_corpus(root, 1, dialogues=2, workers=1, progress=lambda *s: seen.append(s))
    assert seen == [(1, 2), (2, 2)]
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert not write_corpus(root, 1, dialogues=2)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert write_corpus(root, 2, dialogues=1, workers=1)
    assert json.loads((root / "truth.jsonl").open().readline())["seed"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]

    (root / "notes.txt").write_text("mine")
    with pytest.raises(SampleError, match=r"notes\.txt"):
        write_corpus(root, 3, dialogues=1)
    assert (root / "notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "Session1").mkdir()
    with pytest.raises(SampleError, match="no sample corpus"):
        write_corpus(tmp_path, 1)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SampleError, match="not a folder"):
        write_corpus(file, 1)
    with pytest.raises(SampleError, match="151 is out of range"):
        write_corpus(tmp_path / "new", 1, dialogues=MAX_DIALOGUES + 1)
    assert {path.name for path in tmp_path.iterdir()} == {"Session1", "file"}


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def interrupt(done, _total):
        if done == 2:
            raise KeyboardInterrupt

    for workers in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            write_corpus(tmp_path / "c", 1, dialogues=4, workers=workers, progress=interrupt)
        assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------- through the reader


def test_names_follow_the_release():
    names = [dialogue_name(index) for index in range(MAX_DIALOGUES)]
    assert len(set(names)) == 150
    assert Counter(name[:5] for name in names) == {f"Ses0{n}": 30 for n in range(1, 6)}
    assert {"Ses01F_impro01", "Ses05M_script03_2"} <= set(names)
    assert {name.split("_")[1][:5] for name in names[:20]} == {"impro", "scrip"}


def test_the_iemocap_reader_reads_it(corpus, utterances, records):
    found = read_corpus(IemocapConfig(root=corpus))
    assert found.problems == []
    assert found.truth == corpus / "truth.jsonl"
    assert {u.id for u in utterances} == {record["id"] for record in records}
    assert len({u.speaker for u in utterances}) == 10
    truth = {record["id"]: record for record in records}
    for utterance in utterances:
        assert utterance.label == release_code(utterance.votes)
        assert len(utterance.votes) == 3
        # The speaker is the last part's letter, whoever wears the markers.
        assert utterance.speaker[-1] == truth[utterance.id]["chain"][-1]
    crossed = [u for u in utterances if u.dialogue[5] != u.speaker[-1]]
    assert 0.3 < len(crossed) / len(utterances) < 0.7


def test_audio_is_16_khz_mono_pcm_as_long_as_the_label_file_says(utterances):
    for utterance in utterances[::20]:
        info = soundfile.info(utterance.audio)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.duration == pytest.approx(utterance.end - utterance.start, abs=2e-4)


def test_truth_gives_predictions_for_every_turn(corpus, utterances):
    five = label_set("five")
    found = ceilings(corpus / "truth.jsonl", five)
    kept = [u for u in utterances if five.class_of(u.label) >= 0]
    right = {
        kind: np.mean([odds[u.id].argmax() == five.class_of(u.label) for u in kept])
        for kind, odds in found.items()
    }
    assert right["audio"] < right["text"] < right["both"] < right["past"] < right["whole"]


# --------------------------------------------------------------- what is heard and read


def independent(rows, columns):
    """p-value of the hypothesis that two lists of labels have nothing to do with each other."""
    a, b = (np.unique(values, return_inverse=True)[1] for values in (rows, columns))
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    return chi2_contingency(table).pvalue


def test_what_is_spoken_knows_nothing_of_label_and_transcript(utterances, records):
    truth = {record["id"]: record for record in records}
    turns = [(u, truth[u.id]) for u in utterances]
    views = {
        "emotion": lambda u, t: t["emotion"],
        "label": lambda u, t: u.label,
        "word cue": lambda u, t: t["word_cue"],
        "prosody cue": lambda u, t: t["prosody_cue"],
        "transcript": lambda u, t: u.text.split()[-1],
    }
    for name, view in views.items():
        length = independent(
            [view(*turn) for turn in turns], [len(t["spoken"].split("'")) for _, t in turns]
        )
        first = independent([view(*turn) for turn in turns], [t["spoken"][0] for _, t in turns])
        # Letters of a turn are drawn one by one, so all of them can be counted together.
        letters = [
            (view(u, t), letter) for u, t in turns for letter in t["spoken"] if letter.isalpha()
        ]
        sounds = independent(*zip(*letters, strict=True))
        assert min(length, first, sounds) > 1e-3, name
    # The same test does see what is there.
    assert independent([t["emotion"] for _, t in turns], [u.label for u, _ in turns]) < 1e-50
    assert (
        independent([t["emotion"] for _, t in turns], [t["prosody_cue"] for _, t in turns]) < 1e-50
    )


def features(utterances):
    """Log-mel spectrograms, float32 [T, 64], normalised by all of them together."""
    mel = torchaudio.transforms.MelSpectrogram(16000, 1024, hop_length=400, n_mels=64)
    made = []
    for utterance in utterances:
        wave = torch.from_numpy(soundfile.read(utterance.audio, dtype="float32")[0])
        made.append(torch.log(mel(wave) + 1e-9).T)
    everything = torch.cat(made)
    mean, deviation = everything.mean(0), everything.std(0)
    return [(one - mean) / deviation for one in made]


class SmallCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (1, 8, 16, 32, 64)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.head = nn.Linear(64 * 4, len(EMOTIONS))

    def forward(self, x_BTF: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        x, mask = x_BTF[:, None], mask_BT[:, None]
        for layer in self.layers:
            x = nn.functional.max_pool2d(nn.functional.leaky_relu(layer(x)), 2)
            mask = nn.functional.max_pool1d(mask, 2)
            x = x * mask[..., None]
        pooled = x.sum(2).flatten(1) / mask.sum(2)
        return self.head(pooled)


def accuracy_of_a_trained_cnn(root, epochs):
    """Train on three quarters of the dialogues, test on the rest: accuracy, chance, test turns."""
    five = label_set("five")
    utterances = [
        u for u in read_corpus(IemocapConfig(root=root)).utterances if five.class_of(u.label) >= 0
    ]
    x, y = features(utterances), [five.class_of(u.label) for u in utterances]
    held_out = set(sorted({u.dialogue for u in utterances})[::4])
    test = [n for n, u in enumerate(utterances) if u.dialogue in held_out]
    train = [n for n, u in enumerate(utterances) if u.dialogue not in held_out]

    def batch(chosen):
        padded = nn.utils.rnn.pad_sequence([x[n] for n in chosen], batch_first=True)
        lengths = torch.tensor([len(x[n]) for n in chosen])
        mask = torch.arange(padded.shape[1]) < lengths[:, None]
        return padded, mask.float(), torch.tensor([y[n] for n in chosen])

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = SmallCNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        order = rng.permutation(train)
        for start in range(0, len(order), 16):
            inputs, mask, labels = batch(order[start : start + 16])
            loss = nn.functional.cross_entropy(model(inputs, mask), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        inputs, mask, labels = batch(test)
        right = (model(inputs, mask).argmax(1) == labels).double().mean().item()
    return right, Counter(y[n] for n in test).most_common(1)[0][1] / len(test), len(test)


def test_an_audio_model_without_prosody_stays_at_chance(corpus, flat):
    """Syllables and voices tell nothing; the same model on the same turns does hear prosody."""
    turns = sum(1 for _ in (corpus / "truth.jsonl").open())
    assert turns == sum(1 for _ in (flat / "truth.jsonl").open())
    heard, chance, count = accuracy_of_a_trained_cnn(corpus, epochs=4)
    unheard, _, _ = accuracy_of_a_trained_cnn(flat, epochs=4)
    error = np.sqrt(chance * (1 - chance) / count)
    assert unheard < chance + 3 * error
    assert heard > chance + 8 * error


def test_truth_of_a_corpus_without_prosody_says_so(flat):
    truth = read_truth(flat / "truth.jsonl")
    assert truth.header["prosody"] is False
    assert all(not turn.prosody.any() for turn in truth.turns)
    five = ceilings(flat / "truth.jsonl", label_set("five"))
    constant = np.stack(list(five["audio"].values()))
    np.testing.assert_allclose(constant, np.broadcast_to(constant[0], constant.shape))


def test_flat_and_full_corpora_differ_in_sound_alone(corpus, flat):
    full, plain = digest(corpus), digest(flat)
    assert set(full) == set(plain)
    for name in full:
        if "transcriptions" in name:  # times follow the sound
            strip = [
                [line.split("]: ")[1] for line in (root / name).read_text().splitlines()]
                for root in (corpus, flat)
            ]
            assert strip[0] == strip[1]


def test_espeak_is_the_one_of_the_wheel():
    assert version().startswith("1.")
