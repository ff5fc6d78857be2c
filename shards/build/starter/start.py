"""`emo-shards init`: the spec, the build and the trainings of a person's own table."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards import atomic
from shards.build.starter.look import Look, look
from shards.build.starter.meaning import Audio, find_audio, labels, roles
from shards.configfile import parse
from shards.corpora.table.reader import TableConfig
from shards.corpora.utterance import NO_MAJORITY, Utterance
from shards.corpora.words import CODE_NAMES
from shards.errors import UserError
from shards.views.config import ViewConfig
from shards.views.view import ViewError, make_view

LEAST = 5  # turns of a class that is trained on
# Tried in this order; the first under which this corpus can be split is written down.
PROTOCOLS: tuple[dict[str, Any], ...] = (
    {"protocol": "official"},
    {"protocol": "speakers", "test": 0.2, "val": 0.2},
    {"protocol": "random", "test": 0.2, "val": 0.2},
)


@dataclass
class Plan:
    """What is to be written, and what a person should know of it."""

    name: str
    folder: Path
    table: Look
    roles: dict[str, str]
    audio: Audio | None
    words: dict[str, tuple[str, int]]
    view: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The corpus' root: where the audio paths begin, or the table's folder."""
        return self.audio.root if self.audio else self.table.path.resolve().parent

    @property
    def classes(self) -> dict[str, list[str]]:
        """The label set: the words or codes that enough turns have, by the name of their class."""
        counts: dict[str, int] = {}
        for code, count in self.words.values():
            counts[code] = counts.get(code, 0) + count
        chosen = [c for c, n in counts.items() if c != NO_MAJORITY and n >= LEAST]
        if len(chosen) < 2:
            chosen = [code for code in counts if code != NO_MAJORITY]
        return dict(sorted((CODE_NAMES.get(code, code), [code]) for code in chosen))


def start(path: Path, folder: Path | None = None) -> str:
    """Look at the table in `path` and write its files beside it, or into `folder`.

    Returns:
        What was found and written, and the commands that come next.

    Raises:
        UserError: the table cannot be understood, a file is there already, or the corpus has
            errors; then the files are written, and the message says what to mend.
    """
    table = look(path)
    plan = _plan(table, folder or path.parent)
    targets = {kind: plan.folder / f"{plan.name}{kind}.yaml" for kind in _kinds(plan)}
    there = [str(target) for target in targets.values() if target.exists()]
    if there:
        raise UserError(f"{', '.join(there)}: there already; remove what is to be written anew")
    problem = _try(plan)
    plan.folder.mkdir(parents=True, exist_ok=True)
    for kind, target in targets.items():
        text = "\n".join(_kinds(plan)[kind](plan, targets)) + "\n"
        atomic.write(target, text.encode())
    told = "\n".join(_told(plan, targets))
    if problem is not None:
        raise UserError(f"{told}\n\nbut the corpus cannot be read yet:\n{problem}")
    return told


def _plan(table: Look, folder: Path) -> Plan:
    found = roles(table)
    columns = ", ".join(table.columns)
    if "label" not in found:
        raise UserError(
            f"{table.path}: no column looks like the emotion; the columns are {columns}: name it "
            "`emotion`, or copy configs/corpora/csv.yaml and name it there"
        )
    if not {"audio", "text"} & found.keys():
        raise UserError(
            f"{table.path}: no column looks like a recording or a text; the columns are {columns}: "
            "name one `file` or `text`"
        )
    audio, remarks = find_audio(table, found["audio"]) if "audio" in found else (None, [])
    values = [row.get(found["label"], "") for row in table.rows]
    return Plan(table.path.stem, folder, table, found, audio, labels(values), {}, remarks)


def _try(plan: Plan) -> str | None:
    """Read the corpus as planned, to choose how it is split; what is wrong with it."""
    modalities = [kind for kind in ("audio", "text") if kind in plan.roles]
    raw = {"root": str(plan.root), "spec": _spec(plan), "modalities": modalities,
           "absolute_paths": bool(plan.audio and plan.audio.absolute)}  # fmt: skip
    plan.view = dict(PROTOCOLS[-1])
    try:
        corpus = parse(TableConfig, raw | {"max_problems": len(plan.table.rows)}, "init").read()
    except UserError as error:
        return str(error)
    plan.view = _protocol(corpus.utterances, plan)
    if corpus.problems:
        lines = [f"  {one.kind}: {one.where}: {one.what}" for one in corpus.problems[:5]]
        more = f"\n  … and {len(corpus.problems) - 5} more" if len(corpus.problems) > 5 else ""
        plan.remarks.append(
            f"{len(corpus.problems)} of {len(plan.table.rows)} turns cannot be used:\n"
            + "\n".join(lines) + more
            + f"\n  mend them, or set corpus.max_problems={len(corpus.problems)} in the build"
        )  # fmt: skip
    return None


