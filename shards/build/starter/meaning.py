"""What the columns and words of a table mean: the audio, the label and the like; emotions."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shards.build.starter.look import AUDIO, Look
from shards.corpora.table.layout import SPLITS
from shards.corpora.words import KNOWN, code_of, fold_word

# The usual names of columns, less their blanks and signs.
NAMES = {
    "audio": "audio file filename filepath path audiopath audiofile wav wavfile wavpath clip sound "
    "recording datei dateiname pfad fichier archivo",
    "label": "emotion label emo class emotionlabel emoclass category target affect gefuhl gefühl "
    "emozione emocion emotie",
    "text": "text transcript transcription utterance sentence words transkript satz rawtext "
    "texte texto testo",
    "speaker": "speaker speakerid spk spkid spkrid speakername subject actor person participant "
    "sprecher sprecherin locuteur hablante parlante",
    "start": "start begin onset starttime startsec beginn",
    "end": "end stop offset endtime endsec ende",
    "split": "split part set subset partition splitset",
    "dialogue": "dialogue dialog dialogueid dialogid conversation conversationid gesprach gespräch",
    "id": "id key uttid utteranceid turnid segmentid",
}
# Words for emotions beyond the codes' own names, by language.
WORDS = {
    "ang": "rage wut ärger zorn wütend colère rabia ira enfado rabbia ang a furious irritated",
    "hap": "joy freude fröhlich glücklich joie alegría felicidad gioia happiness joyful h",
    "exc": "enthusiasm begeisterung",
    "sad": "trauer traurig traurigkeit tristesse tristeza tristezza sadness sorrow s",
    "neu": "neutre neutro neutrale n none",
    "fru": "frustration frustriert",
    "sur": "überraschung überrascht sorpresa surprise u",
    "fea": "angst furcht peur miedo paura anxious fear f",
    "dis": "ekel dégoût asco disgusto disgust d",
    "oth": "andere autre otro altro other o",
    "cal": "ruhe ruhig gelassen calme calma",
    "bor": "langeweile gelangweilt ennui aburrimiento noia boredom",
    "contempt": "verachtung mépris desprecio disprezzo scorn",
    "xxx": "unclear unknown unklar unsicher nan na n/a ? x - mixed noagreement ambiguous undecided",
}
_MEANING = {word: code for code, words in WORDS.items() for word in words.split()}
FEW = 40  # a label has no more different words
SHARE = 0.5  # of the files must be found where a template says
WALKED = 200_000  # files that are looked through for the recordings


@dataclass(frozen=True)
class Audio:
    """Where recordings lie: the corpus' root, and the path from there as a template of columns."""

    root: Path
    source: str
    absolute: bool = False


def roles(table: Look) -> dict[str, str]:
    """Which column is what: the role (as in `NAMES`) and the column's name."""
    names = {re.sub(r"[\W_]+", "", column.lower()): column for column in reversed(table.columns)}
    found: dict[str, str] = {}
    for role, usual in NAMES.items():
        column = next((names[name] for name in usual.split() if name in names), None)
        if column is not None and column not in found.values():
            found[role] = column
    by_content = {"audio": _names_files, "label": _names_emotions}
    for role, fits in by_content.items():
        if role not in found or not fits(table.values(found[role])):
            others = [c for c in table.columns if c not in found.values()]
            better = [column for column in others if fits(table.values(column))]
            if better:
                found[role] = better[0]
    if "split" in found and not _names_parts(table.values(found["split"])):
        del found["split"]
    return found


def _names_files(values: list[str]) -> bool:
    return bool(values) and sum(v.lower().endswith(AUDIO) for v in values) > SHARE * len(values)


def _names_emotions(values: list[str]) -> bool:
    words = {fold_word(value) for value in values}
    known = [word for word in words if emotion(word) in KNOWN]
    return 1 < len(words) <= FEW and len(known) >= SHARE * len(words)


def _names_parts(values: list[str]) -> bool:
    return bool(values) and all(value.lower() in SPLITS for value in values)


def emotion(word: str) -> str:
    """The code that a word of a label column probably means; the word itself if none is known."""
    folded = fold_word(word)
    code = code_of(folded)
    if code in KNOWN or not folded:
        return code or "xxx"
    return _MEANING.get(folded.replace(" ", ""), folded)


def labels(values: Iterable[str]) -> dict[str, tuple[str, int]]:
    """The words of a label column with their code and count, the most frequent first."""
    spelled: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for value in values:
        counts[fold_word(value)] += 1
        spelled.setdefault(fold_word(value), value.strip())
    return {spelled[word]: (emotion(word), count) for word, count in counts.most_common()}


def find_audio(table: Look, column: str) -> tuple[Audio | None, list[str]]:
    """Where the recordings of `column` lie, if most are found; and remarks on the search."""
    values = table.values(column)
    sample = values[:: max(1, len(values) // 200)]
    folder = table.path.resolve().parent
    plain = f"{{{column}}}"
    endings = [""] if _names_files(values) else ["", *AUDIO]
    tries = [
        Audio(root, f"{plain}{ending}", absolute=any(map(os.path.isabs, sample)))
        for root in (folder, *list(folder.parents)[:2])
        for ending in endings
    ]
    tries += _by_name(folder, sample, plain, endings)
    best = max(tries, key=lambda one: _found(one, column, sample))
    count = _found(best, column, sample)
    if count < SHARE * len(sample):
        return None, [
            f"the recordings of column {column!r} are not found ({sample[0]!r} is no file below "
            f"{folder}): correct `audio` in the spec, or set corpus.audio_root in the build"
        ]
    inside = all(
        not os.path.isabs(value) or Path(value).is_relative_to(best.root) for value in sample
    )
    return Audio(best.root, best.source, not inside), []


def _found(one: Audio, column: str, values: list[str]) -> int:
    return sum(
        os.path.isfile(os.path.join(one.root, one.source.replace(f"{{{column}}}", value)))
        for value in values
    )


def _by_name(folder: Path, values: list[str], plain: str, endings: list[str]) -> list[Audio]:
    """Templates of folders below the table in which files of these names lie."""
    wanted = {os.path.basename(value) + ending: ending for value in values for ending in endings}
    places: Counter[tuple[str, str]] = Counter()
    walked = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            if name in wanted:
                places[os.path.relpath(inner, folder), wanted[name]] += 1
        walked += len(names)
        if walked > WALKED:
            break
    return [
        Audio(folder, f"{place}/{plain}{ending}")
        for (place, ending), _ in places.most_common(8)
        if place != "."
    ]
