"""Imports run one way, through the rooms in the order of the data; command lines start at once."""

import ast
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The rooms, lowest first: a module imports from its own room and from rooms in lines above it.
# Rooms in one line do not know each other. A name that is not a folder is a module.
LAYERS = [
    ("shards", "shards.errors", "shards.yaml_text", "shards.configfile",
     "shards.atomic", "shards.progress", "shards.processes", "shards.command_line"),
    ("shards.corpora",),
    ("shards.extract",),
    ("shards.store",),
    ("shards.views",),
    ("shards.sample",),
    ("shards.config",),  # puts the rooms' settings together for the job
    ("shards.build",),
    ("shards.__main__",),
    ("emo.modalities", "emo.metrics", "emo.mixing", "emo.settings"),
    ("emo.models.parts",),
    ("emo.models.text.config", "emo.models.audio.config", "emo.models.fusion.config",
     "emo.models.context.config", "emo.models.losses.config",
     "emo.models.attributes.config"),
    ("emo.data.augment.config",),
    ("emo.data.config", "emo.models.config", "emo.distributed.config", "emo.training.config",
     "emo.runs.config", "emo.evaluation.config", "emo.serving.config",
     "emo.watching.config"),
    ("emo.config",),
    ("emo.data", "emo.models", "emo.figures"),
    ("emo.distributed",),
    ("emo.runs",),
    ("emo.watching",),
    ("emo.evaluation",),
    ("emo.training",),
    ("emo.comparison",),
    ("emo.report",),
    ("emo.search",),
    ("emo.serving",),
    ("emo",),  # the front door, `from emo import load`: it imports when it is called
    ("emo.commands",),
    ("emo.__main__",),
]  # fmt: skip
GROUND_FLOOR = LAYERS[0]  # its modules may import each other, as long as there is no cycle
PLACES = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("shards", "emo")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Those that run, also inside functions: not the ones for type checkers alone."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for inner in node.orelse:
            yield from import_statements(inner)
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    for inner in ast.iter_child_nodes(node):
        yield from import_statements(inner)


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports: modules, and names in modules as `module.name`."""
    names = set()
    for node in import_statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert not node.level, f"{path} line {node.lineno}: write the package's name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(module: str) -> set[str]:
    """The modules of ours that `module` imports."""
    names = imported(MODULES[module])
    found = {name if name in MODULES else name.rpartition(".")[0] for name in names}
    return (found & MODULES.keys()) - {module}


def room(module: str) -> str:
    """The entry of `LAYERS` that a module stands in."""
    name = module
    while name not in PLACES or (name in ("shards", "emo") and name != module):
        name = name.rpartition(".")[0]
        assert name, f"{module} stands in no room: give it its place in LAYERS"
    return name


def runs_downwards(module: str, other: str) -> bool:
    one, two = room(module), room(other)
    return one == two or PLACES[one] > PLACES[two] or {one, two} <= set(GROUND_FLOOR)


def test_imports_run_downwards_through_the_rooms():
    wrong = {
        (module, other)
        for module in MODULES
        for other in own_imports(module)
        if not runs_downwards(module, other)
    }
    assert not wrong


def test_a_module_cannot_hide_from_the_rooms():
    assert room("emo.data.plan") == "emo.data"
    assert room("emo.data.config") == "emo.data.config"
    assert room("emo.data") == "emo.data"
    assert room("emo") == "emo"
    assert not runs_downwards("emo.data.plan", "emo.models.model")
    assert not runs_downwards("emo.data.plan", "emo.distributed.runtime")
    assert not runs_downwards("shards.atomic", "emo.modalities")
    with pytest.raises(AssertionError, match=r"emo\.new stands in no room"):
        room("emo.new")


def test_no_module_needs_itself_through_others():
    needs = {module: own_imports(module) for module in MODULES}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        pytest.fail(f"a cycle: {' <- '.join(error.args[1])}")
    assert len(order) == len(MODULES)


def test_shards_never_imports_training():
    packages = {
        module: {name.split(".")[0] for name in imported(path)}
        for module, path in MODULES.items()
        if module.split(".")[0] == "shards"
    }
    assert len(packages) > 10
    assert not {m: p for m, p in packages.items() if p & {"emo", "accelerate", "deepspeed"}}


def test_modules_named_in_strings_are_there():
    """As forkserver preloads are: a name that is out of date would only make starts slow."""
    named = {
        (module, name)
        for module, path in MODULES.items()
        for name in re.findall(r"[\"']((?:emo|shards)(?:\.[a-z_]+)+)[\"']", path.read_text())
    }
    assert named
    assert not {(module, name) for module, name in named if not importlib.util.find_spec(name)}


def test_nothing_reads_the_rank_but_one_module():
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    readers = {
        module
        for module, path in MODULES.items()
        if any(node.value in names for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Constant))
    }  # fmt: skip
    assert readers == {"emo.distributed.launcher"}


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)


HEAVY = "{'torch', 'transformers', 'librosa', 'sklearn', 'pyarrow', 'accelerate', 'deepspeed'}"


@pytest.mark.parametrize(
    ("package", "arguments", "answer"),
    [
        ("emo", ["--help"], "usage:"),
        ("shards", ["--help"], "usage:"),
        ("emo", ["config", "configs/sample/fusion.yaml"], "global_batch:"),
        ("emo", ["fields", "optim"], "optim.lr"),
        ("emo", ["fields", "--shards", "audio"], "audio.sample_rate"),
    ],
)
def test_commands_that_compute_nothing_need_no_heavy_import(package, arguments, answer):
    program = (
        "import runpy, sys\n"
        f"sys.argv = {[package, *arguments]}\n"
        "try:\n"
        f"    runpy.run_module('{package}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        f"heavy = {HEAVY} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    started = time.monotonic()
    done = run(program)
    print(f"{package} {' '.join(arguments)}: {time.monotonic() - started:.2f} s")
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout


@pytest.mark.parametrize("module", ["emo.config", "shards.config"])
def test_configurations_need_no_heavy_import(module):
    done = run(f"import sys, {module}\nheavy = {HEAVY} & set(sys.modules)\nassert not heavy, heavy")
    assert done.returncode == 0, done.stderr


# What a person would wait for before a model that does not need it predicts: half of it is most of
# a second each.
UNUSED = (
    "{'transformers', 'librosa', 'numba', 'sklearn', 'torchaudio', 'pyarrow', 'accelerate', "
    "'deepspeed', 'sympy', 'tensorboard', 'torch.distributed.tensor'}"
)


@pytest.mark.parametrize("module", ["emo.serving.loading", "emo.serving.many.job"])
def test_prediction_imports_what_it_uses_alone(module):
    done = run(
        f"import sys, {module}\nfound = {UNUSED} & set(sys.modules)\nassert not found, found"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["emo.comparison.compare", "emo.commands.results.runs", "emo"])
def test_looking_at_results_needs_no_torch(module):
    done = run(f"import sys, {module}\nassert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr
