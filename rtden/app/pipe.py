"""Denoise between two programs."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from typing import Annotated

from typer import Option

from rtden.app.options import (
    FullBandOption,
    LimitOption,
    ModelOption,
    StrengthOption,
    load_quietly,
    one_sentence,
)


@one_sentence
def pipe(
    rate: Annotated[
        int | None, Option("--rate", help="Sample rate in Hz.", show_default="the WAV's")
    ] = None,
    channels: Annotated[int, Option("--channels", help="Channels, interleaved.")] = 1,
    raw_format: Annotated[
        str, Option("--format", help="s16le, s32le, f32le, or wav, whose header says the rest.")
    ] = "s16le",
    model: ModelOption = None,
    strength: StrengthOption = 1.0,
    limit_db: LimitOption = math.inf,
    full_band: FullBandOption = True,
) -> None:
    """Denoise standard input to standard output, 30 ms late.

    For instance: arecord -f S16_LE -r 16000 | rtden pipe --rate 16000 | aplay -f S16_LE -r 16000.
    Each block is written at once. The output is as long as the input, and aligned with it.
    """
    from rtden.errors import AudioFileError, SettingsError
    from rtden.files.pipe import Pcm, denoise_pipe
    from rtden.settings import Settings

    if raw_format != "wav" and rate is None:
        raise SettingsError("give the --rate of the PCM in Hz, or --format wav.")
    for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
        if stream is None or stream.closed or stream.isatty():
            raise AudioFileError(
                f"standard {name} is a terminal or closed; use it between two programs: "
                "arecord -f S16_LE -r 16000 | rtden pipe --rate 16000 | aplay -f S16_LE -r 16000"
            )
    load_quietly(model)
    pcm = None if raw_format == "wav" or rate is None else Pcm(rate, channels, raw_format)
    settings = Settings(strength=strength, limit_db=limit_db)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        denoise_pipe(
            sys.stdin.fileno(),
            sys.stdout.fileno(),
            pcm,
            model=model,
            settings=settings,
            full_band=full_band,
        )
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
