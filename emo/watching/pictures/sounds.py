"""A sound in the form that TensorBoard reads; that of torch's writer it no longer shows."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile

from emo.figures.turns import Sound


def sound_summary(name: str, sound: Sound) -> Any:
    """A `Summary` of one 16-bit WAV; its label says where the sound comes from."""
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.audio import metadata

    wav = io.BytesIO()
    wave = np.clip(sound.wave, -1, 1)
    soundfile.write(wav, wave, sound.rate, format="WAV", subtype="PCM_16")
    about = metadata.create_summary_metadata(
        display_name=name,
        description=sound.origin,
        encoding=metadata.Encoding.Value("WAV"),
        converted_to_tensor=False,
    )
    about.data_class = DATA_CLASS_BLOB_SEQUENCE
    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[wav.getvalue(), sound.origin.encode()],
        tensor_shape=TensorShapeProto(
            dim=[TensorShapeProto.Dim(size=1), TensorShapeProto.Dim(size=2)]
        ),
    )
    return Summary(value=[Summary.Value(tag=name, tensor=tensor, metadata=about)])
