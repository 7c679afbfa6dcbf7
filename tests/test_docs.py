"""The pages of the site: what they show is run, what they name exists, what they link to is there. Needs no mkdocs; the build itself runs in CI."""

import doctest
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import cells, linearize, tasks
from jaxrnn.cli import options

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
SLOW = {"index.md", "tutorial.md", "how-to/diagnose-your-model.md", "how-to/long-runs.md", "how-to/choose-precision.md"}  # minutes of compilation
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def loaded(path):
    """A module that is no part of a package, once."""
    name = f"_loaded_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


making = loaded(DOCS / "making.py")
WRITTEN = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
PAGES = WRITTEN | dict(making.generated())
over_pages = pytest.mark.parametrize("page", PAGES)
over_written = pytest.mark.parametrize("page", WRITTEN)


def blocks(page, language):
    return [code for kind, code in FENCE.findall(PAGES[page]) if kind == language]


def prose(page):
    """A page without its blocks of code."""
    return FENCE.sub("", PAGES[page])


# What is shown is run


is_file = lambda code: code.startswith('"""')
SHOWN = [page for page in WRITTEN if any(">>>" in code and not is_file(code) for code in blocks(page, "python"))]


NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


class Near(doctest.OutputChecker):
    """Takes output whose numbers are those of the page within 0.01 or 2 %: other versions of JAX and other machines round otherwise."""

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        numbers = [[float(number.replace("−", "-")) for number in NUMBER.findall(text)] for text in (want, got)]
        alike = " ".join(NUMBER.sub("#", want).split()) == " ".join(NUMBER.sub("#", got).split())
        return alike and all(abs(a - b) <= 0.01 + 0.02 * abs(a) for a, b in zip(*numbers, strict=True))


@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.slow if page in SLOW else ()) for page in SHOWN])
@pytest.mark.exact
def test_a_page_prints_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page == "how-to/diagnose-your-model.md":
        for library in ("flax", "equinox", "haiku", "keras"):
            pytest.importorskip(library)
    runner, globs = doctest.DocTestRunner(Near(), optionflags=FLAGS), {"__name__": "__main__"}
    for i, code in enumerate(blocks(page, "python")):
        test = doctest.DocTestParser().get_doctest(code, globs, f"{page}, block {i}", page, 0)
        test.globs = globs  # one story from block to block
        runner.run(test, clear_globs=False)
    assert runner.summarize().failed == 0


