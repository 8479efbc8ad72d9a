"""What the commands share: options, the two consoles, errors as sentences, progress bars."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer import Option

from rtden.errors import RtdenError

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What moves the cursor, colours a terminal or turns text round; a file's name may hold it."""


def printable(text: str) -> str:
    """Return text on one line: characters of that kind become escapes, as in a literal."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class PlainConsole(Console):
    """Prints text as it is: it may be the name of a file, neither markup nor an emoji."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return printed text, or that of a cell of a table."""
        return super().render_str(printable(text), **options)


messages = PlainConsole(stderr=True)
# Through a pipe there is no width to fit: tables keep their columns whole.
screen = PlainConsole(width=None if sys.stdout is not None and sys.stdout.isatty() else 200)
INTERRUPTED = 130

MODEL = "A shipped model (see 'rtden models') or a .tflite file."
ModelOption = Annotated[str | None, Option("--model", "-m", help=MODEL)]
STRENGTH = "0 leaves the sound as it is, 1 denoises it fully."
StrengthOption = Annotated[float, Option("--strength", help=STRENGTH)]
LIMIT = "Reduce noise by at most this, in dB."
LimitOption = Annotated[float, Option("--limit-db", help=LIMIT, show_default="no limit")]
FullBandOption = Annotated[
    bool, Option("--fullband/--no-fullband", help="Keep or remove sound above the model's 11 kHz.")
]
JsonOption = Annotated[bool, Option("--json", help="Print JSON instead of text.")]
ForceOption = Annotated[bool, Option("--force", "-f", help="Overwrite existing files.")]


def silence_c_libraries() -> None:
    """Keep C libraries off standard error: what libmpg123 and the runtime write is harmless."""
    try:
        if sys.stderr.fileno() != 2:
            return
    except (AttributeError, OSError):  # it is closed, or replaced
        return
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Print an error as one sentence: exit code 2, or 130 after an interrupt."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a closed pipe and a full disk are handled
    except RtdenError as error:
        messages.print(f"rtden: {error}")
        raise typer.Exit(2) from None
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # whoever read our output is gone
            messages.print(f"rtden: {error.strerror or error}; nothing more was written.")
        with contextlib.suppress(OSError):  # Python's last flush must not fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(2) from None
    except (KeyboardInterrupt, ImportError) as error:
        # A library that is interrupted while it loads says that it cannot be loaded.
        if not isinstance(error.__cause__ or error, KeyboardInterrupt):
            raise
        messages.print("rtden: stopped; unfinished results were not written.")
        raise typer.Exit(INTERRUPTED) from None


def progress_bar(*columns: Any) -> Any:
    """Return a bar for a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = columns or (TextColumn("{task.percentage:>3.0f} %"),)
    name = TextColumn("{task.description}", markup=False)
    shown = (name, BarColumn(), *columns, TimeRemainingColumn())
    return Progress(*shown, console=messages, transient=True, disable=not messages.is_terminal)


@contextlib.contextmanager
def progress(task: str, *columns: Any) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yield a function that takes the amount done and the total."""
    with progress_bar(*columns) as bar:
        number = bar.add_task(printable(task), total=None)
        yield lambda done, total: bar.update(number, completed=done, total=total)


def in_db(level_db: float) -> str:
    """Return a level in words."""
    if math.isnan(level_db):
        return "-"
    return "silent" if level_db == -math.inf else f"{level_db + 0.0:.1f} dB"


def in_ms(value_ms: float) -> str:
    """Return a delay in words."""
    return f"{value_ms:.0f} ms" if math.isfinite(value_ms) else "-"


def in_ppm(drift_ppm: float) -> str:
    """Return the difference of two clocks in words."""
    return f"{drift_ppm:+.0f} ppm" if math.isfinite(drift_ppm) else "-"


def pauses(removed_db: float) -> str:
    """Return what denoising does to pauses in speech, in words."""
    if math.isnan(removed_db):
        return "-"
    return "unchanged" if removed_db < 0.5 else f"{removed_db:.0f} dB quieter"
