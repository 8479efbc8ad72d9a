"""Sound and video that libsndfile does not read, by PyAV (extra "av"), whose wheel has FFmpeg.

A video comes back as a video: every stream but the sound is copied packet for packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtden.errors import AudioFileError, MissingPackageError
from rtden.extras import install_command
from rtden.files.atomic import reason_of
from rtden.files.audio_file import LOUDEST, Progress
from rtden.files.listing import Raw
from rtden.files.sndfile import Recording, truncated
from rtden.stream import StreamDenoiser
from rtden.types import Array


class Muxer(NamedTuple):
    """How FFmpeg writes the files of a suffix."""

    name: str
    codec: str
    """The encoder of sound whose own codec cannot be written."""
    sound_only: bool = False

    @property
    def primes(self) -> bool:
        """Whether players leave out what an encoder puts before the sound."""
        return self.name not in ("avi", "flv", "adts", "ac3", "eac3", "mp2", "amr")


MUXERS = {
    ".m4a": Muxer("mp4", "aac", True), ".m4b": Muxer("mp4", "aac", True),
    ".aac": Muxer("adts", "aac", True), ".ac3": Muxer("ac3", "ac3", True),
    ".eac3": Muxer("eac3", "eac3", True), ".amr": Muxer("amr", "libopencore_amrnb", True),
    ".wma": Muxer("asf", "wmav2", True), ".mka": Muxer("matroska", "libopus", True),
    ".wv": Muxer("wv", "wavpack", True), ".tta": Muxer("tta", "tta", True),
    ".mp2": Muxer("mp2", "mp2", True), ".mp4": Muxer("mp4", "aac"), ".m4v": Muxer("mp4", "aac"),
    ".mov": Muxer("mov", "aac"), ".mkv": Muxer("matroska", "libopus"),
    ".webm": Muxer("webm", "libopus"), ".wmv": Muxer("asf", "wmav2"), ".asf": Muxer("asf", "wmav2"),
    ".3gp": Muxer("3gp", "aac"), ".3g2": Muxer("3g2", "aac"), ".avi": Muxer("avi", "libmp3lame"),
    ".flv": Muxer("flv", "aac"), ".ts": Muxer("mpegts", "aac"), ".mts": Muxer("mpegts", "aac"),
    ".m2ts": Muxer("mpegts", "aac"), ".mpg": Muxer("mpeg", "mp2"), ".mpeg": Muxer("mpeg", "mp2"),
    ".ogv": Muxer("ogv", "libopus"),
}  # fmt: skip
ENCODERS = {"opus": "libopus", "mp3": "libmp3lame", "amr_nb": "libopencore_amrnb", "vorbis": ""}
"""FFmpeg's encoders where they have other names than the codec; its own for Vorbis is not used."""
STRINGS = {
    **{name: name for name in ("title", "artist", "album", "date", "genre", "comment")},
    **{"copyright": "copyright", "track": "tracknumber"},
}
SUBTYPES = {"s32": "PCM_24", "flt": "FLOAT", "dbl": "DOUBLE"}
ATTACHED_PICTURE = 0x400
"""FFmpeg's disposition of a cover."""
STALE = ("BPS", "NUMBER_OF_", "_STATISTICS", "DURATION", "ENCODER")
"""Matroska's figures of a sound track, which are another's after it is encoded anew."""
BIT_RATE_SECONDS = 60.0
MOST_GAP_SECONDS = 0.03
"""Longer gaps in the sound's time stamps become silence, so that lips stay in step."""
LOWEST_BIT_RATE, GOOD_BIT_RATE = 24000, 80000
"""Of AAC, for FFmpeg's has no high-efficiency profile, and of what was lossless; a channel."""
LOSSLESS = ("pcm", "alac", "flac", "tta", "wavpack", "ape", "mlp", "truehd")

Streams = Callable[[int, int], StreamDenoiser]
"""Takes a rate in Hz and a number of channels."""


def _load_av(path: Path) -> Any:
    try:
        import av
    except ImportError:
        sentence = f"{path} takes the package av (PyAV): run '{install_command('av')}'."
        raise MissingPackageError(sentence) from None
    return av


