"""Protocols whose folds each leave something out for the test: a session, speakers, a corpus."""

from __future__ import annotations

import numpy as np

from shards.corpora.labels import LabelSet
from shards.views.codes import encode
from shards.views.protocols.base import (
    ALL_PAIRS,
    PAIRS_WITH_TEST,
    TEST,
    TRAIN,
    VAL,
    Assigned,
    Promises,
    Protocol,
    Settings,
    chosen_fold,
)
from shards.views.protocols.groups import deal_speakers, draw_groups, take_speakers
from shards.views.turns import Turns, ViewError


def _leave_session(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings
) -> Assigned:
    sessions = LEAVE_ONE_SESSION_OUT.folds(turns, config)
    fold = chosen_fold(sessions, config)
    parts = np.where(turns.session == fold, TEST, TRAIN).astype(np.int8)
    rest = parts == TRAIN
    if config.val_speakers is not None:
        return parts, take_speakers(parts, turns, labels, label_set, config)
    if config.val_from_train is not None:
        share = {VAL: config.val_from_train}
        parts[rest] = draw_groups(
            turns.dialogue[rest], labels[rest], label_set, share, config, "dialogue"
        )
        return parts, []
    if len(sessions) < 3:
        raise ViewError(
            f"leave_one_session_out needs three sessions (to test, validate and train), here are "
            f"only {', '.join(sessions)}; set val_from_train to draw validation from the training "
            "turns"
        )
    following = _next(sessions, fold)
    parts[turns.session == following] = VAL
    return parts, [f"validation is session {following}"]


def _leave_speaker(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings
) -> Assigned:
    speakers = LEAVE_ONE_SPEAKER_OUT.folds(turns, config)
    fold = chosen_fold(speakers, config)
    if len(speakers) < 3:
        raise ViewError(
            "leave_one_speaker_out needs three speakers (to test, validate and train), here are "
            f"only {', '.join(speakers)}; use another protocol"
        )
    parts = np.where(turns.speaker == fold, TEST, TRAIN).astype(np.int8)
    if config.val_speakers is not None:
        return parts, take_speakers(parts, turns, labels, label_set, config)
    sessions = set(turns.session[turns.speaker == fold])
    beside = set(turns.speaker[np.isin(turns.session, list(sessions))])
    other = _next(sorted(beside) if len(beside) > 1 else speakers, fold)
    parts[turns.speaker == other] = VAL
    return parts, [f"validation is speaker {other}"]


def _speaker_folds(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings
) -> Assigned:
    known = SPEAKER_FOLDS.folds(turns, config)
    number = int(chosen_fold(known, config)) - 1
    fold_of = deal_speakers(turns, labels, label_set, config)
    parts = np.where(fold_of == number, TEST, TRAIN).astype(np.int8)
    tested = encode(turns.speaker[parts == TEST])[1]
    notes = [f"test is speakers {', '.join(tested[:8])}" + " and others" * (len(tested) > 8)]
    if config.val_speakers is not None:
        return parts, notes + take_speakers(parts, turns, labels, label_set, config)
    if config.val_from_train is not None:
        rest = parts == TRAIN
        share = {VAL: config.val_from_train}
        parts[rest] = draw_groups(
            turns.speaker[rest], labels[rest], label_set, share, config, "speaker"
        )
        return parts, notes
    if config.folds < 3:
        raise ViewError(
            "speaker_folds with two folds leaves none for validation: set data.view.folds to 3 or "
            "more, or data.view.val_speakers to the number of other speakers that validate"
        )
    following = (number + 1) % config.folds
    parts[fold_of == following] = VAL
    return parts, [*notes, f"validation is fold {following + 1}"]


def _leave_corpus(
    turns: Turns, labels: np.ndarray, label_set: LabelSet, config: Settings
) -> Assigned:
    corpora = LEAVE_ONE_CORPUS_OUT.folds(turns, config)
    if len(corpora) < 2:
        raise ViewError(
            "leave_one_corpus_out needs several corpora: name their folders in data.shards, "
            "[FOLDER, FOLDER]"
        )
    fold = chosen_fold(corpora, config)
    parts = np.where(turns.corpus == fold, TEST, TRAIN).astype(np.int8)
    if config.val_speakers is not None:
        return parts, take_speakers(parts, turns, labels, label_set, config)
    rest = parts == TRAIN
    share = {VAL: config.val_from_train or config.val}
    parts[rest] = draw_groups(
        turns.speaker[rest], labels[rest], label_set, share, config, "speaker"
    )
    return parts, ["validation is drawn from the other corpora, in whole speakers"]


def _next(circle: list[str], name: str) -> str:
    return circle[(circle.index(name) + 1) % len(circle)]


def _sessions_apart(config: Settings) -> Promises:
    if config.val_speakers is not None:  # speakers of one dialogue may then train and validate
        return {"speaker": ALL_PAIRS, "session": PAIRS_WITH_TEST, "dialogue": PAIRS_WITH_TEST}
    # Validation drawn from the training sessions shares their speakers.
    pairs = ALL_PAIRS if config.val_from_train is None else PAIRS_WITH_TEST
    return {"speaker": pairs, "session": pairs, "dialogue": ALL_PAIRS}


def _speakers_apart(config: Settings) -> Promises:
    return {"speaker": ALL_PAIRS}


LEAVE_ONE_SESSION_OUT = Protocol(
    _leave_session, _sessions_apart, fold="session", reads=("val_speakers",)
)
LEAVE_ONE_SPEAKER_OUT = Protocol(
    _leave_speaker, _speakers_apart, fold="speaker", reads=("val_speakers",)
)
SPEAKER_FOLDS = Protocol(
    _speaker_folds, _speakers_apart, numbered=True, reads=("folds", "val_speakers")
)
LEAVE_ONE_CORPUS_OUT = Protocol(
    _leave_corpus,
    lambda config: {"corpus": PAIRS_WITH_TEST, "speaker": ALL_PAIRS, "dialogue": PAIRS_WITH_TEST},
    fold="corpus",
    reads=("val_speakers",),
)
