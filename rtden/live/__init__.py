"""Live sound: a source, a sink, and the engine between them."""

from __future__ import annotations

import importlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtden.errors import AudioFileError, DeviceError, SettingsError

if TYPE_CHECKING:
    from rtden.live.endpoint import Endpoint
    from rtden.live.engine import LiveEngine
    from rtden.live.status import LatencyParts, LiveStatus, SampleCounts
    from rtden.model import Model
    from rtden.settings import Settings

__all__ = ["LatencyParts", "LiveEngine", "LiveStatus", "SampleCounts", "open_live"]

VIRTUAL_MICROPHONE = "virtual-mic"


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the command line starts without numpy."""
    if name not in __all__:
        raise AttributeError(f"module 'rtden.live' has no attribute '{name}'")
    module = "engine" if name == "LiveEngine" else "status"
    value = globals()[name] = getattr(importlib.import_module(f"rtden.live.{module}"), name)
    return value


def open_live(
    input: str | int | os.PathLike[str] | None = None,
    output: str | int | os.PathLike[str] | None = None,
    *,
    model: str | Path | Model | None = None,
    settings: Settings | None = None,
    latency_ms: float | None = None,
    buffer_ms: float | None = None,
    first_buffer_ms: float | None = None,
    stereo: bool = False,
    full_band: bool = True,
    record: str | os.PathLike[str] | None = None,
    force: bool = False,
    realtime: bool = True,
    name: str | None = None,
) -> LiveEngine:
    """Open input and output and return an engine that denoises from one to the other.

    The engine is not started: use it in a `with` statement, or call `start` and `stop`.

    Parameters
    ----------
    input, output : str, int or path, optional
        A device's number or part of its name, or the path of an audio file; None is the default
        device. The output "virtual-mic" makes a virtual microphone (Linux).
    model, settings :
        As for :class:`rtden.Denoiser`. Without `overlap_samples` and at one hop per step, the
        algorithm delays the sound by 30 ms.
    latency_ms : float, optional
        Total latency to aim at; chooses hops per step, overlap and buffer.
    buffer_ms, first_buffer_ms : float, optional
        Sound kept ready for the output beyond its blocks: fixed, or (15 ms) to begin with; that
        grows after drop-outs and shrinks again.
    stereo, full_band : bool
        Keep two channels, if both sides have them; keep the band above the model's.
    record, force : path, optional, and bool
        Folder for noisy.wav and cleaned.wav; overwrite existing files.
    realtime : bool
        Ask for real-time priority for the engine's worker thread.
    name : str, optional
        Name of the virtual microphone; None is "rtden".

    Raises
    ------
    DeviceError, AudioFileError, SettingsError, ModelError
        If a side, a setting or the model cannot be used.
    """
    from rtden.live import plan
    from rtden.live.engine import LiveEngine
    from rtden.live.status import feedback
    from rtden.settings import check_flags, check_settings, require

    check_flags(stereo=stereo, full_band=full_band, force=force, realtime=realtime)
    require(name is None or isinstance(name, str), "name", "be text", name)
    source_name, sink_name = _name(input, "mic"), _name(output, "speakers")
    folder = None if record is None else Path(_name(record, ""))
    _check_places(source_name, sink_name, folder)
    if latency_ms is not None and check_settings(settings).hops_per_step > 1:
        raise SettingsError("a latency chooses the hops per step; give one of the two.")
    chosen = plan.live_settings(settings, model=model)
    with ExitStack() as opened:
        source, sink = _open_sides(opened, source_name, sink_name, stereo, force, name)
        if looped := feedback(source, sink):
            raise DeviceError(looped)
        if latency_ms is not None:
            chosen, first_buffer_ms = plan.settings_for_total_latency(
                latency_ms, source, sink, model=model, settings=settings, buffer_ms=buffer_ms
            )
        engine = LiveEngine(
            source,
            sink,
            model=model,
            settings=chosen,
            buffer_ms=buffer_ms,
            first_buffer_ms=plan.DEFAULT_BUFFER_MS if first_buffer_ms is None else first_buffer_ms,
            stereo=stereo,
            full_band=full_band,
            record=folder,
            force=force,
            realtime=realtime,
        )
        engine.resources = opened.pop_all()
    return engine


def _name(place: Any, default: str) -> str:
    """Return the name of an input, an output or a folder; refuse other types and empty names."""
    if place is None:
        return default
    if isinstance(place, bool) or not isinstance(place, (str, int, os.PathLike)):
        raise SettingsError(f"a device or a file is a name, a number or a path, not {place!r}.")
    if not str(place).strip():
        raise SettingsError("a name is empty; leave it out for the default.")
    return str(place)


def _check_places(source: str, sink: str, record: Path | None) -> None:
    """Refuse a file that would be both read and written, or written twice."""
    from rtden.live.file_endpoints import is_audio_file

    places = [place for place in (source, sink) if is_audio_file(place)]
    if record is not None:
        places += [str(record / "noisy.wav"), str(record / "cleaned.wav")]
    if len({os.path.realpath(place) for place in places}) < len(places):
        raise AudioFileError(
            f"two of {', '.join(places)} are one file, and one of them would be lost; "
            "choose another output or folder to record into."
        )


def _open_sides(
    opened: ExitStack, source_name: str, sink_name: str, stereo: bool, force: bool, name: str | None
) -> tuple[Endpoint, Endpoint]:
    """Open source and sink; closing the stack closes them."""
    from rtden.live.device_endpoints import DeviceSink, DeviceSource
    from rtden.live.file_endpoints import FileSink, FileSource, is_audio_file

    # The input first: a virtual microphone may become the system's default one.
    from_file = is_audio_file(source_name)
    source = FileSource(Path(source_name)) if from_file else DeviceSource(source_name)
    opened.callback(source.stop)
    if sink_name == VIRTUAL_MICROPHONE:
        from rtden.live.virtual_mic import VirtualMicrophone, VirtualSink

        microphone = opened.enter_context(VirtualMicrophone(name or "rtden"))
        sink: Endpoint = VirtualSink(microphone)
    elif is_audio_file(sink_name):
        channels = min(2, source.channels) if stereo else 1
        sink = FileSink(Path(sink_name), source.rate_hz, channels=channels, force=force)
    else:
        sink = DeviceSink(sink_name)
    opened.callback(sink.stop)
    return source, sink
