"""The notebooks are executed, say the same in both of their files, and run without a warning."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
BYTES = 400 * 1024
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|usr|var|opt|work|private|Users|mnt)/|[A-Z]:\\\\|site-packages")


def written_cells(source):
    """(kind, text) of the cells of a file in the percent format."""
    body = source.read_text(encoding="utf-8").partition("\n# %%")[2]
    cells = []
    for part in re.split(r"^# %%", "# %%" + body, flags=re.MULTILINE)[1:]:
        head, _, text = part.partition("\n")
        assert head.strip() in ("", "[markdown]"), f"unknown kind of cell: {head}"
        if head.strip():
            lines = text.strip("\n").split("\n")
            assert all(line == "#" or line.startswith("# ") for line in lines), "a line of Markdown that is no comment"
            text = "\n".join(line[2:] for line in lines)
        cells.append(("markdown" if head.strip() else "code", text.strip("\n")))
    return cells


def executed(source):
    return json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_six_notebooks_each_in_two_files():
    assert len(SOURCES) == 6
    assert sorted((ROOT / "notebooks").glob("*.ipynb")) == [source.with_suffix(".ipynb") for source in SOURCES]


@each_notebook
def test_a_notebook_has_the_cells_of_its_source(source):
    kept = [(cell["cell_type"], "".join(cell["source"]).strip("\n")) for cell in executed(source)["cells"]]
    assert kept == written_cells(source)


@each_notebook
def test_every_cell_was_executed_in_order_and_showed_something_and_no_error(source):
    cells = code_cells(executed(source))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells[1:]:  # the first one imports
        assert cell["outputs"], "".join(cell["source"])
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert all(output["name"] == "stdout" for output in outputs if output["output_type"] == "stream")
    assert any("image/png" in output.get("data", {}) for output in outputs)


@each_notebook
def test_a_notebook_holds_nothing_of_the_machine_that_ran_it(source):
    notebook = executed(source)
    assert set(notebook["metadata"]) == {"jupytext", "kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert all(not cell["metadata"] for cell in notebook["cells"])
    texts = ["".join(cell["source"]) for cell in notebook["cells"]]
    for output in (output for cell in code_cells(notebook) for output in cell["outputs"]):
        texts += ["".join(output.get("text", "")), *("".join(data) for kind, data in output.get("data", {}).items() if kind.startswith("text/"))]
    assert not [found.group() for text in texts for found in MACHINE_PATH.finditer(text)]


@each_notebook
def test_a_notebook_is_light(source):
    assert source.with_suffix(".ipynb").stat().st_size <= BYTES


@pytest.mark.slow
@pytest.mark.timeout(900)
@each_notebook
def test_a_source_runs_without_warnings_and_what_it_asserts_holds(source, tmp_path):
    settings = os.environ | {"MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-W", "error", source], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=850)
    assert run.returncode == 0, run.stderr[-4000:]
    assert not list(tmp_path.iterdir())
