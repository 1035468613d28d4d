"""The house keeps its shape: floors, walls, small files, docstrings, a true README. Each check finds planted faults."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

repository = Path(__file__).resolve().parents[1]
package = repository / "src" / "foretell"

# A module may import only from lower floors or from its own folder. (The mind stands on experience: a model keeps the
# View it was trained with.)
storeys = [
    ["errors"],
    ["parallel"],
    ["shapes", "log"],
    ["data"],
    ["model", "worlds"],
    ["objectives", "surprise", "doubt"],
    ["train", "evals", "plan"],
    ["domains", "serve", "export"],
    ["presets", "verbs"],
    ["training", "controls", "planning", "predicting"],
    ["evaluating", "acting", "uncertain", "tracking"],
    ["cli"],
    ["__init__", "__main__"],
]
floors = {name: floor for floor, names in enumerate(storeys) for name in names}


def module_name(path: Path, root: Path) -> str:
    """Path of a file -> its dotted name below the package; a folder's own __init__ has the folder's name."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this one, inside functions too, but nothing that stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from nodes_that_run(child)


def imported_names(path: Path, root: Path) -> Iterator[str]:
    """Absolute dotted names that a file imports; `from a import b` gives a.b."""
    folder = ("foretell", *path.relative_to(root).parts[:-1])
    for node in nodes_that_run(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else ()
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def imports(root: Path, files: list[Path]) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports."""
    modules = {module_name(path, root): path for path in files}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        graph[name] = set()
        for full in imported_names(path, root):
            parts = full.split(".")
            if parts[0] == "foretell":
                known = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
                graph[name].add(next((part for part in known if part in modules), "__init__"))
        graph[name].discard(name)
    return graph


def upward_imports(root: Path, files: list[Path]) -> list[str]:
    found = []
    for module, targets in imports(root, files).items():
        own = module.split(".")[0]
        if own not in floors:
            found.append(f"{module} has no floor in tests/test_house.py")
            continue
        for target in sorted(targets):
            theirs = target.split(".")[0]
            if theirs != own and floors.get(theirs, 99) >= floors[own]:
                found.append(f"{module} (floor {floors[own]}) imports {target} (floor {floors.get(theirs)})")
    return found


def circles(root: Path, files: list[Path]) -> list[str]:
    graph, done, found = imports(root, files), set(), []

    def walk(module: str, trail: tuple[str, ...]) -> None:
        if module in trail:
            found.append(" imports ".join([*trail[trail.index(module) :], module]))
        elif module not in done:
            for target in sorted(graph[module]):
                walk(target, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        walk(module, ())
    return found


def distributed_elsewhere(root: Path, files: list[Path]) -> list[str]:
    found = []
    for path in (path for path in files if module_name(path, root) != "parallel"):
        said = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        said |= set(imported_names(path, root))
        found += [f"{module_name(path, root)} says {name}" for name in said if name.startswith("torch.distributed")]
    return found


def vague_names(root: Path, files: list[Path]) -> list[str]:
    vague = {"utils", "util", "common", "base", "helpers", "misc"}
    return [str(path) for path in files if vague & {path.stem, *path.relative_to(root).parts[:-1]}]


def undocumented(root: Path, files: list[Path]) -> list[str]:
    """Modules, public classes, functions and methods without a docstring."""
    found = []

    def visit(owner: ast.Module | ast.ClassDef, path: Path) -> None:
        for node in owner.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            stub = ast.unparse(node.body[-1]) == "..."  # a protocol's method: its class says what is meant
            if not ast.get_docstring(node) and not stub and node.name != "forward":
                found.append(f"{path}:{node.lineno} {node.name} has no docstring")
            if isinstance(node, ast.ClassDef):
                visit(node, path)

    for path in files:
        tree = ast.parse(path.read_text())
        if tree.body and not ast.get_docstring(tree):
            found.append(f"{path} has no docstring")
        visit(tree, path)
    return found


def unknown_extras(root: Path, files: list[Path]) -> list[str]:
    """Extras that a message tells the user to install and pyproject.toml does not have."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return [
        f"{path}: foretell[{name}]"
        for path in files
        for extras in re.findall(r"foretell\[([\w,]+)\]", path.read_text())
        for name in extras.split(",")
        if name not in project["optional-dependencies"]
    ]


def too_long(root: Path, files: list[Path]) -> list[str]:
    found = []
    for path in (path for path in files if path.suffix == ".py"):
        text = path.read_text()
        if text.count("\n") > 400:
            found.append(f"{path}: {len(text.splitlines())} lines, at most 400")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 80:
                found.append(f"{path}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines, at most 80")
    return found


def private_places(root: Path, files: list[Path]) -> list[str]:
    """Text that ties a file to one machine or one registry."""
    tied = re.compile(
        r"(?<![\w.}$/])/(work|root|home|opt|mnt|Users)/\w|\.library\b|--find-links|index-url|PIP_[A-Z_]*(INDEX|FIND)"
        r"|(pypi|pythonhosted|download\.pytorch)\.org"
    )
    found = []
    for path in (path for path in files if path.name != "test_house.py"):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{path}: {match.group()}" for match in tied.finditer(text)]
    return found


