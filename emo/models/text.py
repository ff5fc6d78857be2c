"""The text branch: an encoder over word pieces, one vector a line, one linear layer.

Paper, section 5.1: `bert-base-cased`, fine-tuned for five classes; RoBERTa was tried too.
"""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn

from emo.models.branch import Evidence, ModelError
from emo.models.config import SmallBertConfig, TextBranchConfig
from emo.models.pretrained import build_encoder, describe_encoder, load_encoder, without_pooler


class TextBranch(nn.Module):
    """Tokens to class scores. A line's scores do not depend on how far its batch is padded.

    Args:
        config: its settings.
        classes: how many scores.
        vocabulary: ids that the tokenizer can give (`len(tokenizer)`).
        architecture: what `describe` gave; builds that encoder without reading its weights.

    Raises:
        ModelError: the encoder cannot be loaded, or its vocabulary is smaller than the tokenizer's.
    """

    def __init__(
        self,
        config: TextBranchConfig,
        classes: int,
        vocabulary: int,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if architecture is not None:
            encoder = build_encoder(architecture)
        elif config.build is not None:
            encoder = _small_bert(config.build, vocabulary)
        else:
            assert config.encoder is not None  # the configuration's validator saw to it
            encoder = load_encoder(config.encoder, "model.text.encoder")
        rows = encoder.get_input_embeddings().num_embeddings
        if rows < vocabulary:
            raise ModelError(
                f"model.text: the tokenizer of the shards has {vocabulary} entries, the encoder "
                f"only {rows}: build the shards with the encoder's own tokenizer"
            )
        if config.activation_checkpointing:
            encoder.gradient_checkpointing_enable({"use_reentrant": False})
        self.encoder = encoder
        self.pooling = config.pooling
        self.padding = _padding(encoder)
        self.longest = _longest(encoder)
        self.width: int = encoder.config.hidden_size
        self.states_width = self.width
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.width, classes)

    def forward(self, tokens_BL: Tensor, mask_BL: Tensor) -> Evidence:
        """Scores of `tokens_BL` (int64), valid where `mask_BL` (bool) is set, which comes first.

        Raises:
            ModelError: lines longer than the encoder has positions.
        """
        if self.longest is not None and tokens_BL.shape[1] > self.longest:
            raise ModelError(
                f"a line has {tokens_BL.shape[1]} tokens, but the encoder has positions for "
                f"{self.longest} only: lower the text's longest line when building the shards"
            )
        present_B = mask_BL.any(dim=1)
        # Attention over nothing at all is not a number, so an absent line attends to one padding.
        attended_BL = mask_BL.clone()
        attended_BL[:, 0] |= ~present_B
        # Whatever stands in the padding, even what is no id at all, the encoder sees its own.
        tokens_BL = tokens_BL.masked_fill(~mask_BL, self.padding)
        states_BLD = self.encoder(input_ids=tokens_BL, attention_mask=attended_BL.long())[0]

        if self.pooling == "cls":
            vector_BD = states_BLD[:, 0]
        else:
            weight_BL1 = attended_BL.unsqueeze(-1).to(states_BLD.dtype)
            vector_BD = (states_BLD * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1)
        vector_BD = vector_BD * present_B.unsqueeze(-1).to(vector_BD.dtype)
        vector_BD = self.dropout(vector_BD)
        return Evidence(self.head(vector_BD), vector_BD, present_B, states_BLD, mask_BL)

    def describe(self) -> dict[str, Any]:
        """The encoder's architecture as plain JSON."""
        return describe_encoder(self.encoder)


def _small_bert(config: SmallBertConfig, vocabulary: int) -> Any:
    settings = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate,
        max_position_embeddings=config.positions,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
    )
    return without_pooler(transformers.BertModel(settings))


def _padding(encoder: Any) -> int:
    padding = encoder.config.pad_token_id
    return 0 if padding is None else int(padding)


def _longest(encoder: Any) -> int | None:
    """The most tokens a line may have, or None where positions are relative."""
    embeddings = getattr(encoder, "embeddings", None)
    positions = getattr(embeddings, "position_embeddings", None)
    if not isinstance(positions, nn.Embedding):
        return None
    # RoBERTa's kind starts counting behind the padding's own index.
    first = 0 if positions.padding_idx is None else positions.padding_idx + 1
    return positions.num_embeddings - first
