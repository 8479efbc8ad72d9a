"""What of a machine matters to rtden, looked at one by one: each finding is ok, a warning or a failure, and says what to do."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rtden.autoencoder import Autoencoder, find_runtime
from rtden.errors import DeviceError, ModelError
from rtden.live.devices import (
    DEFAULT_NAMES,
    FALLBACK_RATES_HZ,
    Device,
    find_device,
    list_devices,
    load_portaudio,
)
from rtden.live.presets import HIGHEST_LOAD, load, time_steps
from rtden.live.pulse import Kind
from rtden.model import find_model, list_models, load_spec
from rtden.quiet import quiet_stderr
from rtden.settings import HOPS_PER_STEP

State = Literal["ok", "warn", "fail"]
RUNTIME_PACKAGES = {
    "ai_edge_litert": "ai-edge-litert",
    "tflite_runtime": "tflite-runtime",
    "tensorflow": "tensorflow",
}
BENCHMARK_SECONDS = 1.0
LITTLE_MEMORY_MB = 150
SLOW_GOVERNORS = {"powersave"}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    state: State
    found: str
    advice: str = ""
    """What to do; empty where there is nothing to do."""

    def to_dict(self) -> dict[str, str]:
        """Return all fields, for JSON."""
        return dataclasses.asdict(self)


def examine(*, with_benchmark: bool = True) -> Iterator[Finding]:
    """Yield the findings about this machine, one by one, as they are made (the benchmark, last, takes a second)."""
    looks: tuple[Callable[[], Finding | list[Finding]], ...] = (
        system,
        python,
        runtime,
        models,
        packages,
        portaudio,
        sound_server,
        default_devices,
        governor,
        realtime_limit,
        memory,
        *((benchmark,) if with_benchmark else ()),
    )
    for look in looks:
        found = look()
        yield from found if isinstance(found, list) else [found]


def system(board: Path = Path("/proc/device-tree/model")) -> Finding:
    """Return which operating system and which board this is."""
    parts = [_system_name(), platform.machine(), f"kernel {platform.release()}"]
    if board.is_file():
        parts.append(board.read_text(encoding="utf-8", errors="replace").strip("\0\n "))
    return Finding("system", "ok", ", ".join(parts))


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.version()}"


def python() -> Finding:
    """Return rtden's version and Python's."""
    return Finding(
        "Python",
        "ok",
        f"{platform.python_version()}, rtden {_version('rtden')}, {_short(sys.executable)}",
    )


def runtime() -> Finding:
    """Return which TFLite runtime is used."""
    try:
        name = find_runtime().__name__.split(".")[0]
    except ModelError as error:
        return Finding("runtime", "fail", "none", str(error))
    package = RUNTIME_PACKAGES[name]
    numpy_version = _version("numpy")
    found = f"{package} {_version(package)}, numpy {numpy_version}"
    if name == "tflite_runtime" and int(numpy_version.split(".")[0]) >= 2:
        return Finding(
            "runtime",
            "fail",
            found,
            "tflite-runtime needs an older numpy: run 'pip install \"numpy<2\"'.",
        )
    return Finding("runtime", "ok", found)


def models() -> list[Finding]:
    """Return whether each shipped model is whole and runs."""
    findings = []
    for name in list_models():
        try:
            spec = Autoencoder(find_model(name)).spec
        except ModelError as error:
            findings.append(Finding(f"model {name}", "fail", "cannot be used", str(error)))
        else:
            findings.append(
                Finding(f"model {name}", "ok", f"checksum {spec.sha256[:12]} matches, loads")
            )
    return findings or [
        Finding("models", "fail", "none", "rtden's installation is not complete: install it again.")
    ]


def packages() -> Finding:
    """Return whether the packages that read, write and resample sound are there."""
    import soundfile

    found = f"soundfile {_version('soundfile')} (libsndfile {soundfile.__libsndfile_version__})"
    if importlib.util.find_spec("soxr") is None:
        return Finding(
            "sound files",
            "warn",
            f"{found}, no soxr",
            "recordings of other rates than 22050 Hz are resampled by a shorter filter; for the steep one run 'pip install soxr'.",
        )
    return Finding("sound files", "ok", f"{found}, soxr {_version('soxr')}")


def portaudio() -> Finding:
    """Return whether PortAudio, which reaches the sound devices, is there."""
    try:
        sounddevice = load_portaudio()
    except DeviceError as error:
        return Finding("PortAudio", "fail", "missing", str(error))
    return Finding(
        "PortAudio",
        "ok",
        f"{sounddevice.get_portaudio_version()[1].split(',')[0]}, sounddevice {_version('sounddevice')}",
    )


def sound_server(runtime_folder: Path | None = None, devices: Path = Path("/dev/snd")) -> Finding:
    """Return which sound server answers, and whether ALSA's devices may be used where none does."""
    folder = runtime_folder or Path(
        os.environ.get(
            "XDG_RUNTIME_DIR", f"/run/user/{os.getuid() if hasattr(os, 'getuid') else 0}"
        )
    )
    running = [
        name
        for name, place in (("PipeWire", "pipewire-0"), ("PulseAudio's protocol", "pulse/native"))
        if (folder / place).exists()
    ]
    if running:
        return Finding("sound server", "ok", " and ".join(running))
    closed = [path for path in devices.glob("pcm*") if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        return Finding(
            "sound server",
            "warn",
            f"none, and {closed[0]} may not be opened",
            "run 'sudo usermod -aG audio $USER' and log in again.",
        )
    return Finding("sound server", "ok", "none, sound goes straight to the devices")


def default_devices() -> list[Finding]:
    """Return the default devices and the sample rates at which they open."""
    try:
        found = list_devices()
    except DeviceError:
        return []  # PortAudio has been reported
    return [default_device(kind, found) for kind in ("input", "output")]


def default_device(kind: Kind, devices: list[Device]) -> Finding:
    """Return a default device and the sample rates at which it opens."""
    name = DEFAULT_NAMES[kind]
    try:
        device = find_device(name, kind, devices)
    except DeviceError as error:
        return Finding(name, "warn", "none", str(error))
    sounddevice = load_portaudio()
    check = (
        sounddevice.check_input_settings if kind == "input" else sounddevice.check_output_settings
    )
    rates_hz, reason = [], ""
    for rate_hz in sorted({device.rate_hz, *FALLBACK_RATES_HZ}):
        try:
            with quiet_stderr():
                check(
                    device=device.index,
                    channels=min(2, device.channels(kind)),
                    dtype="float32",
                    samplerate=rate_hz,
                )
            rates_hz.append(str(rate_hz))
        except (sounddevice.PortAudioError, ValueError) as error:
            reason = str(error)
    if not rates_hz:
        return Finding(
            name,
            "fail",
            f"{device} opens at no rate ({reason})",
            "close the program that uses it, or choose another with 'rtden devices'.",
        )
    return Finding(name, "ok", f"{device}, opens at {', '.join(rates_hz)} Hz")


def governor(folder: Path = Path("/sys/devices/system/cpu")) -> Finding:
    """Return how the processor chooses its speed."""
    names = {
        path.read_text(encoding="ascii").strip()
        for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")
    }
    cores = f"{os.cpu_count()} cores"
    if not names:
        return Finding("processor", "ok", f"{cores}, no governor")
    found = f"{cores}, governor {', '.join(sorted(names))}"
    if names & SLOW_GOVERNORS:
        advice = "the processor stays slow: run 'echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor'."
        return Finding("processor", "warn", found, advice)
    return Finding("processor", "ok", found)


def realtime_limit() -> Finding:
    """Return whether a thread may ask for real-time priority."""
    if sys.platform != "linux":
        return Finding("real-time", "ok", "the system's own rules")
    import resource

    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[1]
    if limit or os.geteuid() == 0:
        return Finding(
            "real-time", "ok", "allowed" if limit <= 0 else f"allowed up to priority {limit}"
        )
    advice = "for fewer drop-outs: 'echo \"@audio - rtprio 20\" | sudo tee /etc/security/limits.d/rtden.conf', 'sudo usermod -aG audio $USER', log in again."
    return Finding("real-time", "warn", "not allowed; --realtime has no effect", advice)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Return how much memory is free."""
    try:
        lines = dict(
            line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines()
        )
        free_mb, total_mb = (
            int(lines[name].split()[0]) // 1024 for name in ("MemAvailable", "MemTotal")
        )
    except (OSError, KeyError, ValueError):
        return Finding("memory", "ok", "the system does not tell")
    found = f"{free_mb} MiB free of {total_mb} MiB"
    if free_mb < LITTLE_MEMORY_MB:
        return Finding(
            "memory",
            "warn",
            found,
            f"rtden needs up to {LITTLE_MEMORY_MB} MiB: close other programs.",
        )
    return Finding("memory", "ok", found)


def benchmark() -> Finding:
    """Return what the default model costs here."""
    try:
        times = time_steps(None, 1, seconds=BENCHMARK_SECONDS)
        spec = load_spec(find_model())
    except ModelError:
        return Finding(
            "benchmark", "fail", "not run", "the default model cannot be used, see above."
        )
    p50_ms, p99_ms = 1000.0 * np.percentile(times, (50, 99))
    real_time_factor = p50_ms / 1000.0 * spec.rate_hz / spec.hop
    found = f"{spec.name} at hops_per_step 1: {p50_ms:.2f} ms a step (p99 {p99_ms:.2f}), headroom {1.0 / real_time_factor:.1f} x"
    if real_time_factor <= HIGHEST_LOAD:
        return Finding("benchmark", "ok", found)
    slowest = load(None, HOPS_PER_STEP[-1], seconds=0.2)
    if slowest > 1.0:
        return Finding(
            "benchmark",
            "fail",
            f"{found}, {1 / slowest:.1f} x at hops_per_step 8",
            "this machine cannot denoise live; files work.",
        )
    return Finding(
        "benchmark",
        "warn",
        found,
        "use 'rtden live --preset auto', which takes more frames at a time.",
    )


def to_report(findings: list[Finding]) -> dict[str, Any]:
    """Return findings as one object, for JSON."""
    worst = next(
        (
            state
            for state in ("fail", "warn")
            if any(finding.state == state for finding in findings)
        ),
        "ok",
    )
    return {
        "rtden": _version("rtden"),
        "state": worst,
        "findings": [finding.to_dict() for finding in findings],
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(version unknown)"


def _short(path: str) -> str:
    """Return a path without the user's name: reports are pasted in public."""
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path