def commands():
    lines = [line for page in WRITTEN for code in blocks(page, "sh") for line in code.splitlines()]
    return [line.partition("#")[0].split() for line in lines if line.startswith("jaxrnn ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_that_is_shown_is_one(words):
    tyro = pytest.importorskip("tyro")
    names = ("diagnose", "train", "compare", "compare-reports", "sweep", "inspect", "cells", "tasks")
    known = {name: getattr(options, name.title().replace("-", "")) for name in names}
    options.require(tyro.extras.subcommand_cli_from_dict(known, args=words[1:]))


def file_of(page):
    """The block of a page that is a whole file."""
    (found,) = [code for code in blocks(page, "python") if is_file(code)]
    return found


def shown_module(page, name, monkeypatch):
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(file_of(page), name, "exec"), module.__dict__)
    return module


def test_the_cell_that_is_shown_is_registered_and_halves_at_rest(monkeypatch):
    shelf = importlib.import_module("jaxrnn.cells.registry")
    monkeypatch.setattr(shelf, "REGISTRY", dict(cells.REGISTRY))
    monkeypatch.setattr(shelf, "DESCRIPTIONS", dict(cells.DESCRIPTIONS))
    made = shown_module("how-to/add-a-cell.md", "shown.twin", monkeypatch)
    assert set(shelf.REGISTRY) - set(cells.REGISTRY) == {"atr"}
    cell = made.atr(2, 4)
    params = {"W_hh": jnp.eye(4), "W_xh": jnp.ones((4, 2))}
    assert cell.step is made.atr(3, 5).step
    assert (linearize.jacobians(cell.step, params, jnp.zeros(4), None, length=1)[0] == jnp.eye(4) / 2).all()
    h, x = np.linspace(-1, 1, 4), np.array([0.3, -0.2])
    p, q, sigmoid = np.ones((4, 2)) @ x, h, lambda a: 1 / (1 + np.exp(-a))
    np.testing.assert_allclose(cell.step(params, jnp.asarray(h), jnp.asarray(x)), sigmoid(p + q) * p + sigmoid(p - q) * h, rtol=1e-14)


def test_the_task_that_is_shown_is_solved_by_its_oracle_and_not_by_its_guess(monkeypatch):
    shelf = importlib.import_module("jaxrnn.tasks.registry")
    monkeypatch.setattr(shelf, "REGISTRY", dict(tasks.REGISTRY))
    monkeypatch.setattr(shelf, "DESCRIPTIONS", dict(tasks.DESCRIPTIONS))
    task = shown_module("how-to/add-a-task.md", "shown.latching", monkeypatch).latch(20)
    assert set(shelf.REGISTRY) - set(tasks.REGISTRY) == {"latch"}
    batch = task.sample(jnp.asarray([0, 7], "uint32"), 200)
    assert task.solved(float(task.metric(task.oracle(batch), batch.targets)))
    assert not task.solved(float(task.metric(task.guess(batch), batch.targets)))


@pytest.mark.slow
def test_the_adapter_that_is_shown_passes_the_tests_that_are_shown(monkeypatch):
    made = shown_module("how-to/add-an-adapter.md", "shown.scan", monkeypatch)
    monkeypatch.setattr(jaxrnn.adapters, "scan_body", made.scan_body, raising=False)
    (code,) = [code for code in blocks("how-to/add-an-adapter.md", "python") if "def test_" in code]
    shown = {}
    exec(compile(code, "test_scan_body.py", "exec"), shown)
    tests = [function for name, function in shown.items() if name.startswith("test_")]
    assert len(tests) == 2
    for run in tests:
        run()


# What is named exists


def names_of(module):
    found = importlib.import_module(f"jaxrnn.{module}")
    defined = [name for name, value in vars(found).items() if not name.startswith("_") and getattr(value, "__module__", None) == found.__name__]
    made = [name.replace("-", "_") for name in getattr(found, "REGISTRY", {}) if module in ("cells", "tasks")]
    return {*getattr(found, "__all__", defined), *made}


def test_every_public_name_has_an_entry_in_the_reference():
    assert set(making.modules()) == set(jaxrnn.__all__)
    for module in jaxrnn.__all__:
        page = PAGES[f"reference/{module}.md"]
        entries = {line.split(".")[-1] for line in page.splitlines() if line.startswith("::: jaxrnn.")}
        assert names_of(module) <= entries, module


def test_a_name_that_a_file_bears_too_is_found_in_that_file():
    paths = {entry.name: entry.path for entry in making.entries()}
    assert paths["training.fit"] == "jaxrnn.training.fit.fit"
    assert paths["sweep.grid"] == "jaxrnn.sweep.grid.grid"
    assert paths["cells.lstm"] == "jaxrnn.cells.lstm.lstm"
    assert paths["training.monitors"] == "jaxrnn.training.monitors"


def test_every_entry_of_the_reference_is_a_name_that_can_be_imported():
    for entry in making.entries():
        value = importlib.import_module(f"jaxrnn.{entry.module}")
        for part in entry.name.split(".")[1:]:
            value = getattr(value, part)


@over_written
def test_names_in_code_exist(page):
    for span in re.findall(r"`([a-z_]+(?:\.\w+)+)(?:\([^`]*\))?`", prose(page)):
        module, *rest = span.split(".")
        if module in jaxrnn.__all__ and rest[-1] not in ("json", "html", "py"):
            value = importlib.import_module(f"jaxrnn.{module}")
            for part in rest:
                value = getattr(value, part)


@over_written
def test_files_in_code_exist(page):
    shown = {"jaxrnn/cells/twin.py", "jaxrnn/tasks/latching.py", "jaxrnn/adapters/scan.py", "tests/test_scan_body.py"}
    for span in re.findall(r"`((?:jaxrnn|tests|experiments|docs)/[\w/.-]+)`", prose(page)):
        assert span in shown or (ROOT / span).exists(), span


def test_the_catalogue_has_every_cell_with_its_theory():
    listed = {made.name: made for made in making.shelf("cells")}
    assert set(listed) == set(cells.REGISTRY)
    assert {made.name for made in making.shelf("tasks")} == set(tasks.REGISTRY)
    for name, made in listed.items():
        assert (made.equation, made.source) == tuple(cells.DESCRIPTIONS[name])
        assert made.docstring == inspect.getdoc(cells.REGISTRY[name])
    assert "| theory | — |" not in PAGES["cells.md"]


# What is linked to is there


def anchors(page):
    """The anchors of a page, headings' as mkdocs names them."""
    found, count = set(), {}
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        given = re.search(r"\{ #(\S+) \}", heading)
        slug = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading)).strip().lower()
        slug = given[1] if given else re.sub(r"[-\s]+", "-", slug)
        found.add(slug if slug not in count else f"{slug}_{count[slug]}")
        count[slug] = count.get(slug, 0) + 1
    return found