def _protocol(utterances: Sequence[Utterance], plan: Plan) -> dict[str, Any]:
    parts = {one.split for one in utterances}
    why = ""
    for raw in PROTOCOLS:
        if raw["protocol"] == "official" and not parts >= {"train", "val", "test"}:
            continue
        if raw["protocol"] == "speakers" and "speaker" not in plan.roles:
            plan.remarks.append(
                "no column looks like the speaker: the split cannot keep them apart"
            )
            continue
        try:
            make_view(utterances, ViewConfig(labels=plan.classes, **raw))
        except ViewError as error:
            why = str(error)
            continue
        return dict(raw)
    plan.remarks.append(f"too small to be split with the settings written: {why}")
    return dict(PROTOCOLS[-1])


def _spec(plan: Plan) -> dict[str, Any]:
    """The corpus' spec."""
    found = plan.roles
    fields: dict[str, Any] = {"id": _id(plan)}
    if "audio" in found:
        source = plan.audio.source if plan.audio else f"{{{found['audio']}}}"
        fields["audio"] = found["audio"] if source == f"{{{found['audio']}}}" else source
    for role in ("text", "label", "speaker", "dialogue", "start", "end", "split"):
        if role in found:
            fields[role] = found[role]
    path = plan.table.path.resolve()
    relative = path.relative_to(plan.root).as_posix() if path.is_relative_to(plan.root) else ""
    words = {word: code for word, (code, _) in plan.words.items()}
    return {"name": plan.name, "tables": relative or path.name, **plan.table.layout,
            "fields": fields, "labels": words}  # fmt: skip


def _id(plan: Plan) -> str:
    """A column that is different in each row, or as many as that takes."""
    found, rows = plan.roles, plan.table.rows
    for role in ("id", "audio"):
        values = [row[found[role]] for row in rows] if role in found else []
        if values and len(set(values)) == len(values):
            return found[role]
    if "audio" in found and "start" in found:
        return f"{{{found['audio']}}}-{{{found['start']}}}"
    # A file that stands twice is a mistake that the reader names.
    return found.get("id") or found.get("audio") or "{row}"


def _shown(path: Path) -> str:
    """`path` as a shell wants it."""
    return shlex.quote(str(path))


def _yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _spec_lines(plan: Plan, _: dict[str, Path]) -> Iterator[str]:
    spec = _spec(plan)
    words, fields = spec.pop("labels"), spec.pop("fields")
    yield f"# How {plan.table.path.name} is read: written by emo-shards init, corrected by you."
    yield from (f"{key}: {_yaml(value)}" for key, value in spec.items())
    yield "fields:"
    yield from (f"  {key}: {_yaml(value)}" for key, value in fields.items())
    yield "labels: # your words: the emotion they mean, any word; xxx is none"
    for word, code in words.items():
        name = CODE_NAMES.get(code, "no emotion" if code == NO_MAJORITY else "a class of your own")
        yield f"  {_yaml(word)}: {_yaml(code)} # {name}, {plan.words[word][1]} turns"


def _build_lines(plan: Plan, targets: dict[str, Path]) -> Iterator[str]:
    yield f"# The shards of {plan.name}: emo-shards build {_shown(targets['-shards'])}"
    yield "corpus:"
    yield "  reader: table"
    yield f"  root: {_yaml(str(plan.root))}"
    yield f"  spec: {_yaml(str(targets[''].resolve()))}"
    if plan.audio and plan.audio.absolute:
        yield "  absolute_paths: true # its recordings lie outside of the root"
    kinds = [kind for kind in ("audio", "text") if kind in plan.roles]
    yield f"  modalities: {_yaml(kinds)}"
    yield "  max_problems: 0 # turns that may lack their recording or text"
    yield from _labels(plan, "")
    if "audio" in plan.roles:
        yield "audio: {sample_rate: 16000}"
        yield "augment: {variants: [noise, pitch, stretch, shift]}"
        yield "features: {kinds: [logmel], mels: 64, hop: 512}"
    else:
        yield "augment: {variants: []}"
        yield "features: null"
    if "text" in plan.roles:
        yield "text:"
        yield "  learn: {vocab_size: 4000} # or  tokenizer: bert-base-cased  for a pretrained one"
        yield f"vocabulary_view: {_yaml(plan.view | {'seed': 1})}"
    else:
        yield "text: null"
    yield "output:"
    yield f"  folder: {_yaml(str((plan.folder / (plan.name + '-shards')).resolve()))}"


