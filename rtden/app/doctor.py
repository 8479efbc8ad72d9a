"""Checks of a machine: each finding is ok, a warning or a failure, and says what to do."""

from __future__ import annotations

import contextlib
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
    server_devices,
)
from rtden.live.libpulse import load_libpulse
from rtden.live.presets import HIGHEST_LOAD, load, time_steps
from rtden.live.pulse import Connection, Kind
from rtden.model import find_model, list_models, load_spec
from rtden.quiet import quiet_stderr
from rtden.settings import HOPS_PER_STEP

State = Literal["ok", "warn", "fail"]
BENCHMARK_SECONDS = 1.0
LITTLE_MEMORY_MB = 150
SLOW_GOVERNORS = {"powersave"}
ABILITIES = {
    **{"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx_vnni": "AVX-VNNI"},
    **{"asimd": "NEON", "neon": "NEON", "asimddp": "dot product", "i8mm": "int8 matrices"},
}
"""Linux's names of instructions, and those that people know."""
DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp")


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
    """Yield the findings about this machine; the benchmark, the last one, takes a second."""
    looks: tuple[Callable[[], Finding | list[Finding]], ...] = (
        *(system, python, runtime, models, packages, portaudio, sound_server, default_devices),
        *(processor, realtime_limit, memory),
        *((benchmark,) if with_benchmark else ()),
    )
    for look in looks:
        with quiet_stderr():  # runtimes and sound systems talk there
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
    found = f"{platform.python_version()}, rtden {_version('rtden')}, {_short(sys.executable)}"
    return Finding("Python", "ok", found)


def runtime() -> Finding:
    """Return which TFLite runtime is used."""
    try:
        name = find_runtime().__name__.split(".")[0]
    except ModelError as error:
        return Finding("runtime", "fail", "none", str(error))
    package, numpy_version = name.replace("_", "-"), _version("numpy")
    found = f"{package} {_version(package)}, numpy {numpy_version}"
    if name == "tflite_runtime" and int(numpy_version.split(".")[0]) >= 2:
        advice = "tflite-runtime needs an older numpy: run 'pip install \"numpy<2\"'."
        return Finding("runtime", "fail", found, advice)
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
            found = f"checksum {spec.sha256[:12]} matches, loads"
            findings.append(Finding(f"model {name}", "ok", found))
    advice = "rtden's installation is not complete: install it again."
    return findings or [Finding("models", "fail", "none", advice)]


def packages() -> Finding:
    """Return whether the packages that read, write and resample sound are there."""
    import soundfile

    found = f"soundfile {_version('soundfile')} (libsndfile {soundfile.__libsndfile_version__})"
    if importlib.util.find_spec("soxr") is None:
        advice = (
            "files of other rates than 22050 Hz are resampled by a shorter filter; "
            "for the steep one run 'pip install soxr'."
        )
        return Finding("sound files", "warn", f"{found}, no soxr", advice)
    return Finding("sound files", "ok", f"{found}, soxr {_version('soxr')}")


def portaudio() -> Finding:
    """Return whether PortAudio is there, which reaches sound devices where no sound server runs."""
    try:
        sounddevice = load_portaudio()
    except DeviceError as error:
        state: State = "warn" if server_devices() else "fail"
        return Finding("PortAudio", state, "missing", str(error))
    version = sounddevice.get_portaudio_version()[1].split(",")[0]
    return Finding("PortAudio", "ok", f"{version}, sounddevice {_version('sounddevice')}")


