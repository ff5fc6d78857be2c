"""Sizes that a reader can hold in mind: of functions, files and folders."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ("emo", "shards", "launch", "slurm")
PARAMETERS, LINES, MODULES = 6, 350, 9
# What is over a limit, still. The lists may only get shorter.
WIDE: set[str] = set()
LONG: set[str] = set()
FULL: set[str] = set()


def files(*folders: str, suffixes: tuple[str, ...] = (".py", ".sh", ".sbatch")) -> list[Path]:
    found = [p for folder in folders for p in sorted((ROOT / folder).rglob("*"))]
    return [path for path in found if path.suffix in suffixes]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many things a caller may have to think of; `*args` is one of them."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    starred = [one for one in (given.vararg, given.kwarg) if one]
    return len([name for name in names if name not in ("self", "cls")]) + len(starred)


def wide_functions(path: Path) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and parameters(node) > PARAMETERS
    ]


def check(over: set[str], known: set[str], limit: str) -> None:
    assert not over - known, f"more than {limit}: {sorted(over - known)}"
    assert not known - over, f"these are mended, take them off the list: {sorted(known - over)}"


def test_no_function_has_more_than_six_parameters():
    paths = files(*SOURCES, suffixes=(".py",))
    assert len(paths) > 50
    wide = {f"{p.relative_to(ROOT)} {name}" for p in paths for name in wide_functions(p)}
    check(wide, WIDE, f"{PARAMETERS} parameters")


def test_no_file_is_longer_than_350_lines():
    paths = files(*SOURCES, "tests", "benchmarks")
    long = {str(p.relative_to(ROOT)) for p in paths if len(p.read_text().splitlines()) > LINES}
    check(long, LONG, f"{LINES} lines")


def test_no_folder_holds_more_than_nine_modules():
    count: dict[str, int] = {}
    for path in files(*SOURCES, "tests", suffixes=(".py",)):
        if path.name not in ("__init__.py", "conftest.py"):
            folder = str(path.parent.relative_to(ROOT))
            count[folder] = count.get(folder, 0) + 1
    check({folder for folder, n in count.items() if n > MODULES}, FULL, f"{MODULES} modules")


def test_parameters_are_counted_as_a_caller_sees_them():
    code = "def f(self, a, /, b, *rest, c=1, **more): ...\nasync def g(): ..."
    one, two = ast.parse(code).body
    assert (parameters(one), parameters(two)) == (5, 0)


def test_the_quick_tests_are_there():
    """`make quick` names them one by one."""
    listed = (ROOT / "Makefile").read_text().split("QUICK :=")[1].split("\n\n")[0]
    names = listed.replace("\\\n", " ").split()
    assert len(names) > 5
    for name in names:
        path, _, function = name.partition("::")
        assert (ROOT / path).exists(), path
        assert not function or f"def {function}(" in (ROOT / path).read_text(), name
