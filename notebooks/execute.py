"""Execute notebooks: each NN_name.py becomes its NN_name.ipynb, with outputs and without traces of the machine.

    python notebooks/execute.py            # all of them, one after another
    python notebooks/execute.py 02 05      # those that begin so

Needs the packages jupytext, nbclient and ipykernel.
"""

import base64
import io
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
TIMEOUT = 600  # seconds of one cell


def lightened(picture):
    """A PNG in base64 with at most 255 colours: a third of the size."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(255, dither=Image.Dither.NONE).save(out := io.BytesIO(), format="png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def execute(source):
    """Run a source in a fresh kernel and write its notebook."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{source.stem[:2]}-{number:02d}"  # not a random one, so that a second run makes the same file
        cell["metadata"] = {}
    client = NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(FOLDER)}})
    client.execute()
    for data in (output["data"] for cell in notebook.cells for output in cell.get("outputs", ()) if "image/png" in output.get("data", {})):
        data["image/png"] = lightened(data["image/png"])
    notebook.metadata = {name: notebook.metadata[name] for name in ("jupytext", "kernelspec")} | {"language_info": {"name": "python"}}
    nbformat.validate(notebook)
    nbformat.write(notebook, source.with_suffix(".ipynb"))


def main(wanted):
    """All sources, or those whose names begin with one of the words."""
    for source in sorted(FOLDER.glob("[0-9][0-9]_*.py")):
        if not wanted or source.name.startswith(tuple(wanted)):
            began = time.monotonic()
            execute(source)
            print(f"{source.with_suffix('.ipynb').name}: {time.monotonic() - began:.0f} s, {source.with_suffix('.ipynb').stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