def _labels(plan: Plan, indent: str) -> Iterator[str]:
    yield f"{indent}labels: # classes, and what each gathers"
    yield from (f"{indent}  {_yaml(name)}: {_yaml(codes)}" for name, codes in plan.classes.items())


def _training(plan: Plan, kind: str) -> Iterator[str]:
    folder = (plan.folder / f"{plan.name}-shards").resolve()
    yield f"name: {_yaml(f'{plan.name}-{kind}')}"
    yield f"run: {_yaml(f'runs/{plan.name}/{kind}')}"
    yield "data:"
    yield f"  shards: {_yaml(str(folder))}"
    if kind == "audio":
        yield "  audio: logmel"
    yield "  view:"
    yield from (f"    {key}: {_yaml(value)}" for key, value in (plan.view | {"seed": 1}).items())
    yield from _labels(plan, "    ")


def _audio_lines(plan: Plan, targets: dict[str, Path]) -> Iterator[str]:
    yield f"# A CNN on log-mel spectrograms: emo train {_shown(targets['-audio'])}"
    yield from _training(plan, "audio")
    yield "model:"
    yield "  audio: {channels: [8, 16, 32, 64, 64], hidden: 64, dropout: 0.2, channels_last: true}"
    yield "optim: {name: adam, lr: 2.0e-3, weight_decay: 1.0e-5, clip: 1.0, schedule: cosine,"
    yield "        warmup_fraction: 0.05}"
    yield "train: {epochs: 12, global_batch: 64, evaluation_batch: 256, select: ua, seed: 1}"


def _text_lines(plan: Plan, targets: dict[str, Path]) -> Iterator[str]:
    yield f"# A small BERT from scratch on the transcripts: emo train {_shown(targets['-text'])}"
    yield from _training(plan, "text")
    yield "model:"
    yield "  text:"
    yield "    build: {hidden: 64, layers: 1, heads: 2, intermediate: 128, positions: 128}"
    yield "    pooling: mean"
    yield "    dropout: 0.2"
    yield "optim: {name: adam, lr: 2.0e-3, weight_decay: 0.0, clip: 1.0, schedule: cosine,"
    yield "        warmup_fraction: 0.1}"
    yield "train: {epochs: 12, global_batch: 64, evaluation_batch: 256, select: ua, seed: 1}"


def _kinds(plan: Plan) -> dict[str, Any]:
    kinds: dict[str, Any] = {"": _spec_lines, "-shards": _build_lines}
    if "audio" in plan.roles:
        kinds["-audio"] = _audio_lines
    if "text" in plan.roles:
        kinds["-text"] = _text_lines
    return kinds


def _told(plan: Plan, targets: dict[str, Path]) -> Iterator[str]:
    table = plan.table
    yield "; ".join([f"{table.path}: {len(table.rows)} rows", *table.remarks])
    yield "columns     " + ", ".join(f"{role}: {column}" for role, column in plan.roles.items())
    unused = [column for column in table.columns if column not in plan.roles.values()]
    if unused:
        yield f"not used    {', '.join(unused)}"
    yield "labels      " + ", ".join(
        f"{word or '(empty)'} = {CODE_NAMES.get(code, code)} ({count})"
        for word, (code, count) in plan.words.items()
    )
    yield f"classes     {', '.join(plan.classes)}"
    if plan.audio:
        yield f"recordings  {plan.audio.root}/{plan.audio.source}"
    yield f"split       {plan.view['protocol']}"
    yield from (f"NOTE: {remark}" for remark in plan.remarks)
    yield "written:"
    yield from (f"  {target}" for target in targets.values())
    yield "look through the labels in the first one; then"
    yield f"  emo-shards describe {_shown(targets['-shards'])} {_shown(plan.root)}"
    yield f"  emo-shards build {_shown(targets['-shards'])}"
    for kind in ("-audio", "-text"):
        if kind in targets:
            yield f"  emo train {_shown(targets[kind])}"
