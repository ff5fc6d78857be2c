"""`emo-shards init` and `describe` as a new user meets them: what is odd is read, or named."""

import numpy as np
import pytest
import soundfile

from emo.config import ExperimentConfig
from shards.__main__ import main
from shards.build.starter.look import look
from shards.build.starter.meaning import emotion, roles
from shards.build.starter.start import start
from shards.config import ShardConfig
from shards.configfile import load
from shards.errors import UserError

WORDS = ("FREUDE", "Ärger ", "neutral", "Verachtung")


def write_audio(path, seconds=0.3, rate=16000, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, len(path.name)]).standard_normal(round(seconds * rate))
    soundfile.write(path, 0.1 * noise, rate)


def table(root, count=60, head="Datei;Text;Emotion;Sprecher", row=None, encoding="utf-8-sig"):
    """A table with semicolons, a byte order mark, umlauts, capitals, and blanks in file names."""
    lines = [head]
    for n in range(count):
        name = f"turn {n}.wav"
        write_audio(root / "Aufnahmen" / name, seed=n)
        made = [name, f"Größe {n}, ja!", WORDS[n % 4], f"S{n % 10}"]
        lines.append(";".join(row(n, made) if row else made))
    (root / "my.csv").write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))
    return root / "my.csv"


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A corpus with its files written by init; do not change it."""
    root = tmp_path_factory.mktemp("own corpus")
    return root, start(table(root))


def test_init_writes_what_builds_and_trains(started, capsys):
    root, told = started
    assert "60 rows; semicolons between 4 columns, utf-8" in told
    assert "audio: Datei, label: Emotion, text: Text, speaker: Sprecher" in told
    assert "FREUDE = happiness (15), Ärger = anger (15), neutral = neutral (15)" in told
    assert "classes     anger, contempt, happiness, neutral" in told
    assert f"recordings  {root}/Aufnahmen/{{Datei}}" in told
    assert "split       speakers" in told
    build = load(ShardConfig, root / "my-shards.yaml")
    assert build.corpus.spec.delimiter == ";"
    for kind in ("audio", "text"):
        training = load(ExperimentConfig, root / f"my-{kind}.yaml")
        assert training.data.shards == build.output.folder
        assert training.data.view == build.learning_view
    assert main(["build", str(root / "my-shards.yaml"), "augment.variants=[]", "workers=1"]) == 0
    out = capsys.readouterr().out
    assert "60 samples of 60 turns" in out
    assert "anger 15, contempt 15, happiness 15, neutral 15" in out
    with pytest.raises(UserError, match=r"my\.yaml.*there already"):
        start(root / "my.csv")


def test_describe_looks_without_building(started, capsys):
    root, _ = started
    assert main(["describe", str(root / "my.yaml"), str(root)]) == 0
    out = capsys.readouterr().out
    assert "speakers    10, with 6 to 6 turns" in out
    assert "speech      0.01 h in 60 turns of 0.30 to 0.30 s" in out
    assert "rates       16000 Hz: 60" in out
    assert "texts       60 of 60 turns, 60 different, 3 to 3 words" in out
    assert "rejected    nothing (all recordings decoded)" in out
    assert main(["describe", str(root / "my-shards.yaml"), str(root)]) == 0
    assert "60 utterances" in capsys.readouterr().out


def test_describe_names_what_a_build_would_reject(tmp_path, capsys):
    start(table(tmp_path, 24))
    audio = tmp_path / "Aufnahmen"
    (audio / "turn 1.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    (audio / "turn 2.wav").write_bytes(b"")
    soundfile.write(audio / "turn 3.wav", np.zeros(8000), 16000)
    soundfile.write(audio / "turn 4.wav", np.full((8000, 2), 0.1) * [[1, -1]], 44100)
    (audio / "turn 5.wav").unlink()
    assert main(["describe", "--deep", str(tmp_path / "my.yaml"), str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "left out    1" in out
    assert "missing audio: turn 5.wav" in out
    assert "empty: 1, pointer: 1, silent: 2 (all recordings decoded)" in out
    assert "44100 Hz: 1" in out
    assert main(["describe", str(tmp_path / "nowhere.yaml"), str(tmp_path)]) == 2
    assert "cannot read the configuration" in capsys.readouterr().err


def test_a_missing_file_is_named_with_what_to_set(tmp_path):
    def row(n, made):
        return ["gone.wav", *made[1:]] if n == 7 else made

    told = start(table(tmp_path, row=row))
    assert "1 of 60 turns cannot be used:\n  missing audio: gone.wav: there is no file" in told
    assert "corpus.max_problems=1" in told


def test_a_file_that_stands_twice_is_named_with_both_places(tmp_path):
    def row(n, made):
        return ["turn 6.wav", *made[1:]] if n == 7 else made

    with pytest.raises(UserError) as caught:
        start(table(tmp_path, row=row))
    message = str(caught.value)
    assert "but the corpus cannot be read yet" in message
    assert f"my.csv:9: the id 'turn 6.wav' stands at {tmp_path}/my.csv:8 as well" in message
    assert (tmp_path / "my.yaml").is_file()  # to be corrected there


def test_absolute_paths_elsewhere(tmp_path):
    elsewhere = tmp_path / "disk"
    path = tmp_path / "corpus/table.csv"
    path.parent.mkdir()
    lines = ["file,emotion"]
    for n in range(20):
        write_audio(elsewhere / f"{n}.wav", seed=n)
        lines.append(f"{elsewhere}/{n}.wav,{'joy' if n % 2 else 'anger'}")
    path.write_text("\n".join(lines) + "\n")
    told = start(path)
    build = load(ShardConfig, path.with_name("table-shards.yaml"))
    assert build.corpus.absolute_paths
    assert build.text is None
    assert len(build.corpus.read().utterances) == 20
    assert "no column looks like the speaker" in told


def test_recordings_beside_the_folder_of_the_table_and_names_without_ending(tmp_path):
    lines = ["utt_id\tsentence\temo\tspk"]
    for n in range(12):
        write_audio(tmp_path / f"wav/u{n}.flac", seed=n)
        lines.append(f'u{n}\t"Oh {n}\t{("hap", "sad")[n % 2]}\ts{n % 3}')
    (tmp_path / "meta").mkdir()
    path = tmp_path / "meta/list.txt"
    path.write_text("\n".join(["file\t" + lines[0], *(f"wav/{one[:one.find(chr(9))]}\t{one}"
                                                       for one in lines[1:])]) + "\n")  # fmt: skip
    told = start(path)
    build = load(ShardConfig, path.with_name("list-shards.yaml"))
    assert build.corpus.root == tmp_path
    [first, *_] = build.corpus.read().utterances
    assert (first.audio, first.text) == (tmp_path / "wav/u0.flac", '"Oh 0')
    assert "id: utt_id" in told


@pytest.mark.parametrize(
    ("content", "separator", "encoding", "columns"),
    [
        (b"file,emotion\na.wav,joy\n", ",", None, ("file", "emotion")),
        ("file;emotion\na.wav;Ärger, sehr\n".encode("cp1252"), ";", "cp1252", ("file", "emotion")),
        ("file\temotion\na.wav\tjoy\n".encode("utf-16"), "\t", "utf-16", ("file", "emotion")),
        (b"a.wav|joy|x\nb.wav|fear|y\n", "|", None, ("column 1", "column 2", "column 3")),
        (b'id,text,emotion\n1,"a, b",joy\n2,"c\nd",fear\n', ",", None, ("id", "text", "emotion")),
    ],
)  # fmt: skip
def test_separators_encodings_and_tables_without_header(
    tmp_path, content, separator, encoding, columns
):
    (tmp_path / "t.csv").write_bytes(content)
    found = look(tmp_path / "t.csv")
    assert found.columns == columns
    assert found.layout.get("delimiter", "\t" if found.layout.get("format") else ",") == separator
    assert found.layout.get("encoding") == encoding
    assert len(found.rows) == (1 if columns == ("file", "emotion") else 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"\0\0\0\0PK", "save the table as csv"),
        (b"one\ntwo\n", "no separator"),
        (b"file,emotion\n", "has no rows"),
        (b"file,length\na.wav,3\nb.wav,4\n", "no column looks like the emotion"),
        (b"colour,emotion\nred,joy\nblue,fear\n", "no column looks like a recording or a text"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, capsys, content, message):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    assert main(["init", str(path)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "t.yaml").exists()


def test_columns_are_known_by_their_content_where_names_do_not_tell(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\nx.wav,Happy,s1\ny.wav,sadness,s2\nz.wav,Wut,s1\n")
    assert roles(look(tmp_path / "t.csv")) == {"audio": "a", "label": "b"}
    assert [emotion(word) for word in ("Wut", "peur", "Pleasant Surprise", "n/a", "")] == [
        "ang", "fea", "pleasant surprise", "xxx", "xxx",
    ]  # fmt: skip
