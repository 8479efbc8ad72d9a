"""What the commands share: options, the two consoles, errors as sentences, progress bars."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from rtden.errors import RtdenError

messages = Console(stderr=True, highlight=False, soft_wrap=True)
# Through a pipe there is no width to fit: tables keep their columns whole.
screen = Console(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout is not None and sys.stdout.isatty() else 200,
)
INTERRUPTED = 130
VIRTUAL_MICROPHONE = "virtual-mic"

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A shipped model (see 'rtden models') or the path of a .tflite file."
    ),
]
AdvanceOption = Annotated[
    int,
    typer.Option(
        "--hops-per-step", help="New columns per step: 1, 2, 4 or 8. More is cheaper and later."
    ),
]
StrengthOption = Annotated[
    float, typer.Option("--strength", help="0 leaves the sound as it is, 1 denoises it fully.")
]
LimitOption = Annotated[
    float,
    typer.Option(
        "--limit-db", help="Take at most this much off the noise, in dB.", show_default="no limit"
    ),
]
StereoOption = Annotated[
    bool,
    typer.Option(
        "--stereo", help="Keep two channels, at twice the work; otherwise both ears get the same."
    ),
]
FullBandOption = Annotated[
    bool,
    typer.Option(
        "--fullband/--no-fullband",
        help="Let what lies above the model's 11 kHz through, at the gain below it.",
    ),
]
SourceOption = Annotated[
    str,
    typer.Option(
        "--in",
        "-i",
        help="'mic', a device's number or a part of its name, or a recording (played at its pace).",
    ),
]
TargetOption = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        help="'speakers', a device's number or a part of its name, 'virtual-mic', or a recording to write.",
    ),
]
LiveAdvanceOption = Annotated[
    int | None,
    typer.Option(
        "--hops-per-step",
        help="New columns per step: 1, 2, 4 or 8. More is cheaper and later.",
        show_default="the preset's",
    ),
]
LatencyOption = Annotated[
    float | None,
    typer.Option(
        "--latency-ms",
        help="Total latency to aim at: chooses windows, hops_per_step and buffer.",
        show_default="the preset's",
    ),
]
BufferOption = Annotated[
    float | None,
    typer.Option(
        "--buffer-ms",
        help="Sound kept ready for the output beyond its blocks, fixed; more survives a busier machine.",
        show_default="the preset's to begin with, more after drop-outs",
    ),
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        help="What the machine carries: zero2, pi4, pi5, desktop, or auto, which tries it out for half a second.",
    ),
]
RealtimeOption = Annotated[
    bool, typer.Option("--realtime", help="Ask for real-time priority, where the system allows it.")
]
StatusOption = Annotated[
    float,
    typer.Option(
        "--status-seconds", help="Seconds between lines that say what happens; 0 for none."
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what exists.")]


def one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print an error of rtden's as the sentence that it is and leave with code 2; an interrupt leaves with code 130."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            result = command(*args, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a reader that has gone is expected, and not at the very end
            return result
        except RtdenError as error:
            messages.print(f"rtden: {error}", markup=False)
            raise typer.Exit(2) from None
        except BrokenPipeError:
            # Whoever read our output has gone; Python's own last flush must not complain about it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(2) from None
        except OSError as error:
            messages.print(
                f"rtden: {error.strerror or error}; nothing more was written.", markup=False
            )
            with contextlib.suppress(OSError):  # nor about a full disk behind standard output
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            messages.print("rtden: stopped; what was unfinished was not written.")
            raise typer.Exit(INTERRUPTED) from None

    return wrapped


def progress_bar(*columns: Any) -> Any:
    """Return a bar for a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    shown = (
        TextColumn("{task.description}"),
        BarColumn(),
        *(columns or (TextColumn("{task.percentage:>3.0f} %"),)),
        TimeRemainingColumn(),
    )
    return Progress(*shown, console=messages, transient=True, disable=not messages.is_terminal)


def show_progress(bar: Any, task: Any, done: int, total: int) -> None:
    """Move a bar's task to `done` of `total`."""
    bar.update(task, completed=done, total=total)


def in_db(level_db: float) -> str:
    """Return a level in words."""
    if math.isnan(level_db):
        return "-"
    return "silent" if level_db == -math.inf else f"{level_db + 0.0:.1f} dB"


def pauses(removed_db: float) -> str:
    """Return what denoising does to pauses in speech, in words."""
    if math.isnan(removed_db):
        return "-"
    return "unchanged" if removed_db < 0.5 else f"{removed_db:.0f} dB quieter"
