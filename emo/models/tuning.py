"""How much of a pretrained encoder is trained: all, nothing, upper layers, or adapters (LoRA)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from emo.models.branch import ModelError
from emo.models.parts import LoraConfig
from shards.errors import UserError

# Parts of encoders that stand before their first layer, by the names that transformers gives them.
BEFORE = ("feature_extractor", "feature_projection", "embeddings", "conv1", "conv2",
          "embed_positions", "encoder.pos_conv_embed")  # fmt: skip
# The feed-forward layers, under the names of speech encoders, of Whisper, w2v-BERT, BERT's kin.
TARGETS = ("intermediate_dense", "output_dense", "fc1", "fc2", "intermediate.dense", "output.dense")
# WavLM reads the weights of its attention's layers without calling them: adapters there do nothing.
BYPASSED = {"wavlm": ("q_proj", "k_proj", "v_proj", "out_proj")}


def layers_of(encoder: Any) -> tuple[str, nn.ModuleList]:
    """The encoder's transformer layers, and their name in it.

    Raises:
        ModelError: there is no list of as many layers as its configuration says.
    """
    count = encoder.config.num_hidden_layers
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and "conv" not in name:
            return name, module
    raise ModelError(f"this {encoder.config.model_type} has no list of {count} layers")


def freeze_lowest(encoder: Any, count: int, setting: str) -> None:
    """Train neither the lowest `count` layers nor what stands before them.

    Raises:
        ModelError: the encoder has no more layers than that.
    """
    if not count:
        return
    _, layers = layers_of(encoder)
    if count >= len(layers):
        raise ModelError(f"{setting}.frozen_layers={count}: the encoder has {len(layers)} layers")
    for layer in layers[:count]:
        layer.requires_grad_(False)
    freeze_before(encoder)


def freeze_before(encoder: nn.Module) -> None:
    """Train nothing of what stands before the first layer."""
    for name, parameter in encoder.named_parameters():
        if name.startswith(tuple(f"{part}." for part in BEFORE)):
            parameter.requires_grad_(False)


def add_lora(encoder: Any, config: LoraConfig | None, setting: str) -> None:
    """Low-rank adapters (Hu et al. 2021) beside linear layers of `encoder`, which is then frozen.

    Raises:
        UserError: peft is not installed.
        ModelError: no linear layer has one of the target names, or adapters there would do nothing.
    """
    if config is None:
        return
    try:
        import peft
    except ImportError:
        raise UserError(
            f"{setting}.lora needs the package peft: pip install 'emo-shards[lora]'"
        ) from None
    prefix, layers = layers_of(encoder)
    wanted = config.targets or TARGETS
    bypassed = BYPASSED.get(encoder.config.model_type, ())
    if useless := [one for one in wanted if one.split(".")[-1] in bypassed]:
        raise ModelError(
            f"{setting}.lora.targets: {encoder.config.model_type} reads the weights of "
            f"{', '.join(useless)} without calling the layer, so that an adapter there would do "
            "nothing: take the feed-forward layers, intermediate_dense and output_dense"
        )
    half = len(layers) // 2
    chosen = {"all": range(len(layers)), "upper": range(half, len(layers)), "lower": range(half)}
    names = [
        f"{prefix}.{number}.{name}"
        for number in chosen[config.layers]
        for name, module in layers[number].named_modules()
        if isinstance(module, nn.Linear)
        and any(name == one or name.endswith(f".{one}") for one in wanted)
    ]
    if not names:
        linear = sorted({name.split(".")[-1] for name, module in layers[0].named_modules()
                         if isinstance(module, nn.Linear)})  # fmt: skip
        raise ModelError(
            f"{setting}.lora.targets: no linear layer is called {' or '.join(wanted)}; there are "
            f"{', '.join(linear)}"
        )
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it as a float
        lora_dropout=config.dropout,
        target_modules=names,
        bias="none",
    )
    peft.inject_adapter_in_model(settings, encoder)


def has_adapters(description: Mapping[str, Any]) -> bool:
    """Whether a model's description (`EmotionModel.describe`) has a branch with LoRA."""
    branches = (description["model"].get(name) or {} for name in ("text", "audio"))
    return any(branch.get("lora") for branch in branches)


def merged(model: nn.Module, description: dict[str, Any]) -> tuple[dict[str, Tensor], dict]:
    """The weights of `model`, its adapters added to the layers beside them, and its description.

    `model` is changed: afterwards it is the merged one.
    """
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            above, _, last = name.rpartition(".")
            setattr(model.get_submodule(above), last, module.get_base_layer())
    plain = copy.deepcopy(description)
    for branch in ("text", "audio"):
        if plain["model"].get(branch):
            plain["model"][branch]["lora"] = None
    return {name: x.contiguous() for name, x in model.state_dict().items()}, plain
