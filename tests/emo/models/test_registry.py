"""Every kind that a configuration knows has a class, and every class a kind."""

import typing

import pytest

from emo.modalities import MODALITIES
from emo.models.audio import cnn
from emo.models.audio.config import AudioConfig, CnnConfig, SpeechEncoderConfig
from emo.models.branch import ModelError
from emo.models.config import ModelConfig
from emo.models.context.config import ContextConfig
from emo.models.fusion.config import FusionConfig
from emo.models.pooling import POOLINGS
from emo.models.registry import BRANCHES, CONTEXTS, FUSIONS, lookup
from emo.models.text import encoder
from emo.models.text.config import SOURCES, TextBranchConfig


def kinds(union):
    """The kinds of the configurations in an annotated union."""
    if hasattr(union, "model_fields"):
        return set(typing.get_args(union.model_fields["kind"].annotation))
    return set().union(*map(kinds, (one for one in typing.get_args(union) if typing.get_args(one)
                                    or hasattr(one, "model_fields"))))  # fmt: skip


def test_every_kind_has_its_class():
    assert kinds(AudioConfig) == set(BRANCHES["audio"])
    assert set(SOURCES) == set(BRANCHES["text"]) == set(encoder.SOURCES)
    assert kinds(FusionConfig) == set(FUSIONS)
    assert kinds(ContextConfig) == set(CONTEXTS)


def test_every_modality_has_branches_and_a_place_in_models():
    assert set(BRANCHES) == set(MODALITIES)
    assert set(MODALITIES) <= set(ModelConfig.model_fields)


@pytest.mark.parametrize(
    ("config", "own"),
    [(CnnConfig, set(cnn.OF_MAPS)), (TextBranchConfig, {"cls"}), (SpeechEncoderConfig, set())],
)
def test_every_pooling_has_its_class(config, own):
    annotation = config.model_fields["pooling"].annotation
    named = {value for one in (annotation, *typing.get_args(annotation))
             for value in typing.get_args(one) if isinstance(value, str)}  # fmt: skip
    assert named == set(POOLINGS) | own


def test_a_kind_without_a_class_is_named():
    with pytest.raises(ModelError, match=r"model\.fusion\.kind: .*no 'gatd'.*did you mean 'gated'"):
        lookup(FUSIONS, "gatd", "model.fusion.kind")