@contextmanager
def _opened(path: Path, raw: Raw | None = None) -> Iterator[tuple[Any, Any]]:
    """Yield PyAV and a file that it has opened for reading."""
    av = _load_av(path)
    options = {"sample_rate": str(raw.rate_hz), "ch_layout": f"{raw.channels}C"} if raw else {}
    try:
        container = av.open(str(path), format=raw.format if raw else None, options=options)
    except av.error.FFmpegError as error:
        raise AudioFileError(
            f"{path} is not sound that can be read ({reason_of(error)}); "
            "for PCM without a header give --rate, --channels and --format."
        ) from None
    with container:
        yield av, container


def _tracks(container: Any, path: Path, track: int | None) -> list[Any]:
    """Return the sound tracks to denoise: all, or the one that `track` counts, from 1."""
    found = [s for s in container.streams.audio if s.codec_context and s.codec_context.sample_rate]
    if not found:
        raise AudioFileError(f"{path} has no sound track; there is nothing to denoise.")
    if track is None:
        return found
    if not 1 <= track <= len(found):
        raise AudioFileError(f"{path} has no sound track {track}; it has {len(found)}.")
    return [found[track - 1]]


@contextmanager
def open_media(path: Path, *, track: int | None = None) -> Iterator[Recording]:
    """Open a file for reading by PyAV, as :func:`rtden.files.audio_file.open_recording` does.

    Raises
    ------
    AudioFileError
        If it cannot be read, or has no such sound track.
    MissingPackageError
        If PyAV is not installed.
    """
    with _opened(path) as (av, container):
        stream = _tracks(container, path, track)[0]
        context, notes = stream.codec_context, list[str]()
        if len(container.streams.audio) > 1 and track is None:
            count = len(container.streams.audio)
            notes.append(f"the first of {count} sound tracks was taken (--track takes another)")
        if container.streams.video:
            notes.append("its picture was left out")
        lossless = context.name.startswith(LOSSLESS)
        tags = {**container.metadata, **stream.metadata}
        yield Recording(
            path,
            context.sample_rate,
            context.channels,
            round(_seconds(container, stream) * context.sample_rate),
            "",
            SUBTYPES.get(context.format.name.rstrip("p"), "PCM_16") if lossless else "PCM_16",
            lambda frames: _blocks(av, container, stream, path, frames, notes),
            strings={STRINGS[k.lower()]: v for k, v in tags.items() if k.lower() in STRINGS},
            bit_rate=float(_bit_rate(stream)),
            notes=notes,
        )


def _seconds(container: Any, stream: Any) -> float:
    """Return how long a stream says that it is; 0 where it does not."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6


def _frames(av: Any, packet: Any, notes: list[str]) -> Iterator[Any]:
    """Yield a packet's frames; of one that is damaged there is a note."""
    try:
        yield from packet.decode()
    except av.error.FFmpegError:
        sentence = "damaged packets were left out"
        before = next((note for note in notes if note.endswith(sentence)), f"0 {sentence}")
        if before in notes:
            notes.remove(before)
        notes.append(f"{int(before.split()[0]) + 1} {sentence}")


def _samples(frame: Any, channels: int, rate_hz: int, path: Path) -> Array:
    """Return a decoded frame as float32, shape (samples, channels)."""
    if frame.layout.nb_channels != channels or frame.sample_rate != rate_hz:
        raise AudioFileError(
            f"{path} changes to {frame.sample_rate} Hz and {frame.layout.nb_channels} channels "
            "on the way; split it there, for instance with ffmpeg."
        )
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.uint8:
        return np.asarray((values.astype(np.float32) - 128.0) / 128.0, np.float32)
    scale = float(np.iinfo(values.dtype).max) + 1.0 if values.dtype.kind == "i" else 1.0
    return np.ascontiguousarray(values / scale, np.float32)


