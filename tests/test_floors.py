import ast
import sys
from pathlib import Path

import pytest

import jaxrnn

ROOT = Path(jaxrnn.__file__).parent
# design.md's table of rooms, lowest floor first: a module imports only from rows above its own, or from one named before it in its row.
FLOORS = [
    ["_tree", "_border", "_frames", "_atomic", "_archives", "_shelf", "theory", "initializers", "parametrize"],
    ["linearize", "cells"],
    ["unroll", "adapters"],
    ["parallel", "spectra", "lyapunov", "flow"],
    ["covariant", "bptt", "fixed_points"],
    ["checks", "_measure", "evidence", "tasks", "remedies"],
    ["_words", "diagnosis"],
    ["training", "store", "sweep"],
    ["comparison"],
    ["plots", "_pictures", "_arms_page", "_sweep_page", "report"],
    ["cli"],
]
RANK = {name: rank for rank, name in enumerate(name for row in FLOORS for name in row)}
FILES = sorted(ROOT.rglob("*.py"))
LIBRARY = [path for path in FILES if path.relative_to(ROOT).parts[0] != "cli"]
by_path = lambda path: str(path.relative_to(ROOT))


def room(path):
    """The room of a file: its folder, or its own name."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(nodes):
    """Dotted names that import statements bring in, ``from jaxrnn import a`` as ``jaxrnn.a``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            yield from ([f"jaxrnn.{alias.name}" for alias in node.names] if node.module == "jaxrnn" else [node.module])


@pytest.mark.parametrize("path", FILES, ids=by_path)
def test_a_module_imports_only_from_floors_below(path):
    if path == ROOT / "__init__.py":
        return
    mine = room(path)
    assert mine in RANK, f"{mine} has no room in design.md"
    for name in imports(ast.walk(ast.parse(path.read_text()))):
        if name.startswith("jaxrnn."):
            other = name.split(".")[1]
            assert other == mine or other.startswith("__") or RANK[other] < RANK[mine], f"{mine} imports {other}, which lives above it"


@pytest.mark.parametrize("path", LIBRARY, ids=by_path)
def test_the_library_imports_nothing_but_its_dependencies_at_top_level(path):
    allowed = {"jax", "numpy", "optax", "matplotlib", "jaxrnn"} | sys.stdlib_module_names
    found = {name.split(".")[0] for name in imports(ast.parse(path.read_text()).body)}
    assert found <= allowed


def test_the_package_loads_its_modules_lazily():
    body = ast.parse((ROOT / "__init__.py").read_text()).body
    assert set(imports(body)) <= {"importlib", "types"}
    assert "flow" in dir(jaxrnn)
    assert jaxrnn.flow.__name__ == "jaxrnn.flow"
    with pytest.raises(AttributeError, match="has no attribute 'flows'"):
        jaxrnn.flows  # noqa: B018


@pytest.mark.parametrize("path", LIBRARY, ids=by_path)
def test_no_module_touches_the_configuration_of_jax(path):
    text = path.read_text()
    assert "config.update" not in text
    assert "jax.config." not in text
