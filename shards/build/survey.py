"""A corpus looked at without a build: counts, hours, rates, defects, what would be rejected.

Every table is read, and the header of every recording. Only decoding tells silence and damage: it
is done for some of the recordings, or for all.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from shards.config import ShardConfig
from shards.configfile import load
from shards.corpora.base import Corpus, listing, printable
from shards.corpora.embedded import read_recording
from shards.corpora.iemocap.reader import IemocapConfig
from shards.corpora.read import read_corpus
from shards.corpora.table.layout import SpecLoader
from shards.corpora.table.reader import TableConfig
from shards.corpora.table.spec import TableSpec
from shards.corpora.utterance import Utterance
from shards.extract.audio import AudioConfig, AudioError
from shards.extract.audio.turn import load_turn
from shards.extract.text import clean
from shards.progress import progress
from shards.yaml_text import read as read_yaml

DECODED = 100  # recordings that are decoded where not all are
ALL = 10**9
Place = tuple[Path, tuple[str, int] | None]  # of a recording: its file, and the cell in it


@dataclass(frozen=True)
class Header:
    """What a recording's header says: Hz, channels, seconds, the container and its coding."""

    rate: int
    channels: int
    seconds: float
    kind: str


@dataclass
class Survey:
    """What was found: the corpus, headers by recording, and turns that a build would reject.

    `unread` are recordings whose header libsndfile does not read; they are decoded.
    """

    corpus: Corpus
    headers: dict[Place, Header] = field(default_factory=dict)
    unread: list[Place] = field(default_factory=list)
    rejected: dict[str, AudioError] = field(default_factory=dict)
    decoded: int = 0


def corpus_config(spec: Path, root: Path, changes: dict[str, Any]) -> TableConfig | IemocapConfig:
    """The corpus of `spec` (a corpus' YAML, or a build's) in the folder `root`.

    Raises:
        ConfigError: the file cannot be used.
    """
    if spec.is_file() and _is_build(spec):
        found = load(ShardConfig, spec, [f"corpus.root={root}"]).corpus
    else:
        found = TableConfig(root=root, spec=load(TableSpec, spec, loader=SpecLoader))
    known = {k: value for k, value in changes.items() if value and k in type(found).model_fields}
    return found.model_copy(update={"max_problems": ALL, **known})


def _is_build(spec: Path) -> bool:
    try:
        found = read_yaml(spec.read_text(encoding="utf-8"))
    except Exception:  # whatever is wrong with it, `load` says it better
        return False
    return isinstance(found, dict) and "corpus" in found


