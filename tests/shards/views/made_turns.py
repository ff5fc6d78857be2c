"""Made-up turns to cut into views, and what must hold of every view of them."""

from itertools import combinations

import numpy as np

from shards.corpora.utterance import Utterance
from shards.store.schema import VARIANTS
from shards.views.leakage import check_rows
from shards.views.turns import turns_of
from shards.views.view import COLUMNS, ViewConfig

CODES = ("ang", "hap", "exc", "sad", "neu", "fru", "xxx", "sur")
PARTS = ("train", "val", "test")


def utterances(dialogues=60, turns=12, texts=200, seed=0):
    """A small corpus in IEMOCAP's manner: five sessions, two speakers each, some scripts."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(dialogues):
        session = f"Ses0{number % 5 + 1}"
        scene = f"script0{number // 10 % 3 + 1}_1" if number % 4 == 3 else f"impro{number:03d}"
        dialogue = f"{session}F_{scene}" + ("" if number % 4 != 3 else f"x{number}")
        for turn in range(turns):
            gender = "FM"[turn % 2]
            code = str(random.choice(CODES, p=(0.15, 0.1, 0.1, 0.15, 0.2, 0.15, 0.1, 0.05)))
            common = random.random() < 0.1
            text = "Okay." if common else f"Line number {random.integers(texts)}!"
            found.append(
                Utterance(
                    id=f"{dialogue}_{gender}{turn:03d}",
                    audio=None,
                    text=text,
                    label=code,
                    votes=((code,),),
                    speaker=session + gender,
                    session=session,
                    dialogue=dialogue,
                    turn=turn,
                    split="test" if session == "Ses05" else "train",
                )
            )
    return found


def index_of(found):
    """Index columns: five variants of labelled turns, clean alone of the others."""
    columns = {name: [] for name in COLUMNS}
    for item in found:
        for variant in VARIANTS if item.label != "xxx" else VARIANTS[:1]:
            for name in COLUMNS:
                value = {"utterance": item.id, "variant": variant}.get(name)
                columns[name].append(getattr(item, name, None) if value is None else value)
    return columns


FOUND = utterances()
INDEX = index_of(FOUND)
PROTOCOLS = (
    {"protocol": "random"},
    {"protocol": "random", "val_from_train": 0.2},
    {"protocol": "random_dialogues"},
    {"protocol": "leave_one_session_out", "fold": "Ses02"},
    {"protocol": "leave_one_session_out", "fold": "Ses02", "val_from_train": 0.2},
    {"protocol": "leave_one_speaker_out", "fold": "Ses02F"},
    {"protocol": "official"},
    {"protocol": "script_disjoint"},
    {"protocol": "speakers", "test": 0.2},
    {"protocol": "speakers", "test_speakers": ("Ses02F", "Ses04M"), "val_speakers": 2},
    {"protocol": "speaker_folds", "fold": "2"},
    {"protocol": "speaker_folds", "fold": "1", "folds": 2, "val_speakers": 1},
    {"protocol": "leave_one_session_out", "fold": "Ses02", "val_speakers": 2},
    {"protocol": "leave_one_speaker_out", "fold": "Ses02F", "val_speakers": 3},
)


def config_of(options, **more):
    return ViewConfig(**(options | more))


def column(view, part, name, index=INDEX):
    return np.array(index[name], dtype=object)[view.rows(part)]


def assert_sound(view, index):
    """What holds for every view of every protocol."""
    utterance, variant = (np.array(index[name]) for name in ("utterance", "variant"))
    inside = np.array([view.label_set.class_of(code) for code in index["label"]])
    assert np.array_equal(view.labels, inside)
    for part in PARTS:
        rows = view.rows(part)
        assert rows.dtype == np.int64
        assert len(rows)
        assert (np.diff(rows) > 0).all()
        assert (view.labels[rows] >= 0).all()
    for part in ("val", "test"):
        assert (variant[view.rows(part)] == "clean").all()
    copies = np.isin(utterance, utterance[view.train])
    assert np.array_equal(np.flatnonzero(copies), view.train), "all variants train, together"
    for first, second in combinations(PARTS, 2):
        assert not set(utterance[view.rows(first)]) & set(utterance[view.rows(second)])
    assert set(view.labels[view.train]) == set(range(len(view.label_set.classes)))
    check(view, index)


def check(view, columns):
    """What `make_view` ends with, for a view that was tampered with."""
    rows = {part: view.rows(part) for part in PARTS}
    check_rows(turns_of(columns), view.labels, rows, view.config)
