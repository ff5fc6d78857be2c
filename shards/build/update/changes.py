"""What is different between a published dataset and its corpus as it is now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from shards.build.recordings import content_of
from shards.config import ShardConfig
from shards.corpora.base import listing, printable
from shards.corpora.utterance import Utterance
from shards.extract import text
from shards.extract.audio import AudioError
from shards.extract.audio.turn import load_turn
from shards.store.index import Dataset
from shards.store.schema import ATTRIBUTES, CLEAN, facts_of
from shards.store.sidecar import Rejection

SHOWN = 4  # turns of each kind that a message names
THREADS = 4  # they wait for the disk; hashing releases the interpreter's lock
TEXT, RECORDING = "text", "recording"
AS_A_WHOLE = {TEXT: "other words", RECORDING: "another recording", ATTRIBUTES: "other attributes"}
TIMES = ("start", "end")  # compared with the recording's length when a turn is made
BY_TEXT = ("no text", "empty text", "no audio")  # rejections that are seen without the sound
COLUMNS = ("utterance", "variant", "shard", "seconds", "content", "recording")


@dataclass(frozen=True)
class Changes:
    """Ids of turns by what happened to them, each list sorted.

    `facts` has, by the id of a turn that was kept, what is different: facts of `schema.facts_of`,
    "text" and "recording".
    """

    added: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    facts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.gone or self.facts)

    def counts(self) -> dict[str, int]:
        """How many turns are new, gone and changed; what is 0 is left out."""
        numbers = {"added": self.added, "gone": self.gone, "changed": self.facts}
        return {name: len(turns) for name, turns in numbers.items() if turns}

    def of_facts(self) -> dict[str, int]:
        """How many turns are different in each fact."""
        return dict(
            sorted(Counter(name for names in self.facts.values() for name in names).items())
        )

    def describe(self, before: dict[str, dict[str, Any]], now: dict[str, Utterance]) -> str:
        """The changes in words: a line a kind, with the first turns of each.

        Args:
            before: the turns of the dataset, as `turns_before` gives them.
            now: the turns of the corpus, by id.
        """
        lines = [f"{_turns(self.added, 'is')} new: {_first(self.added)}"] if self.added else []
        if self.gone:
            lines.append(f"{_turns(self.gone, 'is')} gone: {_first(self.gone)}")
        for name in self.of_facts():
            having = [turn for turn, names in self.facts.items() if name in names]
            subject = _turns(having, "has")
            if name in AS_A_WHOLE:
                what = AS_A_WHOLE[name]
                lines.append(f"{subject} {what}: {_first(having)}")
                continue
            moves = (
                f"{turn} ({before[turn][name]} → {facts_of(now[turn])[name]})"
                for turn in having[:SHOWN]
            )
            more = f" and {len(having) - SHOWN} more" if len(having) > SHOWN else ""
            what = "number in the dialogue" if name == "turn" else name
            lines.append(f"{subject} another {what}: {', '.join(moves)}{more}")
        return listing([printable(line) for line in lines])


def turns_before(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """By id, what the index says of each turn of `dataset`."""
    table = dataset.table
    clean = [variant == CLEAN for variant in table["variant"].to_pylist()]
    rows = [row for row, is_clean in enumerate(clean) if is_clean]
    names = [*COLUMNS, TEXT, *FACTS]
    columns = table.select(names).take(rows).to_pydict()
    values = zip(*(columns[name] for name in names), strict=True)
    return {one[0]: dict(zip(names, one, strict=True)) for one in values}


_NOBODY = Utterance("", None, None, "", (), "", "", "", 0)
FACTS = (*facts_of(_NOBODY), ATTRIBUTES)


def find_changes(
    config: ShardConfig,
    before: dict[str, dict[str, Any]],
    rejected: dict[str, Rejection],
    utterances: Sequence[Utterance],
) -> Changes:
    """Compare turns of a dataset, `before` and `rejected`, with those of the corpus.

    Recordings are compared by the bytes of their files. Where the dataset does not know these
    (those of older programs), the recording is decoded and its sound compared.
    """
    now = {one.id for one in utterances}
    facts: dict[str, tuple[str, ...]] = {}
    kept = [one for one in utterances if one.id in before or one.id in rejected]
    contents = _contents(config, kept)
    for one, content in zip(kept, contents, strict=True):
        if one.id in before:
            names = [*_facts_that_differ(before[one.id], one)]
            if _sound_differs(config, before[one.id], one, content):
                names.append(RECORDING)
        else:
            names = [*_why_again(config, rejected[one.id], one, content)]
        if names:
            facts[one.id] = tuple(names)
    known = before.keys() | rejected.keys()
    return Changes(sorted(now - known), sorted(known - now), facts)


def lacks(config: ShardConfig, one: Utterance) -> str | None:
    """The kind of rejection of a turn that has no text or no sound at all; None: it has both."""
    if config.text is not None and not text.clean(one.text or ""):
        return "no text" if one.text is None else "empty text"
    return "no audio" if config.features is not None and one.audio is None else None


def _facts_that_differ(before: dict[str, Any], one: Utterance) -> Iterator[str]:
    now = facts_of(one)
    for name in FACTS:
        if before[name] != now.get(name):
            yield name
    # Cleaning what is clean changes nothing, and most texts are as they were.
    if before[TEXT] != one.text and before[TEXT] != (text.clean(one.text or "") or None):
        yield TEXT


def _sound_differs(
    config: ShardConfig, before: dict[str, Any], one: Utterance, content: str | None
) -> bool:
    if config.features is None:
        return False
    if (before["seconds"] is None) != (one.audio is None):
        return True
    if one.audio is None:
        return False
    if before["content"] is not None or before["recording"] is None:
        return before["content"] != content
    try:
        return load_turn(one, config.audio).identity != before["recording"]
    except AudioError:
        return True


def _why_again(
    config: ShardConfig, before: Rejection, one: Utterance, content: str | None
) -> Iterator[str]:
    """What is different of a turn that is in no shard: whether to try it again."""
    kind = lacks(config, one)
    if (before.kind if before.kind in BY_TEXT else None) != kind:
        yield TEXT if "text" in (kind or before.kind) else RECORDING
    elif kind is None and before.content != content:
        yield RECORDING


def _contents(config: ShardConfig, turns: Sequence[Utterance]) -> Iterable[str | None]:
    if config.features is None:
        return [None] * len(turns)
    if any(one.embedded is not None for one in turns):
        return [content_of(one) for one in turns]  # in order: cells are read a row group at a time
    with ThreadPoolExecutor(THREADS) as pool:
        return [*pool.map(content_of, turns)]


def _turns(turns: Sequence[str], verb: str) -> str:
    plural = {"is": "are", "has": "have"}
    return f"1 turn {verb}" if len(turns) == 1 else f"{len(turns)} turns {plural[verb]}"


def _first(turns: Sequence[str]) -> str:
    return ", ".join(turns[:SHOWN]) + (
        f" and {len(turns) - SHOWN} more" if len(turns) > SHOWN else ""
    )