def survey(config: TableConfig | IemocapConfig, deep: bool) -> Survey:
    """Read the corpus and its recordings' headers; decode some of them, or all with `deep`.

    Raises:
        CorpusError: the corpus cannot be read at all.
    """
    found = Survey(read_corpus(config, keep_incomplete=False))
    turns: dict[Place, list[Utterance]] = defaultdict(list)
    for one in found.corpus.utterances:
        if one.audio is not None:
            turns[one.audio, one.embedded].append(one)
    with ThreadPoolExecutor() as pool:  # headers wait for the disk
        first = (members[0] for members in turns.values())
        for place, header in zip(turns, pool.map(_header, first), strict=True):
            if header is None:
                found.unread.append(place)
            else:
                found.headers[place] = header
    places = [*turns]
    chosen = places if deep else places[:: max(1, len(places) // DECODED)]
    todo = list(dict.fromkeys([*found.unread, *chosen]))
    audio = AudioConfig()
    with progress("recordings", len(todo), "recordings") as advance:
        for place in todo:
            for one in turns[place]:
                _decode(one, audio, found)
            advance(1)
    found.decoded = len(todo)
    return found


def _header(one: Utterance) -> Header | None:
    import io

    import soundfile

    assert one.audio is not None
    try:
        where = str(one.audio) if one.embedded is None else io.BytesIO(read_recording(one))
        info = soundfile.info(where)
    except (soundfile.LibsndfileError, OSError, RuntimeError, UnicodeError):
        return None
    return Header(
        info.samplerate, info.channels, info.duration, f"{info.format} {info.subtype}".lower()
    )


def _decode(one: Utterance, config: AudioConfig, found: Survey) -> None:
    try:
        recording = load_turn(one, config)
    except AudioError as error:
        found.rejected[one.id] = error
        return
    place = cast(Place, (one.audio, one.embedded))
    if place not in found.headers:
        seconds = len(recording.wave) / config.sample_rate
        assert one.audio is not None
        suffix = one.audio.suffix.lower().lstrip(".")
        found.headers.setdefault(place, Header(0, 0, seconds, suffix))


def describe(found: Survey) -> str:
    """`found` in words, for a person who meets the corpus for the first time."""
    utterances = found.corpus.utterances
    lines = [*found.corpus.notes, ""]
    lines += [*_turns(utterances), *_audio(found), *_texts(utterances), *_rejections(found)]
    return "\n".join(map(printable, lines))


def _turns(utterances: Sequence[Utterance]) -> Iterator[str]:
    speakers = Counter(one.speaker for one in utterances)
    if speakers:
        counts = sorted(speakers.values())
        yield (
            f"speakers    {len(speakers)}, with {counts[0]} to {counts[-1]} turns "
            f"(median {statistics.median(counts):g})"
        )
    votes = Counter(len(one.votes) for one in utterances)
    if set(votes) - {0, 1}:
        told = ", ".join(f"{count} turns of {n}" for n, count in sorted(votes.items()))
        yield f"votes       {told}"


def _audio(found: Survey) -> Iterator[str]:
    headers = found.headers.values()
    if not headers:
        return
    seconds = []
    for one in found.corpus.utterances:
        header = found.headers.get(cast(Place, (one.audio, one.embedded)))
        if header is not None:
            start, end = one.segment or (0.0, None)
            seconds.append(max(0.0, (header.seconds if end is None else end) - start))
    if seconds:
        yield (
            f"speech      {sum(seconds) / 3600:.2f} h in {len(seconds)} turns of "
            f"{min(seconds):.2f} to {max(seconds):.2f} s "
            f"(median {statistics.median(seconds):.2f}); {len(headers)} recordings"
        )
    known = [header for header in headers if header.rate]
    for name, counts in (
        ("rates", Counter(f"{header.rate} Hz" for header in known)),
        ("channels", Counter(str(header.channels) for header in known)),
        ("formats", Counter(header.kind for header in headers)),
    ):
        told = ", ".join(f"{what}: {count}" for what, count in counts.most_common(8))
        yield f"{name:11} {told}"


def _texts(utterances: Sequence[Utterance]) -> Iterator[str]:
    told = [clean(one.text) for one in utterances if one.text is not None]
    if told:
        words = [len(text.split()) for text in told]
        empty = f"; {words.count(0)} empty" if 0 in words else ""
        yield (
            f"texts       {len(told)} of {len(utterances)} turns, {len(set(told))} different, "
            f"{min(words)} to {max(words)} words (median {statistics.median(words):g}){empty}"
        )
    elif utterances:
        yield "texts       none: build with text: null"


def _rejections(found: Survey) -> Iterator[str]:
    problems = found.corpus.problems
    yield f"left out    {len(problems) or 'nothing'}"
    kinds = Counter(error.kind for error in found.rejected.values())
    counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
    every = {(one.audio, one.embedded) for one in found.corpus.utterances if one.audio is not None}
    if every:
        part = "all" if found.decoded == len(every) else f"{found.decoded} of {len(every)}"
        more = "" if found.decoded == len(every) else "; --deep decodes all"
        yield f"rejected    {counts or 'nothing'} ({part} recordings decoded{more})"
    if found.rejected:
        yield listing([f"{name}: {error}" for name, error in sorted(found.rejected.items())])
