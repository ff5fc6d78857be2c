"""Whether several datasets were made alike: a model reads them all with one set of weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

from emo.data.corpora.union import Corpora
from shards.extract.features import FEATURES
from shards.store.index import TOKENIZER, Dataset


def disagreements(dataset: Dataset, *, feature: str | None, text: bool) -> list[str]:
    """One line for each setting in which a dataset differs from most, with the remedy.

    Args:
        feature: the audio feature that is read, None if none is.
        text: whether tokens are read.
    """
    if not isinstance(dataset, Corpora):
        return []
    problems = []
    if feature is not None:
        having = [part for part in dataset.parts if feature in _kinds(part)]
        problems += [
            f"{part.folder} has no {feature}: build it again with features.kinds=[{feature}]"
            for part in dataset.parts
            if feature not in _kinds(part)
        ]
        problems += _unlike([(part, _feature_settings(part, feature)) for part in having])
    if text:
        having = [part for part in dataset.parts if part.manifest.tokenizer]
        problems += [
            f"{part.folder} has no tokens: build it again with its transcripts"
            for part in dataset.parts
            if not part.manifest.tokenizer
        ]
        problems += _unlike([(part, _text_settings(part)) for part in having])
    return problems


def _unlike(settings: list[tuple[Dataset, dict[str, Any]]]) -> list[str]:
    """`settings` of each dataset: a line for every value that is not that of most samples."""
    problems = []
    for name in dict.fromkeys(name for _, one in settings for name in one):
        votes: Counter[str] = Counter()
        for part, one in settings:
            votes[repr(one.get(name))] += len(part)
        usual = votes.most_common(1)[0][0]
        model, theirs = next((p, one) for p, one in settings if repr(one.get(name)) == usual)
        for part, one in settings:
            if repr(one.get(name)) == usual:
                continue
            has, wanted = one.get(name), theirs.get(name)
            if name == "text.tokenizer":  # two hashes would tell nothing
                has, wanted = "another one", model.folder / TOKENIZER
            problems.append(
                f"{name} of {part.folder} is {has}, of {model.folder} {wanted}: build "
                f"{part.folder} again with {name}={'null' if wanted is None else wanted}"
            )
    return problems


def _kinds(part: Dataset) -> tuple[str, ...]:
    return tuple((part.manifest.features or {}).get("kinds", ()))


def _feature_settings(part: Dataset, feature: str) -> dict[str, Any]:
    """The settings behind `feature`, by the key with which a build sets them."""
    spec = FEATURES[feature]
    own = part.manifest.feature_config.of(spec).model_dump(mode="json")
    section = "features" if spec.section is None else f"features.{spec.section}"
    sections = {one.section for one in FEATURES.values()}
    found = {f"{section}.{k}": v for k, v in own.items() if k != "kinds" and k not in sections}
    if not spec.shared:
        found = {k: v for k, v in found.items() if spec.section is not None}
    return {"audio.sample_rate": part.manifest.sample_rate, **found}


def _text_settings(part: Dataset) -> dict[str, Any]:
    facts = part.manifest.tokenizer or {}
    return {"text.tokenizer": facts.get("identity"), "text.max_tokens": facts.get("max_tokens")}
