"""Pretrained encoders by hub name or folder: every weight is checked, no remote code is run.

transformers is imported where an encoder is made: models without one start faster.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from emo.models.branch import ModelError
from shards.extract.text import ask_hub_once

# Parts of encoders that we do not use: the head for sentence pairs, the vector that replaces masked
# speech in pretraining. They are removed: DDP would wait for their gradient, which never comes.
_POOLER = "pooler"
_UNREAD = (_POOLER, "masked_spec_embed")


def load_encoder(name: str, setting: str) -> Any:
    """The `AutoModel` in `name` (a folder, or a name on the hub), in float32 and without pooler.

    `setting` is the configuration key that `name` comes from, for messages. Weights are read from
    safetensors; older speech encoders have none, and are read from `pytorch_model.bin` by torch's
    restricted loader. Heads of other tasks in the checkpoint are ignored. Any other weight that is
    missing, left over or of another shape is an error; none is silently drawn at random.

    Raises:
        ModelError: it cannot be loaded, or the weights do not fit; the message lists the keys.
    """
    from transformers import AutoModel

    source = _source(name, setting)
    _check_not_quantised(source, name, setting)
    try:
        with _quiet(), _unsharded():
            encoder, report = AutoModel.from_pretrained(
                source,
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,  # by default a checkpoint in half precision stays in it
                ignore_mismatched_sizes=True,  # to get them as a list, which is refused below
                output_loading_info=True,
            )
    except _UNLOADABLE as error:
        raise ModelError(f"{setting}: cannot load {name!r}: {_reason(error)}") from error

    mismatched = [f"{key}: {tuple(a)} in the file, {tuple(b)} in the model"
                  for key, a, b in report["mismatched_keys"]]  # fmt: skip
    missing = [key for key in report["missing_keys"] if key.split(".")[0] not in _UNREAD]
    unexpected = [key for key in report["unexpected_keys"] if _belongs(key, encoder)]
    problems = [
        f"{title} ({len(keys)}): {_some(keys)}"
        for title, keys in (
            ("missing", missing),
            ("of another shape", mismatched),
            ("not in the model", unexpected),
        )
        if keys
    ]
    if problems:
        raise ModelError(
            f"{setting}: the weights in {name!r} do not fit its config.json:\n  "
            + "\n  ".join(problems)
        )
    return without_pooler(only_encoder(encoder))


# What transformers raises for a folder that is none of its own; ImportError where it wants a
# package that is not here, such as one for quantised weights.
_UNLOADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError,
    SafetensorError, UnpicklingError,
)  # fmt: skip


def _reason(error: BaseException) -> str:
    """The first line of what transformers says, without the advice to trust a stranger's code."""
    if "trust_remote_code" in str(error):
        return "it brings a program of its own, which is never run here; take a model without one"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_not_quantised(source: str, name: str, setting: str) -> None:
    """Raise ModelError where the weights are stored as a few bits: they cannot be fine-tuned."""
    path = Path(source) / "config.json"
    try:
        method = json.loads(path.read_text())["quantization_config"]["quant_method"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # not there, not quantised, or for `from_pretrained` to report
    raise ModelError(
        f"{setting}: the weights of {name!r} are quantised ({method}), and training needs them "
        "whole: take the model that it was made of"
    )


@dataclass(frozen=True)
class Preprocessing:
    """A speech encoder's input: sampling rate (Hz), and whether to mean 0 and variance 1."""

    rate: int = 16000
    normalise: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_preprocessing(name: str, setting: str) -> Preprocessing:
    """The settings in `preprocessor_config.json` of `name`; without one, transformers' defaults.

    Raises:
        ModelError: the file is damaged or cannot be read.
    """
    from transformers.utils import cached_file

    source = _source(name, setting)
    try:
        with _quiet():
            path = cached_file(
                source, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
            )
        raw = json.loads(Path(path).read_text()) if path is not None else {}
        return Preprocessing(
            rate=int(raw.get("sampling_rate", Preprocessing.rate)),
            normalise=bool(raw.get("do_normalize", Preprocessing.normalise)),
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{setting}: cannot read the preprocessor_config.json of {name!r}: {reason[0]}"
        ) from error


def is_folder(name: str) -> bool:
    """Whether `name` is a folder, or means one, and no name on the hub."""
    return name.startswith(("/", "./", "../", "~")) or Path(name).is_dir()


def build_encoder(description: dict[str, Any]) -> Any:
    """The encoder that `describe_encoder` described, with random weights (to be loaded later)."""
    from transformers import AutoConfig, AutoModel

    settings = dict(description)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with _unsharded():
        return without_pooler(only_encoder(AutoModel.from_config(config)))


def describe_encoder(encoder: Any) -> dict[str, Any]:
    """The encoder's architecture as plain JSON, enough for `build_encoder`."""
    description = json.loads(encoder.config.to_json_string(use_diff=False))
    description.pop("_name_or_path", None)  # a path of the machine it was trained on
    return description


def only_encoder(model: Any) -> Any:
    """`model`, or the encoder of one that has a decoder too, as Whisper has."""
    if getattr(model.config, "is_encoder_decoder", False):
        return model.get_encoder()
    return model


def without_pooler(encoder: Any) -> Any:
    """`encoder`, its pooler removed if it has one."""
    if getattr(encoder, _POOLER, None) is not None:
        encoder.pooler = None
    return encoder


def _source(name: str, setting: str) -> str:
    """The folder `name`, or `name` as it is on the hub."""
    folder = Path(name).expanduser()
    if name.startswith(("/", "./", "../", "~")) and not folder.is_dir():
        raise ModelError(f"{setting}: there is no folder {name}; give a folder made by "
                         "save_pretrained, or a name on the Hugging Face hub")  # fmt: skip
    if folder.is_dir():
        return str(folder)
    ask_hub_once()
    return name


def _belongs(key: str, encoder: Any) -> bool:
    """Whether an unexpected key of a checkpoint is the encoder's, and not that of some head."""
    part = key.removeprefix(f"{encoder.base_model_prefix}.").split(".")[0]
    return part != _POOLER and part in dict(encoder.named_children())


def _some(keys: Iterable[str], limit: int = 12) -> str:
    listed = sorted(keys)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


@contextmanager
def _unsharded() -> Iterator[None]:
    """Let every rank build the whole encoder, also under ZeRO-3; DeepSpeed shards it later.

    transformers would shard it while building it, and the weight norm of a speech encoder's
    positional convolution fails on a sharded weight.
    """
    from transformers.integrations import deepspeed as deepspeed_integration

    # Private in transformers (read from 5.23). `test_under_zero_3_an_encoder_is_loaded_whole` fails
    # if it moves.
    held = deepspeed_integration._hf_deepspeed_config_weak_ref
    deepspeed_integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed_integration._hf_deepspeed_config_weak_ref = held


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars and table of keys: our own messages say what matters."""
    from transformers.utils import logging as transformers_logging

    # Otherwise transformers asks the hub, in a thread, to convert `pytorch_model.bin`.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