def _blocks(
    av: Any, container: Any, stream: Any, path: Path, frames: int, notes: list[str]
) -> Iterator[Array]:
    channels, rate_hz = stream.codec_context.channels, stream.codec_context.sample_rate
    held, count, done = list[Array](), 0, 0
    for packet in container.demux(stream):
        for frame in _frames(av, packet, notes):
            held.append(_samples(frame, channels, rate_hz, path))
            count += len(held[-1])
        if count >= frames:
            joined = np.concatenate(held)
            for start in range(0, count - count % frames, frames):
                yield joined[start : start + frames].copy()
            held, done = [joined[count - count % frames :]], done + count - count % frames
            count %= frames
    if count:
        yield np.concatenate(held)
    promised = _seconds(container, stream)
    exact = container.format.name.split(",")[0] in ("mov", "caf", "wav", "w64", "aiff")
    if exact and (done + count) / rate_hz < 0.98 * promised - 0.5:
        raise truncated(path, (done + count) / rate_hz / promised)


class _Sound:
    """A sound track between its decoder and its encoder."""

    def __init__(
        self, source: Any, target: Any, streams: Streams, path: Path, padding: int
    ) -> None:
        context = source.codec_context
        self.source, self._target, self._path = source, target, path
        self.rate_hz, self._channels = context.sample_rate, context.channels
        self._layout = _layout(context)
        self._stream = streams(self.rate_hz, self._channels)
        self._start: int | None = None
        self.fed = self._written = 0
        self._dropped = padding  # in place of what the encoder puts before the sound

    def feed(self, frame: Any) -> Iterator[Any]:
        """Take in a decoded frame; yield encoded packets."""
        samples = _samples(frame, self._channels, self.rate_hz, self._path)
        samples = np.where(np.abs(samples) < LOUDEST, samples, np.float32(0.0))
        if frame.pts is not None:
            at = round(frame.pts * frame.time_base * self.rate_hz)
            self._start = at if self._start is None else self._start
            gap = at - self._start - self.fed
            while gap > MOST_GAP_SECONDS * self.rate_hz:
                silence = np.zeros((min(gap, self.rate_hz), self._channels), np.float32)
                yield from self._feed(silence)
                gap -= len(silence)
        yield from self._feed(samples)

    def flush(self) -> Iterator[Any]:
        """End the track; yield its last packets."""
        yield from self._encode(self._stream.flush())
        yield from self._target.encode(None)

    def _feed(self, samples: Array) -> Iterator[Any]:
        self.fed += len(samples)
        yield from self._encode(self._stream.feed(samples))

    def _encode(self, samples: Array) -> Iterator[Any]:
        import av

        dropped = min(max(0, self._dropped - self._written), len(samples))
        self._written, samples = self._written + dropped, samples[dropped:]
        if len(samples):
            planes = np.ascontiguousarray(samples.T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
            frame.sample_rate, frame.time_base = self.rate_hz, Fraction(1, self.rate_hz)
            frame.pts = (self._start or 0) + self._written
            self._written += len(samples)
            yield from self._target.encode(frame)


class MediaReport(NamedTuple):
    """What was done to a file."""

    seconds: float
    notes: list[str]


def denoise_media(
    source: Path,
    partial: Path,
    suffix: str,
    streams: Streams,
    *,
    raw: Raw | None = None,
    track: int | None = None,
    progress: Progress | None = None,
) -> MediaReport:
    """Write a file with its sound denoised and all other streams copied, in constant memory.

    Parameters
    ----------
    partial : Path
        Where to write.
    suffix : str
        Chooses the container, a key of MUXERS.
    streams : callable
        Gives the stream that denoises a track.
    track : int, optional
        The sound track to denoise, from 1, the others copied; the default is all.

    Raises
    ------
    AudioFileError
        If the file cannot be read, has no sound, or cannot be written.
    """
    notes: list[str] = []
    with _opened(source, raw) as (av, container), ExitStack() as opened:
        tracks = _tracks(container, source, track)
        total = round(_seconds(container, tracks[0]) * tracks[0].codec_context.sample_rate)
        try:
            out, targets = _start(av, container, tracks, partial, suffix, notes)
            opened.enter_context(_closed_at_last(out))
            sounds = {
                s.index: _Sound(s, target, streams, source, _padding(target, MUXERS[suffix]))
                for s in tracks
                if (target := targets.get(s.index))
            }
            first = next(iter(sounds.values()))
            copied = {s.index: s for s in container.streams if s.index in targets}
            for packet in container.demux(list(copied.values())):
                index = packet.stream.index
                if index in sounds:
                    for frame in _frames(av, packet, notes):
                        for encoded in sounds[index].feed(frame):
                            out.mux(encoded)
                    if progress is not None:
                        progress(first.fed, total)
                elif packet.dts is not None or packet.size:
                    packet.stream = targets[index]
                    out.mux(packet)
            for sound in sounds.values():
                for encoded in sound.flush():
                    out.mux(encoded)
            out.close()
        except av.error.FFmpegError as error:
            raise AudioFileError(
                f"{source} could not be made into a {suffix} ({reason_of(error)}); make room on "
                "the disk, or choose another format, for instance NAME.mkv or NAME.wav."
            ) from None
    return MediaReport(first.fed / first.rate_hz, notes)


@contextmanager
def _closed_at_last(container: Any) -> Iterator[None]:
    """Close a container whatever happens; after an error its own does not matter."""
    try:
        yield
    finally:
        with suppress(Exception):
            container.close()


def _start(
    av: Any, container: Any, tracks: list[Any], partial: Path, suffix: str, notes: list[str]
) -> tuple[Any, dict[int, Any]]:
    """Open the file to write, with its header; return it and its streams by the source's index.

    What the container does not take is left out, the least important kind of stream first.
    """
    muxer = MUXERS[suffix]
    kinds = ("data", "attachment", "subtitle")
    error: Exception | None = None
    for dropped in range(len(kinds) + 1):
        skipped = {*kinds[:dropped]}
        options = _muxer_options(container, muxer, suffix, tracks[0].codec_context.sample_rate)
        out = av.open(str(partial), "w", format=muxer.name, options=options)
        try:
            said: list[str] = []
            same = Path(container.name).suffix.lower() == suffix
            targets = _add_streams(container, out, tracks, muxer, skipped, said, same)
            out.metadata.update(container.metadata)
            with suppress(Exception):
                out.set_chapters(container.chapters())
            out.start_encoding()
        except (av.error.FFmpegError, ValueError, TypeError, RuntimeError) as failure:
            error = failure
            with suppress(Exception):
                out.close()
            continue
        notes += said
        return out, targets
    raise AudioFileError(
        f"a {suffix} does not take this sound ({error}); choose another format, "
        "for instance NAME.m4a or NAME.wav."
    )


def _padding(target: Any, muxer: Muxer) -> int:
    """Return how many samples a track's encoder puts before the sound; 0 where players know."""
    import av

    if muxer.primes:
        return 0
    context = target.codec_context
    trial = av.CodecContext.create(context.codec.name, "w")
    for name in ("sample_rate", "layout", "format", "bit_rate"):
        if getattr(context, name):
            setattr(trial, name, getattr(context, name))
    trial.time_base = Fraction(1, context.sample_rate)
    silence = np.zeros((context.layout.nb_channels, 8192), np.float32)
    frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout=context.layout)
    frame.sample_rate, frame.time_base, frame.pts = context.sample_rate, trial.time_base, 0
    packets = [*trial.encode(frame), *trial.encode(None)]
    first = packets[0]
    return max(0, int(-first.pts * first.time_base * context.sample_rate))


