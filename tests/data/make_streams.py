"""Writes streams.json and streams.npz: what the signal path returns for fixed inputs.

python tests/data/make_streams.py        (after a change that is meant to change samples)

On the same kind of machine the output has to stay the same to the bit; a hash shows it. Elsewhere
transforms and kernels round differently, and an excerpt is compared.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtden import Denoiser, Settings, StreamDenoiser
from rtden.model import find_model

DATA = Path(__file__).parent
EXCERPT = slice(30000, 30800)
SETTINGS: dict[str, tuple[dict[str, Any], int]] = {
    "plain": ({}, 1),
    "hops4": ({"hops_per_step": 4}, 1),
    "overlap149": ({"overlap_samples": 149}, 1),
    "strength": ({"strength": 0.6, "limit_db": 12.0}, 1),
    "random": ({"phase": "random", "iterations": 2, "frames": 3}, 1),
    "batch": ({"hops_per_step": 2, "overlap_samples": 149, "strength": 0.8}, 7),
}
NAMES = [
    *(f"{model}-{case}" for model in ("seed", "float_four_channels") for case in SETTINGS),
    *(f"int8_short_hop-{case}" for case in ("plain", "hops4", "strength")),
    *(f"int8_carried-{case}" for case in ("plain", "overlap149", "random", "batch")),
    *(f"int8_two_channels-{case}" for case in ("hops4", "overlap149")),
    *(f"int8_carried-stream48-{kind}" for kind in ("low-1", "soxr-9")),
    *(f"float_four_channels-stream48-{kind}" for kind in ("low-9", "soxr-1")),
]


def machine() -> str:
    """Return what the bits of a stream may depend on."""
    packages = ("numpy", "ai-edge-litert", "soxr")
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    core = np._core if hasattr(np, "_core") else np.core
    features = core._multiarray_umath.__cpu_features__
    vectors = [name for name in ("AVX2", "FMA3", "AVX512F", "AVX512_ICL") if features.get(name)]
    return ", ".join([*versions, platform.machine(), *vectors])


def signal() -> np.ndarray:
    """Return noisy speech at 22050 Hz, with digital silence and with a pause below -80 dB."""
    noisy = soundfile.read(DATA / "noisy.flac", dtype="float32")[0]
    hush = np.random.default_rng(7).uniform(-1, 1, 30000) * 10 ** (-85 / 20)
    parts = [noisy[:40000], np.zeros(33000), noisy[40000:60000], hush, noisy[60000:80000]]
    return np.concatenate([*parts, np.zeros(9000), noisy[80000:90000]], dtype=np.float32)


def stereo48() -> np.ndarray:
    """Return four seconds of it at 48 kHz, two channels, with some noise beside."""
    rng, samples = np.random.default_rng(8), signal()
    at = np.arange(4 * 48000) / 48000 * 22050
    left = np.interp(at, np.arange(len(samples)), samples)
    right = 0.5 * np.interp(at + 9000, np.arange(len(samples)), samples)
    noise = 0.003 * rng.standard_normal((len(at), 2)) * (np.abs(left) > 0)[:, None]
    stereo: np.ndarray = np.stack([left, right], 1) + noise
    return stereo.astype(np.float32)


def chunks(stream: Denoiser | StreamDenoiser, samples: np.ndarray, size: int) -> np.ndarray:
    """Return what a stream makes of samples that it is fed in chunks."""
    parts = [stream.feed(samples[at : at + size]) for at in range(0, len(samples), size)]
    return np.concatenate([*parts, stream.flush()])


def model_path(name: str) -> Path:
    """Return the path of a model of the tests, or of a shipped one."""
    own = DATA / "models" / f"{name}.tflite"
    return own if own.is_file() else find_model(name)


def run(name: str) -> np.ndarray:
    """Return the output of a case."""
    model, case = name.split("-", 1)
    path = model_path(model)
    if case in SETTINGS:
        changes, steps = SETTINGS[case]
        denoiser = Denoiser(path, Settings(**changes), batch_steps=steps)
        return chunks(denoiser, signal(), 3001)
    _, kind, number = case.split("-")
    single = number == "1"
    options: dict[str, Any] = (
        {"overlap_samples": 149} if single else {"limit_db": 20.0, "strength": 0.9}
    )
    stream = StreamDenoiser(
        path,
        Settings(**options),
        rate_hz=48000,
        channels=2,
        low_delay=kind == "low",
        batch_steps=int(number),
    )
    return chunks(stream, stereo48(), 4800)


def outputs() -> Iterator[tuple[str, np.ndarray]]:
    """Return the name and the output of every case."""
    for name in NAMES:
        yield name, run(name)


def digest(out: np.ndarray) -> str:
    """Return a hash of an output's bits."""
    return hashlib.sha256(np.ascontiguousarray(out).tobytes()).hexdigest()[:16]


def main() -> None:
    """Compute all."""
    results = dict(outputs())
    hashes = {name: digest(out) for name, out in results.items()}
    content = {"machine": machine(), "hashes": hashes}
    (DATA / "streams.json").write_text(json.dumps(content, indent=1) + "\n")
    excerpts: dict[str, Any] = {name: out[EXCERPT] for name, out in results.items()}
    np.savez_compressed(DATA / "streams.npz", **excerpts)


if __name__ == "__main__":
    main()