def false_tree(root: Path, files: list[Path]) -> list[str]:
    """Names in the README's tree (the block that shows src/foretell) that no file or folder has."""
    readme = next((path.read_text() for path in files if path == root / "README.md"), "")
    blocks = re.findall(r"^```.*?\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    tree = "\n".join(block for block in blocks if "src/foretell" in block)
    names = re.findall(r"(?<![\w./<])[\w./-]+(?:\.(?:py|md|toml|txt|json)\b|/(?=\s|$))", tree)
    known = [f"/{path.relative_to(root).as_posix()}" for path in files]
    return [
        f"README.md: {name}"
        for name in names
        if not any(path.endswith(f"/{name}") or (name.endswith("/") and f"/{name}" in path) for path in known)
    ]


Check = Callable[[Path, list[Path]], list[str]]
of_the_package: list[Check] = [
    upward_imports,
    circles,
    distributed_elsewhere,
    vague_names,
    undocumented,
    unknown_extras,
]
of_the_repository: list[Check] = [too_long, private_places, false_tree]


@pytest.mark.parametrize("check", of_the_package)
def test_package(check):
    found = check(package, sorted(package.rglob("*.py")))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("check", of_the_repository)
def test_repository(check):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=True, text=True)
    files = [repository / name for name in listed.stdout.split("\0") if name]
    found = check(repository, [path for path in files if path.exists()])
    assert not found, "\n".join(found)


good = {
    "errors.py": '"""E."""\nclass ForetellError(Exception):\n    """Root."""\n',
    "model/__init__.py": "",
    "model/layers.py": '"""L."""\nfrom foretell.errors import ForetellError\n',
    "train/loop.py": '"""T."""\nfrom typing import TYPE_CHECKING\nfrom foretell.model import layers\n'
    "if TYPE_CHECKING:\n    from foretell.cli import main\n",
    "README.md": "```\nsrc/foretell is here\n  train/  learn  loop.py\n```\n",
    "src/foretell": "",
    "__init__.py": '"""F."""',
    "cli.py": '"""C."""',
    "evals/probe.py": '"""P."""',
    "worlds/world.py": '"""W."""',
    "model/encoders.py": '"""E."""\nfrom foretell.model.layers import Block\n',
}
faults: list[tuple[Check, str, str, str]] = [
    (upward_imports, "model/layers.py", "import foretell.train.loop", "model.layers (floor 4) imports train"),
    (upward_imports, "model/layers.py", "def f():\n    from foretell.worlds import world", "imports worlds"),
    (upward_imports, "train/loop.py", "from foretell.evals.probe import ridge", "imports evals.probe"),
    (upward_imports, "train/loop.py", "from ..evals import probe", "imports evals.probe"),
    (upward_imports, "train/loop.py", "from foretell import Clip", "imports __init__"),
    (upward_imports, "extra.py", "", "extra has no floor"),
    (circles, "model/layers.py", "from . import encoders", "model.encoders imports model.layers"),
    (
        circles,
        "errors.py",
        "def f():\n    import foretell.train.loop",
        "errors imports train.loop imports model.layers",
    ),
    (distributed_elsewhere, "train/loop.py", "import torch.distributed as dist", "train.loop says torch.dist"),
    (distributed_elsewhere, "train/loop.py", "def f():\n    from torch import distributed", "train.loop says"),
    (distributed_elsewhere, "train/loop.py", "import torch\nx = torch.distributed.is_initialized()", "train.loop says"),
    (vague_names, "model/utils.py", "", "utils.py"),
    (vague_names, "common/layers.py", "", "common"),
    (undocumented, "model/heads.py", "x = 1", "heads.py has no docstring"),
    (undocumented, "train/loop.py", "def train():\n    return 1", "train has no docstring"),
    (undocumented, "train/loop.py", "class A:\n    'A.'\n    def b(self):\n        return 1", "b has no docstring"),
    (unknown_extras, "train/loop.py", "'pip install \"foretell[sim,nosuch]\"'", "foretell[nosuch]"),
    (too_long, "train/loop.py", "\n" * 401, "at most 400"),
    (too_long, "train/loop.py", "def f():\n" + "    pass\n" * 80, "f: 81 lines, at most 80"),
    (private_places, "bench.json", "python /work/main/bench/store.py", "/work/m"),
    (private_places, "Makefile", "pip install --extra-index-url x", "index-url"),
    (private_places, "README.md", "https://download.pytorch.org/whl/cpu", "pytorch.org"),
    (false_tree, "README.md", "```\nsrc/foretell/\n  train/  sweep.py\n```", "README.md: sweep.py"),
    (false_tree, "README.md", "```\nsrc/foretell/\n  robots/\n```", "README.md: robots/"),
]


def house(folder: Path, planted: dict[str, str]) -> list[Path]:
    """A small sound house, and on top of it what is planted."""
    for name in {**good, **planted}:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{good.get(name, '')}\n{planted.get(name, '')}\n".lstrip())
    return [path for path in folder.rglob("*") if path.is_file()]


def python(files: list[Path], check: Check) -> list[Path]:
    return [path for path in files if path.suffix == ".py" or check in of_the_repository]


@pytest.mark.parametrize("check", of_the_package + of_the_repository)
def test_checks_leave_a_sound_house_alone(check, tmp_path):
    assert check(tmp_path, python(house(tmp_path, {}), check)) == []


@pytest.mark.parametrize(("check", "name", "fault", "says"), faults)
def test_checks_find_what_is_planted(check, name, fault, says, tmp_path):
    found = check(tmp_path, python(house(tmp_path, {name: fault}), check))
    assert any(says in line for line in found), found


def test_every_check_was_seen_to_fail():
    assert {check for check, *_ in faults} == {*of_the_package, *of_the_repository}


@pytest.mark.parametrize("module", ["foretell", "foretell.cli"])
def test_doors_open_without_heavy_imports(module):
    if not (package / "cli.py").exists() and module == "foretell.cli":
        pytest.skip("no cli yet")
    heavy = {"torch", "av", "matplotlib", "pyarrow", "pymunk", "tensorboard"}
    heavy |= {"numpy", "tyro", "jinja2", "fsspec"} if module == "foretell" else set()
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert shown.stdout.strip() == ""