def _muxer_options(container: Any, muxer: Muxer, suffix: str, rate_hz: int) -> dict[str, str]:
    """Return what makes QuickTime's own metadata survive, and its edits exact to the sample."""
    if muxer.name not in ("mp4", "mov", "3gp", "3g2"):
        return {}
    options = {"movie_timescale": str(rate_hz)}
    if suffix in (".m4a", ".m4b"):
        options["brand"] = "M4A "
    if any(key.startswith("com.") for key in container.metadata):  # place, make, model
        options["movflags"] = "use_metadata_tags"
    return options


def _add_streams(
    container: Any,
    out: Any,
    tracks: list[Any],
    muxer: Muxer,
    skipped: set[str],
    notes: list[str],
    same: bool,
) -> dict[int, Any]:
    """Add the streams to write, in order, and return them by the source's index."""
    targets: dict[int, Any] = {}
    left_out: list[str] = []
    family = muxer.name in container.format.name.split(",")
    for stream in container.streams:
        cover = bool(stream.disposition & ATTACHED_PICTURE)
        if (
            stream.type == "data"
            and family
            and muxer.name in ("mp4", "mov")
            and container.chapters()
        ):
            continue  # the chapters, which are written from their list
        if stream.type in skipped or (
            muxer.sound_only and stream.type != "audio" and not (cover and muxer.name == "mp4")
        ):
            left_out.append("picture" if stream.type == "video" else stream.type)
            continue
        metadata = dict(stream.metadata)
        if stream in tracks:
            target = _add_encoder(out, stream, muxer, notes, same)
            metadata = {k: v for k, v in metadata.items() if not k.upper().startswith(STALE)}
        else:
            try:
                target = out.add_stream_from_template(stream)
            except ValueError:  # FFmpeg has no encoder of that codec, and needs none
                target = out.add_stream_from_template(stream, opaque=True)
            if family and stream.codec_context:
                target.codec_context.codec_tag = stream.codec_context.codec_tag
        target.metadata.update(metadata)
        target.disposition = stream.disposition
        targets[stream.index] = target
    if left_out:
        notes.append(f"left out: {', '.join(dict.fromkeys(left_out))}")
    return targets


