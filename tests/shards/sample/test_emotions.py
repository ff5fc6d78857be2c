"""What is drawn follows the tables, and the tables give the ceilings that they were made for."""

import itertools
import json

import numpy as np
import pytest

from shards.corpora.labels import label_set
from shards.sample import emotions
from shards.sample.ceilings import FORMAT, KINDS, ceilings, release_code

AIMED = {"text": 0.75, "audio": 0.60, "both": 0.84, "past": 0.90, "whole": 0.93}


@pytest.fixture(scope="module")
def dialogues():
    return [emotions.draw_dialogue(np.random.default_rng([11, n])) for n in range(400)]


@pytest.fixture(scope="module")
def predictions(dialogues, tmp_path_factory):
    """Truth of the drawn turns, and the exact predictions for it: (turns by id, ceilings)."""
    turns = {
        f"{number}/{turn.speaker}{turn.order}": (f"{number}/{turn.speaker}", turn)
        for number, dialogue in enumerate(dialogues)
        for turn in dialogue
    }
    records = [
        {
            "id": name,
            "chain": chain,
            "order": turn.order,
            "emotion": emotions.EMOTIONS[turn.emotion],
            "words": np.log(emotions.WORDS_GIVEN_EMOTION[:, turn.word_cue]).tolist(),
            "prosody": np.log(emotions.PROSODY_GIVEN_EMOTION[:, turn.prosody_cue]).tolist(),
        }
        for name, (chain, turn) in turns.items()
    ]
    path = tmp_path_factory.mktemp("truth") / "truth.jsonl"
    header = {"format": FORMAT, **emotions.process_header()}
    path.write_text("".join(json.dumps(record) + "\n" for record in [header, *records]))
    found = {name: ceilings(path, label_set(name)) for name in ("four", "five", "six")}
    return {name: turn for name, (_, turn) in turns.items()}, found


def test_labels_are_the_majority_of_the_votes(dialogues):
    for dialogue in dialogues[:20]:
        for turn in dialogue:
            assert len(turn.votes) == 3
            assert turn.label == release_code(turn.votes)


def test_most_turns_are_kept_and_every_kind_of_code_occurs(dialogues):
    labels = [turn.label for dialogue in dialogues for turn in dialogue]
    assert len(labels) / len(dialogues) == pytest.approx(28, abs=0.5)
    five = label_set("five")
    kept = np.mean([five.class_of(label) >= 0 for label in labels])
    assert 0.80 < kept < 0.88
    assert {"ang", "fru", "hap", "exc", "neu", "sad", "xxx", "sur", "oth"} <= set(labels)
    votes = [vote for dialogue in dialogues for turn in dialogue for vote in turn.votes]
    assert 0.02 < np.mean([len(vote) > 1 for vote in votes]) < 0.06


def test_emotions_persist_per_speaker_and_keep_their_shares(dialogues):
    same = []
    for dialogue in dialogues:
        for speaker in "FM":
            own = [turn for turn in dialogue if turn.speaker == speaker]
            assert [turn.order for turn in own] == list(range(len(own)))
            same += [a.emotion == b.emotion for a, b in itertools.pairwise(own)]
    assert np.mean(same) == pytest.approx(np.trace(emotions.PROCESS.transition) / 5, abs=0.02)
    drawn = [turn.emotion for dialogue in dialogues for turn in dialogue]
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), emotions.SHARES, atol=0.02)


def test_cues_follow_their_tables_independently(dialogues):
    """Given the emotion, words tell nothing about prosody or about the votes."""
    counts = np.zeros((5, 5, 5))
    agreed = np.zeros((5, 5, 2))
    for dialogue in dialogues:
        for turn in dialogue:
            counts[turn.emotion, turn.word_cue, turn.prosody_cue] += 1
            agreed[turn.emotion, turn.word_cue, int(turn.label == "xxx")] += 1
    for emotion in range(5):
        n = counts[emotion].sum()
        words, prosody = counts[emotion].sum(axis=1) / n, counts[emotion].sum(axis=0) / n
        np.testing.assert_allclose(words, emotions.WORDS_GIVEN_EMOTION[emotion], atol=0.03)
        np.testing.assert_allclose(prosody, emotions.PROSODY_GIVEN_EMOTION[emotion], atol=0.03)
        np.testing.assert_allclose(counts[emotion] / n, np.outer(words, prosody), atol=0.015)
        undecided = agreed[emotion, :, 1].sum() / n
        np.testing.assert_allclose(agreed[emotion, :, 1] / n, words * undecided, atol=0.015)


def test_ceilings_lie_where_they_were_aimed(predictions):
    turns, found = predictions
    five = label_set("five")
    kept = [name for name, turn in turns.items() if five.class_of(turn.label) >= 0]
    for kind in AIMED:
        accuracy = np.mean([found["five"][kind][name].max() for name in kept])
        assert accuracy == pytest.approx(AIMED[kind], abs=0.02), kind


@pytest.mark.parametrize("labels", ["four", "five", "six"])
def test_predictions_are_as_often_right_as_they_expect(predictions, labels):
    """Exact posteriors are calibrated: their accuracy is their mean maximum, within chance."""
    turns, found = predictions
    chosen = label_set(labels)
    kept = {
        name: chosen.class_of(turn.label)
        for name, turn in turns.items()
        if chosen.class_of(turn.label) >= 0
    }
    for kind in KINDS:
        odds = np.stack([found[labels][kind][name] for name in kept])
        right = odds.argmax(axis=1) == np.array(list(kept.values()))
        expected = odds.max(axis=1)
        error = np.sqrt((expected * (1 - expected)).sum()) / len(kept)
        assert abs(right.mean() - expected.mean()) < 4 * error, kind
