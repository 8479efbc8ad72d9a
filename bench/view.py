"""A picture of the live view, of a real live stream between two files.

python bench/view.py RECORDING [--out live-view.svg] [--seconds 10] [--width 100] [--height 30]
"""

from __future__ import annotations

import io
import re
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from common import one_sentence
from rich.console import Console

from rtden import open_live
from rtden.app.view import DRAW_SECONDS, LiveView

# Rich's picture names its own page, and loads a font from the network.
FROM_THE_NETWORK = re.compile(r"@font-face \{.*?\}|<!--.*?-->|Fira Code, ", re.DOTALL)


def main(
    recording: Annotated[Path, typer.Argument(help="What the microphone hears.")],
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("live-view.svg"),
    seconds: Annotated[float, typer.Option(help="Into the recording.")] = 10.0,
    width: Annotated[int, typer.Option(help="Columns of the terminal.")] = 100,
    height: Annotated[int, typer.Option(help="Rows of the terminal.")] = 30,
) -> None:
    """Run a live stream and draw what the view shows at the end."""
    with (
        one_sentence("view"),
        tempfile.TemporaryDirectory() as folder,
        open_live(recording, Path(folder, "heard.wav")) as engine,
    ):
        view = LiveView(engine, f"{recording.name} to heard.wav")
        ends_at = time.monotonic() + seconds
        while engine.running and time.monotonic() < ends_at:
            time.sleep(DRAW_SECONDS)
            view.look()
    console = Console(
        record=True,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        width=width,
        height=height,
    )
    console.print(view, end="")
    picture = FROM_THE_NETWORK.sub("", console.export_svg(title="rtden live"))
    out.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