def _add_encoder(out: Any, stream: Any, muxer: Muxer, notes: list[str], same: bool) -> Any:
    """Add a sound track that is encoded as a source's is, as far as it can be.

    PCM stays PCM only in the `same` kind of file.
    """
    from av.codec import Codec

    context = stream.codec_context
    codec = context.codec.canonical_name
    wanted = ENCODERS.get(codec, codec)
    if not _encodes(out, wanted, codec) or ("pcm" in codec and not same):
        wanted = muxer.codec
        if same:
            notes.append(f"its sound is written as {wanted.removeprefix('lib')}, not {codec}")
    encoder = Codec(wanted, "w")
    rate_hz = context.sample_rate
    if rates := encoder.audio_rates:
        rate_hz = min(rates, key=lambda hz: (hz < rate_hz, abs(hz - rate_hz)))
    made = out.add_stream(wanted, rate=rate_hz, layout=_layout(context))
    for found in encoder.audio_formats or ():  # as fine as the source's samples, where it can be
        if found.name.rstrip("p") == context.format.name.rstrip("p"):
            made.codec_context.format = found.name
    if not wanted.startswith(LOSSLESS):
        rate = _bit_rate(stream) or GOOD_BIT_RATE * context.channels
        lowest = LOWEST_BIT_RATE * context.channels if wanted == "aac" else 0
        made.codec_context.bit_rate = max(rate, lowest)
    return made


def _layout(context: Any) -> str:
    """Return FFmpeg's name of a decoder's channels, the usual one where the file has none."""
    name = str(context.layout.name)
    usual = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
    return usual[context.channels - 1] if "channels" in name and context.channels <= 8 else name


def _encodes(out: Any, encoder: str, codec: str) -> bool:
    """Return whether an encoder exists, and the container takes its codec."""
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec(encoder, "w")
    except (UnknownCodecError, ValueError):
        return False
    known = out.supported_codecs
    return out.format.name in ("mpegts", "mpeg") or codec in known or encoder in known


def _bit_rate(stream: Any) -> int:
    """Return a track's bits a second, by its packets if nothing states it; 0 for none."""
    import av

    if stream.codec_context.name.startswith(LOSSLESS):
        return 0
    if stated := stream.bit_rate or stream.codec_context.bit_rate:
        return int(stated)
    size, first, last = 0, None, 0.0
    with av.open(stream.container.name) as container:
        for packet in container.demux(container.streams[stream.index]):
            if packet.pts is not None:
                last = float(packet.pts * packet.time_base)
                first = last if first is None else first
                size += packet.size
                if last - first > BIT_RATE_SECONDS:
                    break
    return round(8 * size / (last - first)) if first is not None and last > first else 0
