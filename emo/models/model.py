"""The module that is trained: branches and fusion, some of them frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from emo.mixing import PARTNER, WEIGHT
from emo.modalities import MODALITIES
from emo.models.attributes.head import AttributeHead
from emo.models.audio.elm import ElmBranch
from emo.models.branch import Branch, BranchOutput, ModelError, Output
from emo.models.config import ModelConfig
from emo.models.context.model import ContextModel
from emo.models.fusion.dropout import drop_modalities
from emo.models.numerics import at_least_float32
from emo.models.registry import BRANCHES, FUSIONS, lookup
from shards.configfile import parse

CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of an exported model


class EmotionModel(nn.Module):
    """From a batch to class scores. Its children are the branches, named by modality, and `fusion`.

    Frozen children have no gradients and stay in evaluation mode, also after `train()`.

    Args:
        config: which parts it has.
        classes: number of emotions.
        sizes: by modality, the number of entries in the tokenizer, or of values in a frame; 0 if
            the branch needs neither.
        architectures: by modality, the result of `describe` for a pretrained encoder, which is then
            built without reading its weights.
    """

    def __init__(
        self,
        config: ModelConfig,
        classes: int,
        sizes: Mapping[str, int],
        architectures: Mapping[str, dict[str, Any] | None] | None = None,
    ) -> None:
        super().__init__()
        self.config, self.classes, self.sizes = config, classes, dict(sizes)
        self.branches = tuple(config.branches)
        for name, part in config.branches.items():
            kind = lookup(BRANCHES[name], part.kind, f"model.{name}.kind")
            architecture = (architectures or {}).get(name)
            self.add_module(name, kind(part, classes, self.sizes.get(name, 0), architecture))
        self.reads = config.fusion.reads if config.fusion is not None else None
        if config.fusion is not None:
            self.fusion = self._fusion(config.fusion)
        if config.attributes is not None:
            last: Any = self.fusion if config.fusion else self.branch(self.branches[0])
            self.attributes = AttributeHead(config.attributes, last.width)
        for name in config.freeze:
            self.get_submodule(name).requires_grad_(False)
        self.train()

    def _fusion(self, config: Any) -> nn.Module:
        widths = {}
        for name in self.branches:
            branch = self.branch(name)
            branch.serve(config.reads)
            of_part = {
                "logits": self.classes,
                "vector": branch.width,
                "states": branch.states_width,
            }
            widths[name] = of_part[config.reads]
        return lookup(FUSIONS, config.kind, "model.fusion.kind")(config, self.classes, widths)

    def branch(self, name: str) -> Branch:
        """The branch of modality `name`."""
        child = self.get_submodule(name)
        assert isinstance(child, Branch)
        return child

    def train(self, mode: bool = True) -> EmotionModel:
        """As in torch, except that frozen children stay in evaluation mode."""
        super().train(mode)
        for name in self.config.freeze:
            self.get_submodule(name).eval()
        return self

    def forward(
        self, batch: Mapping[str, Tensor], output: Output = "scores"
    ) -> Tensor | dict[str, Tensor]:
        """`logits_BC` of a batch, or one of the other outputs (`emo.models.branch.Output`).

        Reads `audio` float [B,T,F] (normalised; of waveforms [B,T], in ±1), `audio_mask` bool
        [B,T], `tokens` int64 [B,L], `token_mask` bool [B,L]; in both masks the valid places come
        first. With a fusion, modalities may be missing from the batch, or from a row, whose mask
        then is all False.

        Raises:
            ModelError: none of the modalities that the model reads is there.
        """
        if output not in ("scores", "parts", "all"):
            return self._of_elm_branch(batch, output)
        outputs = self.branch_outputs(batch)
        last: Any
        if self.config.fusion is not None:
            if self.training and self.config.fusion.modality_dropout:
                outputs = drop_modalities(outputs, self.config.fusion.modality_dropout)
            last = self.fusion(outputs)
        else:
            last = outputs[self.branches[0]]
        if output == "scores":
            return last.logits_BC
        parts = {"scores": last.logits_BC, "vector": last.vector_BD}
        if self.config.attributes is not None:
            parts["attributes"] = self.attributes(last.vector_BD)
        if output == "parts":
            return parts
        scores_BC = at_least_float32(parts["scores"])
        return torch.cat([scores_BC, parts["attributes"].to(scores_BC.dtype)], dim=1)

    def _of_elm_branch(self, batch: Mapping[str, Tensor], output: Output) -> Tensor:
        # Only models with a fitted head are asked, and they have one branch (`config.fits_head`).
        [name] = self.branches
        branch, inputs = self.branch(name), (batch[key] for key in MODALITIES[name].keys)
        assert isinstance(branch, ElmBranch)
        if output == "log_likelihoods":
            return branch.log_likelihoods(*inputs)
        assert output == "statistics", output
        return branch.statistics(*inputs)

    def branch_outputs(self, batch: Mapping[str, Tensor]) -> dict[str, BranchOutput]:
        """The output of each branch for `batch`; branches without input are left out."""
        outputs = {
            name: self.branch(name)(*(batch[key] for key in MODALITIES[name].keys))
            for name in self.branches
            if all(key in batch for key in MODALITIES[name].keys)
        }
        if not outputs:
            raise ModelError(f"this model reads {' and '.join(self.branches)}: give one of them")
        if WEIGHT in batch:
            pair = batch[WEIGHT], batch[PARTNER]
            outputs = {name: output.mixed(*pair) for name, output in outputs.items()}
        return outputs

    def load_branch(self, name: str, state: Mapping[str, Tensor]) -> None:
        """Take the weights of child `name` from another model's whole `state`.

        Raises:
            ModelError: the keys or shapes differ from this child's; the message lists them.
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
            ModelError: the folder is no export, or its weights do not fit; the message lists keys.
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
        kinds = {name: self.branch(name).kind for name in self.branches}
        return kinds | ({"fusion": self.config.fusion.kind} if self.config.fusion else {})

    def describe(self) -> dict[str, Any]:
        """Plain JSON from which `rebuild` makes this model again, weights apart."""
        known = MODALITIES.values()
        return {
            "model": self.config.model_dump(mode="json"),
            "classes": self.classes,
            **{one.size: self.sizes.get(one.name, 0) for one in known},
            **{
                one.architecture: self.branch(one.name).describe()
                if one.name in self.branches
                else None
                for one in known
            },
        }


def rebuild(description: Mapping[str, Any]) -> EmotionModel | ContextModel:
    """The model that `describe` described, with random weights; reads no file."""
    config = parse(ModelConfig, description["model"], where="the model's description")
    classes = int(description["classes"])
    if config.context is not None:
        return ContextModel(config, classes, description["widths"])
    sizes = {one.name: int(description.get(one.size, 0)) for one in MODALITIES.values()}
    return EmotionModel(config, classes, sizes, architectures_of(description))


def architectures_of(description: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
    """By modality, the architecture of its pretrained encoder in what `describe` gave."""
    # Older descriptions lack keys that were added later; the oldest lack that of speech encoders.
    return {one.name: description.get(one.architecture) for one in MODALITIES.values()}