@over_pages
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = str((DOCS / page).parent.joinpath(path).resolve().relative_to(DOCS.resolve())) if path else page
        assert there in PAGES or (DOCS / there).is_file(), target
        if anchor:
            assert anchor in anchors(there), target


def test_every_page_is_in_the_navigation_and_nothing_is_fetched():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"^ +- (?:[\w ]+: )?([\w/-]+\.md)$", settings, re.MULTILINE)) == set(PAGES)
    assert "font: false" in settings
    assert "http" not in settings


# Docstrings as Markdown


def test_a_docstring_becomes_sections_lists_and_code():
    text = making.as_markdown(
        "λ_i of W_hh.\n\nArgs:\n    a, b: numbers,\n        ``x`` too.\n\nReturns:\n    (n,) ``horizon``.\n\nSource: X 1990.\n\n>>> 1 + 1\n2\n",
        "flow",
    )
    assert "λ<sub>i</sub> of W<sub>hh</sub>." in text
    assert "- `a`, `b`: numbers, `x` too." in text
    assert "**Returns**\n\n(n,) [`horizon`][jaxrnn.flow.horizon]." in text
    assert "**Source:** X 1990." in text
    assert "```pycon\n>>> 1 + 1\n2\n```" in text


def test_every_doctest_of_the_library_is_code_in_the_reference():
    for path in (ROOT / "jaxrnn").rglob("*.py"):
        for node in making.ast.walk(making.ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (making.ast.FunctionDef, making.ast.ClassDef)) and ">>>" in (making.ast.get_docstring(node) or ""):
                lines = list(making._told_apart(making.as_markdown(making.ast.get_docstring(node))))
                assert all(is_code for line, is_code in lines if line.lstrip().startswith((">>>", "... "))), node.name


def test_names_become_links_outside_blocks_of_code_only():
    page = "`flow.horizon(…)` [`flow.horizon`](a.md) `flow.nothing` h_t `h_t`\n```python\n`flow.horizon` h_t\n```"
    first, *rest = making.linked(page).split("\n")
    assert first == "[`flow.horizon(…)`][jaxrnn.flow.horizon] [`flow.horizon`](a.md) `flow.nothing` h<sub>t</sub> `h_t`"
    assert "\n".join(rest) == page.partition("\n")[2]


# Known answers


def answers():
    """(row, system, quantity) -> (reference, measured, error, tolerance) of the page, as text."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in WRITTEN["known-answers.md"].splitlines() if re.match(r"\| \d", line)]
    rows = [[part.strip().replace("\\|", "|") for part in line] for line in lines]
    return {tuple(row[:3]): tuple(row[3:7]) for row in rows}


def test_every_known_answer_of_the_page_is_within_its_tolerance():
    found = answers()
    assert {int(row) for row, _, _ in found} == set(range(1, 18))
    for name, (reference, measured, error, tolerance) in found.items():
        allowed = float(tolerance.rpartition("= ")[2])
        assert float(error) <= allowed, name
        assert reference == measured or abs(float(measured) - float(reference)) <= allowed + 1e-6 * abs(float(reference)), name


@pytest.mark.slow
def test_the_page_of_known_answers_has_the_references_and_tolerances_of_its_script():
    script = importlib.import_module("experiments.known_answers")
    page = {name: (reference, tolerance.partition(" = ")[0]) for name, (reference, _, _, tolerance) in answers().items()}
    assert {(str(a.row), a.system, a.quantity): (f"{a.reference:.7g}", a.allowed) for a in script.main(script.SMOKE)} == page
