"""Small specifications of tables, and how the tests read them."""

from pathlib import Path

from shards.configfile import parse
from shards.corpora.read import read_corpus
from shards.corpora.table.reader import TableConfig

SHIPPED = Path(__file__).parents[4] / "configs/corpora"
LABELS = {"joy": "hap", "rage": "ang"}


def config(root, spec, **settings):
    if isinstance(spec, str):
        spec = str(SHIPPED / spec)
    return parse(TableConfig, {"root": str(root), "spec": spec, **settings}, "test")


def read(root, spec, **settings):
    return read_corpus(config(root, spec, **settings))


def by_id(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances}


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"RIFF")


def simple(**changes):
    """A spec of `table.csv` with id, path, text and emotion; a change to None removes a field."""
    fields = {"id": "id", "audio": "path", "text": "text", "label": "emotion"}
    fields |= changes.pop("fields", {})
    fields = {name: source for name, source in fields.items() if source is not None}
    labels = {"joy": "hap", "rage": "ang", "unclear": "xxx"}
    return {"tables": "table.csv", "fields": fields, "labels": labels} | changes


def text_spec(table, **changes):
    return {"tables": table, "fields": {"id": "id", "text": "text", "label": "emotion"},
            "labels": LABELS} | changes  # fmt: skip


def texts(corpus):
    return {one.id: one.text for one in corpus.utterances}
