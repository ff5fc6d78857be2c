"""TensorBoard's names of what the log holds, and the page that puts related curves together.

TensorBoard groups what it shows by the part of a name before the slash.
"""

from __future__ import annotations

# (group in the log, beginning of the name) -> group and beginning in TensorBoard; the first fits
_TAGS = {
    ("train", "loss"): "loss/train",
    ("val", "loss"): "loss/val",
    ("val_recall", ""): "recall/",
    ("train", "lr_"): "learning_rate/",
    ("train", "gradient_norm"): "gradient/norm",
    ("train", "samples_per_second"): "speed/samples_per_second",
    ("train", "data_wait_share"): "speed/data_wait_share",
    ("train", "memory_"): "memory/",
    ("train", "energy_"): "energy/",
}

CCC, ENERGY = "val.*/ccc", "energy/.*"  # only some runs have them
# Title of a section -> title of a chart -> what it shows, as patterns of names.
LAYOUT = {
    "Course": {
        "loss, train and validation": ["loss/.*"],
        "validation: WA and UA": ["val/(wa|ua)"],
        "validation: F1": [r"val/.*f1"],
        "validation: concordance (CCC)": [CCC],
        "validation: recall of each class": ["recall/.*"],
    },
    "Optimisation": {
        "learning rates": ["learning_rate/.*"],
        "gradient norm, before clipping": ["gradient/.*"],
    },
    "Machine": {
        "samples a second": ["speed/samples_per_second"],
        "share of time spent waiting for data": ["speed/data_wait_share"],
        "memory (GB)": ["memory/.*"],
        "energy of the GPUs (Wh)": [ENERGY],
    },
}


def tag_of(group: str, name: str) -> str:
    """TensorBoard's name of a value that the log has under `group` and `name`."""
    for (its_group, beginning), tag in _TAGS.items():
        if group == its_group and name.startswith(beginning):
            return tag + name.removeprefix(beginning)
    return f"{group}/{name}"
