"""Checks of a machine: each finding is ok, a warning or a failure, and says what to do."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from rtden.autoencoder import Autoencoder
from rtden.errors import DeviceError, ModelError
from rtden.interpreter import find_runtime
from rtden.live.device import Device, Kind
from rtden.live.devices import (
    DEFAULT_NAMES,
    find_device,
    list_devices,
    load_portaudio,
    server_devices,
)
from rtden.live.libpulse import load_libpulse
from rtden.live.plan import load, self_test
from rtden.live.pulse import Connection
from rtden.model import find_model, list_models
from rtden.quiet import quiet_stderr

BENCHMARK_SECONDS = 1.0
LITTLE_MEMORY_MB = 150
# Flags in /proc/cpuinfo that matter for int8 networks, and their usual names.
X86 = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx_vnni": "AVX-VNNI"}
ARM = {"asimd": "NEON", "neon": "NEON", "asimddp": "dot product", "i8mm": "int8 matrices"}
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}


class Finding(NamedTuple):
    """One line of the report."""

    name: str
    found: str
    advice: str = ""  # what to do, if anything
    fails: bool = False

    @property
    def state(self) -> str:
        """Return ok, warn or fail."""
        return "fail" if self.fails else "warn" if self.advice else "ok"


def examine() -> Iterator[Finding]:
    """Yield the findings about this machine; the benchmark, the last one, takes a second."""
    looks = (system, python, runtime, models, packages, portaudio, sound_server, default_devices)
    for look in (*looks, processor, realtime_limit, memory, benchmark):
        with quiet_stderr():  # runtimes and sound systems write there
            found = look()
        yield from [found] if isinstance(found, Finding) else found


def system(board: Path = Path("/proc/device-tree/model")) -> Finding:
    """Return which operating system and which board this is."""
    name = f"{platform.system()} {platform.version()}"
    with contextlib.suppress(OSError, KeyError):
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    parts = [name, platform.machine(), f"kernel {platform.release()}"]
    if board.is_file():
        parts.append(board.read_text(encoding="utf-8", errors="replace").strip("\0\n "))
    return Finding("system", ", ".join(parts))


def python() -> Finding:
    """Return rtden's version and Python's."""
    # Without the user's name: reports are pasted in public.
    path = sys.executable.replace(os.path.expanduser("~") + os.sep, f"~{os.sep}")
    return Finding("Python", f"{platform.python_version()}, rtden {_version('rtden')}, {path}")


def runtime() -> Finding:
    """Return which TFLite runtime is used."""
    try:
        name = find_runtime().__name__.split(".")[0]
    except ModelError as error:
        return Finding("runtime", "none", str(error), fails=True)
    package, numpy_version = name.replace("_", "-"), _version("numpy")
    found = f"{package} {_version(package)}, numpy {numpy_version}"
    fails = name == "tflite_runtime" and int(numpy_version.split(".")[0]) >= 2
    advice = "tflite-runtime needs an older numpy: run 'pip install \"numpy<2\"'."
    return Finding("runtime", found, advice if fails else "", fails)


def models() -> list[Finding]:
    """Return whether each shipped model is whole and runs."""
    findings = []
    for name in list_models():
        try:
            checksum = Autoencoder(find_model(name)).spec.sha256[:12]
            findings.append(Finding(f"model {name}", f"checksum {checksum} matches, loads"))
        except ModelError as error:
            findings.append(Finding(f"model {name}", "cannot be used", str(error), fails=True))
    advice = "rtden's installation is not complete: install it again."
    return findings or [Finding("models", "none", advice, fails=True)]


def packages() -> Finding:
    """Return whether the packages that read, write and resample sound are there."""
    import soundfile

    found = f"soundfile {_version('soundfile')} (libsndfile {soundfile.__libsndfile_version__}), "
    if importlib.util.find_spec("soxr") is not None:
        return Finding("sound files", f"{found}soxr {_version('soxr')}")
    advice = "a shorter filter resamples files; for the steep one run 'pip install soxr'."
    return Finding("sound files", f"{found}no soxr", advice)


def portaudio() -> Finding:
    """Return whether PortAudio is there, which reaches sound devices where no sound server runs."""
    try:
        there = server_devices()
    except DeviceError as error:  # PortAudio would hang with the server
        return Finding("PortAudio", "not asked", str(error), fails=True)
    try:
        version = load_portaudio().get_portaudio_version()[1].split(",")[0]
    except DeviceError as error:
        return Finding("PortAudio", "missing", str(error), fails=not there)
    return Finding("PortAudio", f"{version}, sounddevice {_version('sounddevice')}")


def sound_server(runtime_folder: Path | None = None, devices: Path = Path("/dev/snd")) -> Finding:
    """Return which sound server answers; without one, whether ALSA's devices may be opened."""
    name = "sound server"
    with contextlib.suppress(DeviceError), Connection() as connection:
        return Finding(name, connection.server().name)
    own = f"/run/user/{os.getuid() if hasattr(os, 'getuid') else 0}"
    folder = runtime_folder or Path(os.environ.get("XDG_RUNTIME_DIR", own))
    places = {"PipeWire": "pipewire-0", "PulseAudio": "pulse/native"}
    if found := [server for server, place in places.items() if os.path.exists(folder / place)]:
        try:
            load_libpulse()
        except DeviceError:
            advice = "run 'sudo apt install libpulse0' (or 'libasound2-plugins', without names)."
            return Finding(name, f"{found[0]} runs, and libpulse is missing", advice, fails=True)
        if found == ["PipeWire"]:
            advice = "run 'sudo apt install pipewire-pulse' and log in again."
            return Finding(name, "PipeWire without pipewire-pulse", advice)
        return Finding(name, f"{found[0]} does not answer", "log in again.")
    closed = [path for path in devices.glob("pcm*") if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        advice = "run 'sudo usermod -aG audio $USER' and log in again."
        return Finding(name, f"none, and {closed[0]} may not be opened", advice)
    return Finding(name, "none, sound goes straight to the devices")


def default_devices() -> list[Finding]:
    """Return the default devices, and whether one is muted or, without a server, cannot open."""
    try:
        found = list_devices()
    except DeviceError:
        return []  # PortAudio has been reported
    return [_default_device(kind, found) for kind in ("input", "output")]


def _default_device(kind: Kind, devices: list[Device]) -> Finding:
    name = DEFAULT_NAMES[kind]
    try:
        device = find_device(name, kind, devices)
    except DeviceError as error:
        return Finding(name, "none", str(error))
    channels, rate_hz = device.channels, device.rate_hz
    found = f"{device}, {rate_hz} Hz, {channels} channels"
    if device.monitor_of in {one.stable_name for one in devices if one.is_default} - {""}:
        advice = "connect a microphone; rtden does not record the output that it plays to."
        return Finding(name, f"none, only {device}", advice)
    if device.stable_name and device.muted:
        what = "source" if kind == "input" else "sink"
        advice = f"run 'pactl set-{what}-mute {device.stable_name} 0'."
        return Finding(name, f"{found}, muted", advice)
    if not device.stable_name:
        sounddevice = load_portaudio()
        check = getattr(sounddevice, f"check_{kind}_settings")
        try:
            check(device.index, min(2, channels), "float32", samplerate=rate_hz)
        except (sounddevice.PortAudioError, ValueError) as error:
            advice = "close the program that uses it, or choose another with 'rtden devices'."
            return Finding(name, f"{device} cannot be opened ({error})", advice, fails=True)
    return Finding(name, found)


def processor(
    folder: Path = Path("/sys/devices/system/cpu"), cpuinfo: Path = Path("/proc/cpuinfo")
) -> Finding:
    """Return the processor's instructions for int8 networks, and how it chooses its speed."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    listed = re.search(r"^(?:flags|Features)\s*:(.*)", text, re.MULTILINE)
    words = set(listed[1].split()) if listed else DOT_PRODUCTS
    parts = [title for flag, title in (X86 | ARM).items() if listed and flag in words]
    if not words & DOT_PRODUCTS:
        parts.append("no int8 dot product (int8 networks gain little)")
    paths = folder.glob("cpu[0-9]*/cpufreq/scaling_governor")
    governors = {path.read_text(encoding="ascii").strip() for path in paths}
    parts.append(f"governor {', '.join(sorted(governors))}" if governors else "no governor")
    where = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    advice = f"the processor stays slow: run 'echo ondemand | sudo tee {where}'."
    found = ", ".join([f"{os.cpu_count()} cores", *parts])
    return Finding("processor", found, advice if "powersave" in governors else "")


def realtime_limit() -> Finding:
    """Return whether a thread may ask for real-time priority."""
    if sys.platform != "linux":
        return Finding("real-time", "the system's own rules")
    import resource

    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[1]
    if limit or os.geteuid() == 0:
        return Finding("real-time", f"allowed{f' up to priority {limit}' if limit > 0 else ''}")
    allow = "echo '@audio - rtprio 20' | sudo tee /etc/security/limits.d/rtden.conf"
    advice = f'for fewer drop-outs: "{allow}", "sudo usermod -aG audio $USER", log in again.'
    return Finding("real-time", "not allowed; --realtime has no effect", advice)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Return how much memory is free."""
    text = meminfo.read_text(encoding="ascii") if meminfo.exists() else ""
    lines = [re.search(rf"^{name}: *(\d+)", text, re.M) for name in ("MemAvailable", "MemTotal")]
    if not all(lines):
        return Finding("memory", "unknown")
    free_mb, total_mb = (int(match[1]) // 1024 for match in lines if match)
    advice = f"rtden needs up to {LITTLE_MEMORY_MB} MiB: close other programs."
    found = f"{free_mb} MiB free of {total_mb} MiB"
    return Finding("memory", found, advice if free_mb < LITTLE_MEMORY_MB else "")


def benchmark() -> Finding:
    """Return what the default model costs here, and which preset fits."""
    try:
        hops_per_step = self_test(seconds=BENCHMARK_SECONDS / 2).hops_per_step
        of_a_core = load(None, hops_per_step, seconds=BENCHMARK_SECONDS / 2)
    except ModelError:
        advice = "the default model cannot be used."
        return Finding("benchmark", "not run", advice, fails=True)
    found = f"denoising takes {100.0 * of_a_core:.1f} % of a core, headroom {1.0 / of_a_core:.1f} x"
    found += f" (hops per step: {hops_per_step})"
    advice = "" if hops_per_step == 1 else "use 'rtden live --preset auto'."
    if of_a_core > 1.0:
        advice = "this machine is too slow for live sound; files work."
    return Finding("benchmark", found, advice)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(version unknown)"
