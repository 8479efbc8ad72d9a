"""Make pairs and transcripts for `rtden eval --transcripts`: spoken digits in the noises of pairs.

    python bench/digits.py --digits FSDD --pairs FOLDER --out OUT
    rtden eval --pairs OUT --transcripts OUT/transcripts.txt --limit-db 6 --limit-db 12 ...

FSDD holds DIGIT_TALKER_NUMBER.flac (or .wav), as the Free Spoken Digit Dataset has them. Each pair
of FOLDER lends its noise, which is what `noisy/` has beyond `clean/`, and its name; five digits of
one talker are mixed with it at the SNR that the name gives.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import soxr
import typer
from common import PairsOption

from rtden.files.audio_file import read_aligned
from rtden.measure.pairs import find_pairs
from rtden.measure.recognition import DIGITS
from rtden.types import Array

SPOKEN = 5
PAUSE_SECONDS, PEAK = 0.15, 0.4


def digit_string(folder: Path, rate_hz: int, rng: np.random.Generator) -> tuple[Array, list[str]]:
    """Return five digits of one talker, one behind the other, and their words."""
    names = sorted(path for path in folder.iterdir() if re.fullmatch(r"\d_[a-z]+_\d+", path.stem))
    talker = rng.choice(sorted({path.stem.split("_")[1] for path in names}))
    own = [path for path in names if path.stem.split("_")[1] == talker]
    parts, words = [], []
    for path in rng.choice(np.array(own, object), SPOKEN, replace=False):
        samples, recorded_hz = soundfile.read(path, dtype="float32")
        own_rate = soxr.resample(samples, recorded_hz, rate_hz)
        pause = np.zeros(round(PAUSE_SECONDS * rate_hz), np.float32)
        parts += [pause, own_rate * np.float32(PEAK / max(1e-6, float(np.abs(own_rate).max())))]
        words.append(DIGITS[int(path.stem[0])])
    return np.concatenate([*parts, pause]), words


def main(
    digits: Annotated[Path, typer.Option(help="Folder of spoken digits.")],
    pairs: PairsOption,
    out: Annotated[Path, typer.Option(help="New folder to write into.")],
) -> None:
    """Make pairs of digits in noise, and their transcripts."""
    rng = np.random.default_rng(0)
    for side in ("clean", "noisy"):
        (out / side).mkdir(parents=True)
    lines = []
    for clean_path, noisy_path in find_pairs(pairs):
        (clean, noisy), rate_hz = read_aligned(clean_path, noisy_path)
        speech, words = digit_string(digits, rate_hz, rng)
        noise = np.resize(noisy - clean, len(speech))
        named = re.search(r"_([+-]?\d+)dB$", noisy_path.stem)
        snr_db = float(named[1]) if named else 5.0
        powers = [float(np.mean(np.square(part, dtype=np.float64))) for part in (speech, noise)]
        gain = np.sqrt(powers[0] / max(powers[1], 1e-12)) * 10.0 ** (-snr_db / 20.0)
        mixed = speech + np.float32(gain) * noise
        scale = np.float32(min(1.0, 0.99 / float(np.abs(mixed).max())))
        soundfile.write(out / "clean" / noisy_path.name, scale * speech, rate_hz)
        soundfile.write(out / "noisy" / noisy_path.name, scale * mixed, rate_hz)
        lines.append(f"{noisy_path.stem} {' '.join(words)}\n")
    (out / "transcripts.txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
