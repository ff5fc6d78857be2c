"""The ceilings of the attributes, against attributes drawn from the process itself."""

import json

import numpy as np
import pytest

from shards.corpora.iemocap.reader import IemocapConfig, read
from shards.corpora.labels import label_set
from shards.sample import attributes as made
from shards.sample.ceilings import FORMAT, release_code
from shards.sample.corpus import write_corpus
from shards.sample.emotions import EMOTIONS, PROCESS, process_header


def test_moments_are_those_of_the_drawn_values():
    mean, variance = made.moments(EMOTIONS)
    for number, emotion in enumerate(EMOTIONS):
        np.testing.assert_allclose(made.rating_given_emotion(emotion).sum(axis=1), 1)
        rng = np.random.default_rng(number)
        drawn = np.array([made.draw_ratings(emotion, rng).mean(axis=0) for _ in range(20000)])
        np.testing.assert_allclose(drawn.mean(axis=0), mean[number], atol=0.02)
        np.testing.assert_allclose(drawn.var(axis=0), variance[number], atol=0.01)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """8,000 turns, each a chain by itself, without sound: a truth file, and values by turn."""
    path = tmp_path_factory.mktemp("drawn") / "truth.jsonl"
    rng = np.random.default_rng(11)
    header = {"format": FORMAT, **process_header()}
    lines, values, codes = [json.dumps(header)], {}, {}
    from shards.sample.emotions import PROSODY_GIVEN_EMOTION, VOTES, WORDS_GIVEN_EMOTION

    for number in range(8000):
        emotion = rng.choice(5, p=PROCESS.initial)
        word = rng.choice(5, p=WORDS_GIVEN_EMOTION[emotion])
        heard = rng.choice(5, p=PROSODY_GIVEN_EMOTION[emotion])
        odds = PROCESS.votes_given_emotion[emotion]
        votes = [VOTES[rng.choice(len(VOTES), p=odds)] for _ in range(3)]
        name = f"t{number}"
        codes[name] = release_code(votes)
        values[name] = made.draw_ratings(EMOTIONS[emotion], rng).mean(axis=0)
        lines.append(json.dumps({
            "id": name, "chain": name, "order": 0, "emotion": EMOTIONS[emotion],
            "words": np.log(WORDS_GIVEN_EMOTION[:, word]).tolist(),
            "prosody": np.log(PROSODY_GIVEN_EMOTION[:, heard]).tolist(),
        }))  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path, values, codes


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_the_ceilings_are_met_and_nothing_else_does_better(drawn):
    path, values, codes = drawn
    labels = label_set("five")
    kept = [name for name, code in codes.items() if labels.class_of(code) >= 0]
    y = np.array([values[name] for name in kept])
    ceilings = made.attribute_ceilings(path, labels)
    reached = {}
    for kind in ("text", "audio", "both"):
        best = np.array([ceilings[kind][name] for name in kept])
        for place, name in enumerate(made.NAMES):
            x, truth = best[:, place], y[:, place]
            assert x.mean() == pytest.approx(truth.mean(), abs=0.04)
            # The error that is left is what the emotion leaves open: Var y = Var x + error.
            error = ((x - truth) ** 2).mean()
            assert error == pytest.approx(truth.var() - x.var(), abs=0.04)
            # The correlation, and the CCC after stretching, are sqrt(Var x / Var y).
            wanted = np.sqrt(x.var() / truth.var())
            assert np.corrcoef(x, truth)[0, 1] == pytest.approx(wanted, abs=0.04)
            stretched = made.stretched(x, truth.var())
            reached[kind, name] = ccc(stretched, truth)
            assert reached[kind, name] == pytest.approx(wanted, abs=0.04)
            for factor in (0.8, 1.25):  # less or more stretched is worse
                other = stretched.mean() + factor * (stretched - stretched.mean())
                assert ccc(other, truth) < reached[kind, name]
    for name in made.NAMES:
        assert reached["both", name] > max(reached["text", name], reached["audio", name])
    print({key: round(value, 3) for key, value in reached.items()})


def test_the_written_corpus_is_drawn_so(tmp_path):
    write_corpus(tmp_path / "c", seed=2, dialogues=3, workers=1)
    found = read(IemocapConfig(root=tmp_path / "c", attributes=True)).utterances
    hidden = {}
    for line in (tmp_path / "c" / "truth.jsonl").read_text().splitlines()[1:]:
        one = json.loads(line)
        hidden[one["id"]] = one["emotion"]
    mean, variance = made.moments(EMOTIONS)
    z = [
        (attribute.mean - mean[EMOTIONS.index(hidden[one.id])][place])
        / np.sqrt(variance[EMOTIONS.index(hidden[one.id])][place])
        for one in found
        for place, attribute in enumerate(one.attributes)
    ]
    assert abs(np.mean(z)) < 0.25
    assert 0.8 < np.std(z) < 1.2
