"""The class behind each `kind` in a configuration: one table for each axis of a model.

A new kind is its settings in the `config.py` of its folder, a file beside it, and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from emo.models.audio.bilstm_null import BiLstmNull
from emo.models.audio.cnn import Cnn
from emo.models.audio.dnn_elm import DnnElm
from emo.models.audio.speech_encoder import SpeechBranch
from emo.models.branch import Branch, ModelError
from emo.models.context.bc_lstm import BcLstm
from emo.models.context.icon import Icon
from emo.models.fusion.cross_attention import CrossAttentionFusion
from emo.models.fusion.gated import GatedFusion
from emo.models.fusion.paper import PaperFusion
from emo.models.text.encoder import TextBranch
from shards.errors import suggestion

BRANCHES: dict[str, dict[str, type[Branch]]] = {
    "text": {
        "encoder": TextBranch,
        "build": TextBranch,
    },
    "audio": {
        "cnn": Cnn,
        "bilstm_null": BiLstmNull,
        "dnn_elm": DnnElm,
        "speech_encoder": SpeechBranch,
    },
}  # by modality; each is called as `emo.models.branch.Branch` says

FUSIONS: dict[str, type[nn.Module]] = {
    "paper": PaperFusion,
    "gated": GatedFusion,
    "cross_attention": CrossAttentionFusion,
}  # called with (config, classes, widths of what it reads, by modality)

CONTEXTS: dict[str, type[nn.Module]] = {
    "bclstm": BcLstm,
    "icon": Icon,
}  # called with (config, classes, widths of the vectors, by modality)


def lookup(table: Mapping[str, Any], kind: str, setting: str) -> Any:
    """The entry of `kind` in one of the tables above; `setting` is its key, for messages.

    Raises:
        ModelError: there is none: the configuration knows a kind that nobody has entered here.
    """
    if kind not in table:
        raise ModelError(
            f"{setting}: emo.models.registry has no {kind!r}{suggestion(kind, table)}; "
            f"it has {', '.join(table)}"
        )
    return table[kind]
