"""The one module that training sees: branches, fusion, and which of them are frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from emo.modalities import MODALITIES
from emo.models.audio import AudioBranch
from emo.models.branch import Evidence, ModelError
from emo.models.classic import BiLstmNull, DnnElm
from emo.models.config import (
    AudioBranchConfig,
    BiLstmNullConfig,
    DnnElmConfig,
    ModelConfig,
    SpeechEncoderConfig,
)
from emo.models.context import ContextModel
from emo.models.fusion import FUSIONS, build_fusion, drop_modalities
from emo.models.speech import SpeechBranch
from emo.models.text import TextBranch
from shards.configfile import parse

CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of an exported model
AnyAudioBranch = AudioBranch | BiLstmNull | DnnElm | SpeechBranch
# Layers of a branch behind what the fusion reads of it.
UNREAD = {"logits": (), "vector": ("head",), "states": ("hidden", "head")}


class EmotionModel(nn.Module):
    """A batch to class scores, through the children `text`, `audio` and `fusion` that are set.

    Frozen children have no gradients and stay in evaluation mode whatever `train()` says.

    Args:
        config: its parts.
        classes: how many emotions.
        features: bins of an audio frame; any number for a model without spectrograms.
        vocabulary: `len(tokenizer)`; any number for a model without text.
        architecture: of the text encoder, as `describe` gave it: builds without reading weights.
        speech: the same of the speech encoder.
    """

    def __init__(
        self,
        config: ModelConfig,
        classes: int,
        features: int,
        vocabulary: int,
        architecture: dict[str, Any] | None = None,
        speech: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.sizes = {"classes": classes, "features": features, "vocabulary": vocabulary}
        branches: dict[str, TextBranch | AnyAudioBranch] = {}
        if config.text is not None:
            branches["text"] = TextBranch(config.text, classes, vocabulary, architecture)
        if config.audio is not None:
            branches["audio"] = _audio(config.audio, classes, features, speech)
        for name, branch in branches.items():
            self.add_module(name, branch)
        self.branches = tuple(branches)
        self.fused = config.fusion is not None
        if config.fusion is not None:
            reads = FUSIONS[config.fusion.kind].reads
            width = "states_width" if reads == "states" else "width"
            widths = {name: getattr(branch, width) for name, branch in branches.items()}
            self.fusion = build_fusion(config.fusion, classes, widths)
            for branch in branches.values():
                # What nothing reads has no gradient, and DDP waits for every one.
                for unread in UNREAD[reads]:
                    if isinstance(layer := getattr(branch, unread, None), nn.Module):
                        layer.requires_grad_(False)
                if isinstance(branch, SpeechBranch):
                    branch.gives_states = reads == "states"
        for name in config.freeze:
            self.get_submodule(name).requires_grad_(False)
        self.train()

    @property
    def needs(self) -> frozenset[str]:
        """The batch keys that `forward` reads."""
        return frozenset(key for name in self.branches for key in MODALITIES[name].keys)

    def train(self, mode: bool = True) -> EmotionModel:
        """As in torch, except that frozen children stay in evaluation mode."""
        super().train(mode)
        for name in self.config.freeze:
            self.get_submodule(name).eval()
        return self

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`logits_BC` of a batch.

        Reads `audio` float [B,T,F] (normalised; of waveforms [B,T], in ±1), `audio_mask` bool
        [B,T], `tokens` int64 [B,L], `token_mask` bool [B,L]; in both masks the valid places come
        first. With a fusion one modality may be missing from the batch, or from a row, whose mask
        then is all False.

        Raises:
            ModelError: none of the modalities that the model reads is there.
        """
        evidence = self.evidence(batch)
        if self.config.fusion is not None:
            if self.training and self.config.fusion.modality_dropout:
                evidence = drop_modalities(evidence, self.config.fusion.modality_dropout)
            return self.fusion(evidence)
        return evidence[self.branches[0]].logits_BC

    def evidence(self, batch: Mapping[str, Tensor]) -> dict[str, Evidence]:
        """What each branch says of `batch`; branches without input are left out."""
        found = {
            name: self.get_submodule(name)(*(batch[key] for key in MODALITIES[name].keys))
            for name in self.branches
            if all(key in batch for key in MODALITIES[name].keys)
        }
        if not found:
            raise ModelError(f"this model reads {' and '.join(self.branches)}: give one of them")
        return found

    def load_branch(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Take the weights of child `name` from another model's whole `state`.

        Raises:
            ModelError: that state's keys or shapes are not this child's; lists them.
        """
        own = self.get_submodule(name).state_dict()
        given = {
            key.removeprefix(name + "."): value
            for key, value in state.items()
            if key.startswith(name + ".")
        }
        problems = [f"{name}.{key} is missing" for key in own.keys() - given.keys()]
        problems += [f"{name}.{key} is not in this model" for key in given.keys() - own.keys()]
        problems += [
            f"{name}.{key} is {tuple(given[key].shape)}, wanted {tuple(own[key].shape)}"
            for key in own.keys() & given.keys()
            if given[key].shape != own[key].shape
        ]
        if problems:
            shown = "\n  ".join(sorted(problems)[:12])
            raise ModelError(
                f"the {name} branch cannot take these weights ({len(problems)} problems); "
                f"configure model.{name} as in the run that they come from:\n  {shown}"
            )
        self.get_submodule(name).load_state_dict(given)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> EmotionModel | ContextModel:
        """The exported model in `folder` (`emo export`), in evaluation mode.

        Raises:
            ModelError: the folder is no export, or its weights are not this model's; lists keys.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / CONFIG).read_text())["recipe"]["description"]
            state = load_file(folder / WEIGHTS)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(f"{folder} is no exported model: {error}") from None
        model = rebuild(description)
        missing, unknown = model.load_state_dict(state, strict=False)
        if missing or unknown:
            raise ModelError(
                f"the weights in {folder} are not this model's: missing {missing or 'none'}, "
                f"unknown {unknown or 'none'}"
            )
        return model.eval()

    def kinds(self) -> dict[str, str]:
        """What each part is: an encoder's architecture, or the kind of its configuration."""
        found = {}
        for name in self.config.children():
            part = self.get_submodule(name)
            if isinstance(part, TextBranch | SpeechBranch):
                found[name] = str(part.encoder.config.model_type)
            else:
                found[name] = getattr(self.config, name).kind
        return found

    def describe(self) -> dict[str, Any]:
        """Plain JSON from which `rebuild` makes this model again, weights apart."""
        text, audio = (getattr(self, name, None) for name in ("text", "audio"))
        return {
            "model": self.config.model_dump(mode="json"),
            **self.sizes,
            "architecture": text.describe() if isinstance(text, TextBranch) else None,
            "speech": audio.describe() if isinstance(audio, SpeechBranch) else None,
        }


def _audio(
    config: AudioBranchConfig | BiLstmNullConfig | DnnElmConfig | SpeechEncoderConfig,
    classes: int,
    features: int,
    speech: dict[str, Any] | None,
) -> AnyAudioBranch:
    if isinstance(config, SpeechEncoderConfig):
        return SpeechBranch(config, classes, speech)
    if isinstance(config, BiLstmNullConfig):
        return BiLstmNull(config, classes, features)
    if isinstance(config, DnnElmConfig):
        return DnnElm(config, classes, features)
    return AudioBranch(config, classes, features)


def rebuild(description: Mapping[str, Any]) -> EmotionModel | ContextModel:
    """The model that `describe` described, its weights to be loaded; reads no other file."""
    config = parse(ModelConfig, description["model"], where="the model's description")
    if config.context is not None:
        return ContextModel(config, int(description["classes"]), description["widths"])
    sizes = {name: int(description[name]) for name in ("classes", "features", "vocabulary")}
    return EmotionModel(
        config,
        **sizes,
        architecture=description["architecture"],
        speech=description.get("speech"),  # runs of before there were such branches lack it
    )
