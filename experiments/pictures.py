"""The pictures of the documentation, each from a real run of the command.

    python -m experiments.pictures

Two runs on the handwritten digits: the default, and an LSTM before and after training. With chromium on the machine, the pages too.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jaxrnn import cli

DOCS = Path(__file__).parents[1] / "docs" / "pictures"


@dataclass(frozen=True)
class Settings:
    plain: tuple[str, ...] = ("diagnose",)
    trained: tuple[str, ...] = ("diagnose", "--cell", "lstm", "--hidden", "32", "--train-steps", "400")
    width: int = 1180  # of the pages, pixels
    out: Path = DOCS


def page(path, out, width, height):
    """What a browser shows of a page, as a PNG."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={profile}")
        command = ["chromium", *flags, f"--window-size={width},{height}", f"--screenshot={out}", path.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def main(settings=Settings()):
    settings.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # so that the pages name no folder of this machine
        plain, trained = Path("plain"), Path("trained")
        for command, out in ((settings.plain, plain), (settings.trained, trained)):
            if cli.main([*command, "--out", str(out)]):
                return 1
        made = [*plain.glob("*.png"), trained / "before" / "transport_blocks.png", *trained.glob("*.png")]
        for picture in made:
            shutil.copyfile(picture, settings.out / picture.name)
        if shutil.which("chromium"):
            page(plain / "report.html", settings.out / "report.png", settings.width, 1900)
            page(trained / "comparison.html", settings.out / "comparison.png", settings.width, 1900)
    return 0


if __name__ == "__main__":
    sys.exit(main())