def sound_server(runtime_folder: Path | None = None, devices: Path = Path("/dev/snd")) -> Finding:
    """Return which sound server answers, and whether ALSA's devices may be used where none does."""
    name = "sound server"
    with contextlib.suppress(DeviceError), Connection() as connection:
        return Finding(name, "ok", connection.server().name)
    own = f"/run/user/{os.getuid() if hasattr(os, 'getuid') else 0}"
    folder = runtime_folder or Path(os.environ.get("XDG_RUNTIME_DIR", own))
    places = (("PipeWire", "pipewire-0"), ("PulseAudio", "pulse/native"))
    if found := [server for server, place in places if (folder / place).exists()]:
        try:
            load_libpulse()
        except DeviceError:
            advice = (
                "run 'sudo apt install libpulse0' (or 'libasound2-plugins', ALSA's own way to the "
                "server, without names of devices)."
            )
            return Finding(name, "fail", f"{found[0]} runs, and libpulse is missing", advice)
        if found == ["PipeWire"]:
            advice = "run 'sudo apt install pipewire-pulse' and log in again."
            return Finding(name, "warn", f"{found[0]} without pipewire-pulse", advice)
        return Finding(name, "warn", f"{found[0]} does not answer", "log in again.")
    closed = [path for path in devices.glob("pcm*") if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        advice = "run 'sudo usermod -aG audio $USER' and log in again."
        return Finding(name, "warn", f"none, and {closed[0]} may not be opened", advice)
    return Finding(name, "ok", "none, sound goes straight to the devices")


def default_devices() -> list[Finding]:
    """Return the default devices and the sample rates at which they open."""
    try:
        found = list_devices()
    except DeviceError:
        return []  # PortAudio has been reported
    return [default_device(kind, found) for kind in ("input", "output")]


def default_device(kind: Kind, devices: list[Device]) -> Finding:
    """Return a default device, and its rate or those at which PortAudio opens it."""
    name = DEFAULT_NAMES[kind]
    try:
        device = find_device(name, kind, devices)
    except DeviceError as error:
        return Finding(name, "warn", "none", str(error))
    if device.server:
        found = f"{device}, {device.rate_hz} Hz, {device.channels(kind)} channels"
        if not device.server.muted:
            return Finding(name, "ok", found)
        what = "source" if kind == "input" else "sink"
        advice = f"run 'pactl set-{what}-mute {device.server.name} 0'."
        return Finding(name, "warn", f"{found}, muted", advice)
    rates_hz, reason = _rates_hz(device, kind)
    if rates_hz:
        return Finding(name, "ok", f"{device}, opens at {', '.join(map(str, rates_hz))} Hz")
    advice = "close the program that uses it, or choose another with 'rtden devices'."
    return Finding(name, "fail", f"{device} opens at no rate ({reason})", advice)


def _rates_hz(device: Device, kind: Kind) -> tuple[list[int], str]:
    """Return the rates at which PortAudio opens a device, and why it does not at another."""
    sounddevice = load_portaudio()
    check = getattr(sounddevice, f"check_{kind}_settings")
    rates_hz, reason, channels = [], "", min(2, device.channels(kind))
    for rate_hz in sorted({device.rate_hz, *FALLBACK_RATES_HZ}):
        options = {"channels": channels, "dtype": "float32", "samplerate": rate_hz}
        try:
            with quiet_stderr():
                check(device=device.index, **options)
            rates_hz.append(rate_hz)
        except (sounddevice.PortAudioError, ValueError) as error:
            reason = str(error)
    return rates_hz, reason


def processor(
    folder: Path = Path("/sys/devices/system/cpu"), cpuinfo: Path = Path("/proc/cpuinfo")
) -> Finding:
    """Return what the processor can do, and how it chooses its speed."""
    found = f"{os.cpu_count()} cores{_abilities(cpuinfo)}"
    paths = folder.glob("cpu[0-9]*/cpufreq/scaling_governor")
    names = {path.read_text(encoding="ascii").strip() for path in paths}
    found += f", governor {', '.join(sorted(names))}" if names else ", no governor"
    if not names & SLOW_GOVERNORS:
        return Finding("processor", "ok", found)
    advice = (
        "the processor stays slow: run 'echo ondemand | sudo tee "
        "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor'."
    )
    return Finding("processor", "warn", found, advice)


def _abilities(cpuinfo: Path) -> str:
    """Return the processor's instructions for int8 networks, by Linux's list."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    listed = [line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))]
    words = set(listed[0].split()) if listed else set()
    has = [title for flag, title in ABILITIES.items() if flag in words]
    if not words & set(DOT_PRODUCTS):
        has.append("no int8 dot product (int8 networks gain little)")
    return f", {', '.join(has)}" if words else ""


def realtime_limit() -> Finding:
    """Return whether a thread may ask for real-time priority."""
    if sys.platform != "linux":
        return Finding("real-time", "ok", "the system's own rules")
    import resource

    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[1]
    if limit or os.geteuid() == 0:
        up_to = "" if limit <= 0 else f" up to priority {limit}"
        return Finding("real-time", "ok", f"allowed{up_to}")
    advice = (
        'for fewer drop-outs: \'echo "@audio - rtprio 20" | sudo tee '
        "/etc/security/limits.d/rtden.conf', 'sudo usermod -aG audio $USER', log in again."
    )
    return Finding("real-time", "warn", "not allowed; --realtime has no effect", advice)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Return how much memory is free."""
    try:
        text = meminfo.read_text(encoding="ascii")
        lines = dict(line.split(":", 1) for line in text.splitlines())
        free_mb, total_mb = (int(lines[n].split()[0]) // 1024 for n in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        return Finding("memory", "ok", "the system does not tell")
    found = f"{free_mb} MiB free of {total_mb} MiB"
    if free_mb < LITTLE_MEMORY_MB:
        advice = f"rtden needs up to {LITTLE_MEMORY_MB} MiB: close other programs."
        return Finding("memory", "warn", found, advice)
    return Finding("memory", "ok", found)


def benchmark() -> Finding:
    """Return what the default model costs here."""
    try:
        times = time_steps(None, 1, seconds=BENCHMARK_SECONDS)
        spec = load_spec(find_model())
    except ModelError:
        return Finding("benchmark", "fail", "not run", "the default model cannot be used.")
    p50_ms, p99_ms = 1000.0 * np.percentile(times, (50, 99))
    real_time_factor = p50_ms / 1000.0 * spec.rate_hz / spec.hop
    found = (
        f"{spec.name} at one hop per step: {p50_ms:.2f} ms a step (p99 {p99_ms:.2f}), "
        f"headroom {1.0 / real_time_factor:.1f} x"
    )
    if real_time_factor <= HIGHEST_LOAD:
        return Finding("benchmark", "ok", found)
    slowest = load(None, HOPS_PER_STEP[-1], seconds=0.2)
    if slowest > 1.0:
        found += f", {1 / slowest:.1f} x at {HOPS_PER_STEP[-1]}"
        return Finding("benchmark", "fail", found, "no live sound on this machine; files work.")
    advice = "use 'rtden live --preset auto', which takes more hops per step."
    return Finding("benchmark", "warn", found, advice)


def to_report(findings: list[Finding]) -> dict[str, Any]:
    """Return findings as one object, for JSON."""
    states = {finding.state for finding in findings}
    worst = next((state for state in ("fail", "warn") if state in states), "ok")
    found = [finding.to_dict() for finding in findings]
    return {"rtden": _version("rtden"), "state": worst, "findings": found}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(version unknown)"


def _short(path: str) -> str:
    """Return a path without the user's name: reports are pasted in public."""
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + os.sep) else path
