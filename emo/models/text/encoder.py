"""The text branch: an encoder over word pieces, one vector a line, one linear layer.

Paper, section 5.1: `bert-base-cased`, fine-tuned for five classes; RoBERTa was tried too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from emo.models.branch import Branch, BranchOutput, ModelError
from emo.models.pooling import Pooling, make_pooling
from emo.models.pretrained import build_encoder, describe_encoder, load_encoder, without_pooler
from emo.models.text.config import TextBranchConfig
from emo.models.tuning import add_lora, freeze_lowest


class TextBranch(Branch):
    """Tokens to class scores. A line's scores do not depend on how far its batch is padded.

    Args:
        config: its settings.
        classes: how many scores.
        size: ids that the tokenizer can give (`len(tokenizer)`).
        architecture: what `describe` gave; builds that encoder without reading its weights.

    Raises:
        ModelError: the encoder cannot be loaded, or its vocabulary is smaller than the tokenizer's.
    """

    def __init__(
        self,
        config: TextBranchConfig,
        classes: int,
        size: int,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if architecture is not None:
            encoder = build_encoder(architecture)
        else:
            encoder = SOURCES[config.kind](config, size)
        rows = encoder.get_input_embeddings().num_embeddings
        if rows < size:
            raise ModelError(
                f"model.text: the tokenizer of the shards has {size} entries, the encoder "
                f"only {rows}: build the shards with the encoder's own tokenizer"
            )
        if config.activation_checkpointing:
            # The reentrant kind gives no gradients at all where the input needs none, as tokens.
            encoder.gradient_checkpointing_enable({"use_reentrant": False})
        if config.tune == "nothing":
            encoder.requires_grad_(False)
        freeze_lowest(encoder, config.frozen_layers, "model.text")
        add_lora(encoder, config.lora, "model.text")
        self.learns = config.tune != "nothing" or config.lora is not None
        if config.layers == "weighted":
            self.layer_weights = nn.Parameter(torch.zeros(encoder.config.num_hidden_layers + 1))
        self.weighted = config.layers == "weighted"
        self.encoder = encoder
        self.kind = str(encoder.config.model_type)
        self.padding = _padding(encoder)
        self.longest = _longest(encoder)
        self.states_width: int = encoder.config.hidden_size
        self.pool: Pooling = (
            FirstPosition(self.states_width)
            if config.pooling == "cls"
            else make_pooling(config.pooling, self.states_width, "model.text.pooling")
        )
        self.width = self.pool.width
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.width, classes)

    def forward(self, tokens_BL: Tensor, mask_BL: Tensor) -> BranchOutput:
        """Scores of `tokens_BL` (int64), valid where `mask_BL` (bool) is set, which comes first.

        Raises:
            ModelError: lines longer than the encoder has positions.
        """
        self.check_length(tokens_BL.shape[1])
        present_B = mask_BL.any(dim=1)
        # A softmax over nothing at all is NaN, and stays NaN through any later mask, so an absent
        # line attends to one place of padding.
        attended_BL = mask_BL.clone()
        attended_BL[:, 0] |= ~present_B
        # Padding may hold anything, even what is no id at all: the encoder gets its own.
        tokens_BL = tokens_BL.masked_fill(~mask_BL, self.padding)
        # A frozen encoder keeps no activations; inside `torch.no_grad` nothing is turned on again.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns):
            heard = self.encoder(
                input_ids=tokens_BL,
                attention_mask=attended_BL.long(),
                output_hidden_states=self.weighted,
            )
        states_BLD = heard[0]
        if self.weighted:
            weights_N = torch.softmax(self.layer_weights, dim=0)
            states_BLD = torch.einsum("n,nbld->bld", weights_N, torch.stack(heard.hidden_states))
        vector_BD = self.pool(states_BLD, attended_BL)
        vector_BD = vector_BD * present_B.unsqueeze(-1).to(vector_BD.dtype)
        vector_BD = self.dropout(vector_BD)
        return BranchOutput(self.head(vector_BD), vector_BD, present_B, states_BLD, mask_BL)

    def train(self, mode: bool = True) -> TextBranch:
        """As in torch, except that an encoder that learns nothing stays in evaluation mode."""
        super().train(mode)
        if not self.learns:
            self.encoder.eval()
        return self

    def check_length(self, length: int) -> None:
        """Raise ModelError where the encoder has fewer positions than `length` tokens."""
        if self.longest is not None and length > self.longest:
            raise ModelError(
                f"a line has {length} tokens, but the encoder has positions for {self.longest} "
                f"only: build the shards with text.max_tokens={self.longest} and another "
                "output.folder, and set data.shards to that one"
            )

    def describe(self) -> dict[str, Any]:
        """The encoder's architecture as plain JSON."""
        return describe_encoder(self.encoder)


class FirstPosition(Pooling):
    """The first place's state: where BERT has its [CLS] and RoBERTa its <s>."""

    def forward(self, states_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        return states_BLD[:, 0]


def _pretrained(config: TextBranchConfig, vocabulary: int) -> Any:
    assert config.encoder is not None
    return load_encoder(config.encoder, "model.text.encoder")


def _small_bert(config: TextBranchConfig, vocabulary: int) -> Any:
    from transformers import BertConfig, BertModel

    sizes = config.build
    assert sizes is not None
    settings = BertConfig(
        vocab_size=vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.positions,
        hidden_dropout_prob=sizes.dropout,
        attention_probs_dropout_prob=sizes.dropout,
    )
    return without_pooler(BertModel(settings))


# By `TextBranchConfig.kind`: makes the encoder.
SOURCES: dict[str, Callable[[TextBranchConfig, int], Any]] = {
    "encoder": _pretrained,
    "build": _small_bert,
}


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
