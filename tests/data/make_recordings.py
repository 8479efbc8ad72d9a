"""Makes clean.flac and noisy.flac: speech by espeak-ng (apt install espeak-ng), noise computed
here.

The noise is a fan (low-pass noise with a slow swell), mains hum with harmonics, and the hiss of a
cheap microphone; 5 dB SNR.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE_HZ = 22050
SNR_DB = 5.0
SENTENCES = (
    ("en-us+m3", "This is the demonstration of a real time denoiser."),
    ("en-gb+f2", "The fan behind me should fade away, and my voice should stay."),
    ("en-us+m1", "Sixty seven paper ships sail past the fishing pier."),
)


def speak(voice: str, text: str) -> np.ndarray:
    """Return a spoken sentence at RATE_HZ, with a pause after it."""
    wav = subprocess.run(
        ["espeak-ng", "-v", voice, "-s", "150", "--stdout", text], capture_output=True, check=True
    ).stdout
    # The size in a header written to a pipe is made up; what follows its 44 bytes is 16-bit mono at
    # 22050 Hz.
    samples = np.frombuffer(wav[44:], np.int16).astype(np.float32) / 32768.0
    return np.concatenate(
        [soxr.resample(samples, 22050, RATE_HZ), np.zeros(RATE_HZ // 4, np.float32)]
    )


def shaped(rng: np.random.Generator, samples: int, slope_db_per_octave: float) -> np.ndarray:
    """Return noise of RMS 1 whose spectrum falls from 100 Hz on."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1.0 / RATE_HZ), 100.0) / 100.0)
    noise = np.fft.irfft(spectrum * 10.0 ** (slope_db_per_octave * octaves / 20.0), samples)
    return np.asarray(noise / noise.std())


def main() -> None:
    """Write both files."""
    rng = np.random.default_rng(7)
    clean = np.concatenate(
        [np.zeros(RATE_HZ // 2, np.float32), *(speak(*sentence) for sentence in SENTENCES)]
    )
    clean *= 0.07 / np.sqrt(np.mean(clean[np.abs(clean) > 0.01] ** 2))
    seconds = np.arange(len(clean)) / RATE_HZ
    fan = shaped(rng, len(clean), -4.0) * (1.0 + 0.3 * np.sin(2 * np.pi * 0.35 * seconds))
    hum = sum(np.sin(2 * np.pi * 50 * k * seconds + k) / k for k in (1, 2, 3, 5, 7))
    noise = fan + 0.25 * hum + 0.25 * shaped(rng, len(clean), 0.0)
    noise *= np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10.0 ** (-SNR_DB / 20.0)
    for name, signal in (("clean", clean), ("noisy", clean + noise)):
        soundfile.write(Path(__file__).parent / f"{name}.flac", signal, RATE_HZ, subtype="PCM_16")


if __name__ == "__main__":
    main()
