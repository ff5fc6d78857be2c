"""Every shipped configuration is valid, and those of the paper hold what the paper states."""

from pathlib import Path

import pytest

from emo.__main__ import main as emo
from emo.config import ExperimentConfig
from emo.search.space import SpaceConfig, check
from shards.__main__ import main as emo_shards
from shards.config import ShardConfig
from shards.configfile import load
from shards.corpora.labels import label_set

ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted((ROOT / "configs" / "sample").glob("*.yaml")) + sorted(
    path for folder in ("paper", "tuned") for path in (ROOT / "configs" / folder).glob("*.yaml")
)
PAPER = ROOT / "configs" / "paper"
OF_THE_PAPER = ("text", "audio", "fusion", "roberta", "wav2vec2")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_experiments_are_valid(path):
    assert load(ExperimentConfig, path).name.endswith(path.stem)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "spaces").glob("*.yaml")), ids=str)
def test_spaces_hold_values_that_can_be(path):
    """A space is named after the experiment that it is for: sample-text for sample/text."""
    check(ROOT / "configs" / f"{path.stem.replace('-', '/', 1)}.yaml", [], load(SpaceConfig, path))


SHARDS = sorted((ROOT / "configs" / "shards").glob("*.yaml"))
MANIFESTS = {"audiofolder", "audformat", "csv", "emobox", "folders", "hub_parquet", "kaldi",
             "lhotse", "webdataset"}  # fmt: skip


@pytest.mark.parametrize("path", SHARDS, ids=str)
def test_shard_configurations_are_valid(path):
    load(ShardConfig, path)


def test_each_corpus_is_built_into_a_folder_of_its_own_with_its_labels():
    builds = [load(ShardConfig, path) for path in SHARDS]
    assert len({build.output.folder for build in builds}) == len(builds)
    specs = {path.stem for path in (ROOT / "configs" / "corpora").glob("*.yaml")}
    assert specs - MANIFESTS <= {path.stem for path in SHARDS}
    for path, build in zip(SHARDS, builds, strict=True):
        if path.stem in specs:
            told = set(build.corpus.spec.labels.values())
            gathered = {code for codes in label_set(build.labels).codes for code in codes}
            assert gathered - told <= {"sur"}, path  # TESS: any surprise


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_the_papers_table_2_and_split(name):
    config = load(ExperimentConfig, PAPER / f"{name}.yaml")
    assert (config.optim.name, config.optim.lr, config.optim.weight_decay) == ("adam", 1.5e-4, 1e-3)
    assert config.train.epochs == 15
    view = config.data.view
    assert (view.protocol, view.labels, view.test, view.val) == ("random", "five", 0.1, 0.2)
    for branch in filter(None, (config.model.text, config.model.audio)):
        assert branch.dropout == 0.6


def test_the_papers_models():
    text = load(ExperimentConfig, PAPER / "text.yaml").model
    audio = load(ExperimentConfig, PAPER / "audio.yaml")
    fusion = load(ExperimentConfig, PAPER / "fusion.yaml")
    assert text.text.encoder == "bert-base-cased"
    assert len(audio.model.audio.channels) == 5
    assert audio.data.audio == "mfcc"
    assert audio.data.frames is not None  # padded or cropped to one length
    assert fusion.model.fusion.kind == "paper"
    assert fusion.model.text == text.text
    assert fusion.model.audio == audio.model.audio
    assert set(fusion.init) == {"text", "audio"}
    assert not fusion.model.freeze
    assert fusion.data.view == audio.data.view


def test_iemocap_shards_follow_section_4():
    config = load(ShardConfig, ROOT / "configs" / "shards" / "iemocap.yaml")
    assert config.audio.sample_rate == 22050
    assert set(config.augment.variants) == {"noise", "pitch", "stretch", "shift"}
    assert set(config.features.kinds) == {"logmel", "mfcc"}
    assert config.text.tokenizer == "bert-base-cased"


def test_speech_encoders_find_waveforms_at_their_rate():
    experiment = load(ExperimentConfig, PAPER / "wav2vec2.yaml")
    shards = load(ShardConfig, ROOT / "configs" / "shards" / "iemocap-waveform.yaml")
    assert shards.output.folder == experiment.data.shards
    assert shards.features.kinds == ("waveform",)
    assert shards.audio.sample_rate == 16000


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_what_the_paper_does_not_state_is_marked(name):
    """Free choices of these files carry the mark, in the line that makes them."""
    lines = (PAPER / f"{name}.yaml").read_text().splitlines()
    free = ("global_batch:", "kernel:", "channels:", "hidden:", "pooling:", "frames:", "slope:")
    for line in lines:
        if line.strip().startswith(free):
            assert "not in the paper" in line, line


def test_the_demo_trains_its_three_runs_on_one_view_and_one_vocabulary():
    configs = [
        load(ExperimentConfig, ROOT / "configs" / "sample" / f"{name}.yaml")
        for name in ("text", "audio", "fusion")
    ]
    assert len({c.data.view for c in configs}) == 1
    assert len({c.data.shards for c in configs}) == 1
    shards = load(ShardConfig, ROOT / "configs" / "shards" / "sample.yaml")
    assert shards.vocabulary_view == configs[0].data.view
    assert shards.output.folder == configs[0].data.shards
    assert configs[2].model.text == configs[0].model.text
    assert configs[2].model.audio == configs[1].model.audio


@pytest.mark.parametrize(
    ("name", "override", "meant"),
    [
        ("fusion", "data.variants=[clean, nois]", "noise"),
        ("fusion", "data.audio=logmell", "logmel"),
        ("fusion", "data.view.protocol=randm", "random"),
        ("fusion", "data.view.labels=fife", "five"),
        ("fusion", "data.plan.order=shufle", "shuffle"),
        ("fusion", "train.select=wau", "wa"),
        ("fusion", "model.freeze=[tex]", "text"),
        ("fusion", "model.audio.kind=dnn_elmm", "dnn_elm"),
        ("fusion", "model.fusion.kind=papr", "paper"),
        ("fusion", "init.txt=runs", "text"),
        ("bclstm", "model.context.modalities=[adio]", "audio"),
        ("bclstm", "model.context.kind=bclst", "bclstm"),
        ("fusion", "optim.name=adamm", "adam"),
        ("fusion", "runtime.strategy=zer2", "zero2"),
        ("fusion", "epochs=3", "train.epochs"),
    ],
)
def test_a_misspelt_name_in_an_experiment_is_met_with_what_was_meant(name, override, meant, capsys):
    assert emo(["config", str(ROOT / f"configs/sample/{name}.yaml"), override]) == 2
    said = capsys.readouterr().err
    assert f"did you mean '{meant}'?" in said or f"did you mean {meant}?" in said
    assert "the overrides:" in said


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("augment.variants=[ptch]", "pitch"),
        ("features.kinds=[mfc]", "mfcc"),
        ("corpus.reader=tabel", "table"),
        ("labels=fife", "five"),
        ("output.folders=x", "folder"),
        ("folder=x", "output.folder"),
    ],
)
def test_a_misspelt_name_in_a_dataset_is_met_with_what_was_meant(override, meant, capsys):
    assert emo_shards(["build", str(ROOT / "configs/shards/sample.yaml"), override]) == 2
    said = capsys.readouterr().err
    assert f"did you mean '{meant}'?" in said or f"did you mean {meant}?" in said
    assert "the overrides:" in said
