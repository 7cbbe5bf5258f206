"""The one-way street of imports, the torch-free runtime and lazy loading."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lldiffusion
from lldiffusion.cli import VERBS

PACKAGE = Path(lldiffusion.__file__).parent

# A group may import its own rank and lower ones.
RANKS = {
    **dict.fromkeys(("errors", "versions", "atomic", "tables", "config", "schedule", "lock", "interrupts"), 0),
    **dict.fromkeys(
        ("photometry", "progress", "hashing", "documents", "bounds", "limits", "network_size", "buffers"), 0
    ),
    **dict.fromkeys(("network_config", "training_config"), 0),
    **dict.fromkeys(("images", "bundle"), 1),
    "engines": 2,
    "video": 3,
    **dict.fromkeys(("model", "diffusion", "data", "training", "evaluation"), 4),
    "export": 5,
    **dict.fromkeys(("bench", "scale"), 6),
    **dict.fromkeys(("cli", "demo", "__main__"), 7),
}
# The one engine that is PyTorch: it imports the model when it is opened.
EAGER_BACKEND = "lldiffusion.engines.backends.torch_eager"
# Doors to a room on the right, opened when they are called: `Enhancer.stream` is video, for people who have no files.
DOORS = {("lldiffusion.engines.enhancer", "lldiffusion.video.stream.stream")}
HEAVY = ("torch", "scipy", "skimage", "torchmetrics", "diffusers", "accelerate", "tensorboard")


def sources() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = ("lldiffusion", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path, when_loaded: bool = False) -> Iterator[str]:
    """Absolute dotted names of everything a file imports, wherever the import stands, or only those of its loading."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    tree = parsed(path)
    for node in run_when_loaded(tree) if when_loaded else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def run_when_loaded(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `node` that Python runs while it loads the module: no function bodies, nothing for mypy only."""
    for child in ast.iter_child_nodes(node):
        mypy_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not mypy_only:
            yield child
            yield from run_when_loaded(child)


def loaded_by(path: Path, modules: set[str]) -> set[str]:
    """The modules of ours that loading a file loads, and the packages around those unless it is in them itself."""
    own, found = module_name(path), set()
    for name in imports_of(path, when_loaded=True):
        target = name if name in modules else name.rpartition(".")[0]
        found.add(target)
        while target := target.rpartition(".")[0]:
            if not own.startswith(f"{target}."):
                found.add(target)
    return found & modules - {own}


def group_of(name: str) -> str | None:
    """The group of RANKS that a dotted name of ours belongs to; None for the package's own face."""
    parts = name.split(".")
    if parts[0] != "lldiffusion" or len(parts) == 1 or parts[1] in ("__version__", "__init__"):
        return None
    home = lldiffusion._HOMES.get(parts[1], name)  # `from lldiffusion import train` means lldiffusion.training
    return home.split(".")[1]


def test_every_module_has_a_place_in_the_street() -> None:
    groups = {group_of(module_name(path)) for path in sources()} - {None}
    assert groups <= set(RANKS), f"give these a rank: {groups - set(RANKS)}"


def test_imports_point_one_way() -> None:
    wrong = []
    for path in sources():
        own = group_of(module_name(path))
        if own is None or module_name(path) == EAGER_BACKEND:
            continue
        for name in imports_of(path):
            other = group_of(name)
            if other is not None and RANKS[other] > RANKS[own] and (module_name(path), name) not in DOORS:
                wrong.append(f"{module_name(path)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_import_goes_round_in_a_circle() -> None:
    modules = {module_name(path) for path in sources()}
    try:
        list(TopologicalSorter({module_name(path): loaded_by(path, modules) for path in sources()}).static_order())
    except CycleError as circle:
        pytest.fail(" <- ".join(circle.args[1]))


def test_the_package_never_imports_the_programs_behind_published_numbers() -> None:
    wrong = [str(path) for path in sources() for name in imports_of(path) if name.split(".")[0] == "benchmarks"]
    assert not wrong


def test_torch_is_named_only_on_the_torch_side() -> None:
    wrong = []
    for path in sources():
        group = group_of(module_name(path))
        torch_free = group is not None and RANKS[group] < RANKS["model"] and module_name(path) != EAGER_BACKEND
        wrong += [str(path) for name in imports_of(path) if torch_free and name.split(".")[0] == "torch"]
    assert not wrong


def in_new_process(code: str) -> str:
    """Standard output of `code` in a fresh interpreter; its error output is shown on failure."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runtime_imports_without_torch() -> None:
    runtime = [
        name
        for name in (module_name(path) for path in sources())
        if (group := group_of(name)) is not None and RANKS[group] < RANKS["model"] and name != EAGER_BACKEND
    ]
    assert {"lldiffusion.engines", "lldiffusion.video"} <= set(runtime)
    code = f"""
import importlib, sys
sys.modules["torch"] = None  # `import torch` now raises ImportError
for name in {runtime!r}:
    importlib.import_module(name)
from lldiffusion import Enhancer, load_config
load_config("tiny")
"""
    in_new_process(code)


def loaded_after(code: str) -> set[str]:
    """Top-level packages in sys.modules after `code`."""
    out = in_new_process(f"import sys\n{code}\nprint('MODULES', *sys.modules)")
    return {name.split(".")[0] for name in out.rpartition("MODULES")[2].split()}


def test_importing_the_package_loads_and_prints_nothing() -> None:
    assert in_new_process("import lldiffusion") == ""
    assert not loaded_after("import lldiffusion") & {"numpy", "pyvips", "rich", "typer", *HEAVY}


def test_help_needs_no_heavy_package() -> None:
    start = time.perf_counter()
    loaded = loaded_after("from lldiffusion.cli import run; run(['--help'])")
    print(f"lldiff --help in a new process: {time.perf_counter() - start:.2f} s")
    assert not loaded & {"numpy", "pyvips", *HEAVY}


@pytest.fixture(scope="module")
def heavy() -> dict[str, list[str]]:
    """Verb -> heavy packages that are loaded after its help, asked one verb after another in one new process."""
    code = f"""
import json, sys
from lldiffusion.cli import run
found = {{}}
for verb in {[*VERBS]!r}:
    run([verb, "--help"])
    found[verb] = sorted({{name.split(".")[0] for name in sys.modules}} & {set(HEAVY)!r})
print("FOUND" + json.dumps(found))
"""
    found: dict[str, list[str]] = json.loads(in_new_process(code).rpartition("FOUND")[2])
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_needs_no_heavy_package(verb: str, heavy: dict[str, list[str]]) -> None:
    assert heavy[verb] == []


def test_public_names_load_and_shadow_no_submodule() -> None:
    submodules = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
    for name in lldiffusion.__all__:
        assert getattr(lldiffusion, name) is not None
        assert name not in submodules
    assert set(lldiffusion.__all__) <= set(dir(lldiffusion))


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="public names"):
        _ = lldiffusion.nonsense
