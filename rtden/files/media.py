"""Sound and video that libsndfile does not read, by PyAV (extra "av"), whose wheel has FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import AudioFileError, DamagedFileError
from rtden.extras import needed
from rtden.files.atomic import reason_of
from rtden.files.audio_file import ABSURD, Recording, without_absurd
from rtden.files.containers import end_of_sound, short_format, start_of_sound
from rtden.files.endings import (
    goes_on,
    is_cut_off,
    is_joined,
    mp3_frame_size,
    own_seconds,
    seconds_of,
    states_length,
)
from rtden.files.joins import CHANGED, demuxed
from rtden.files.layout import CUT_OFF, check_end, joined, no_header, no_sound, truncated
from rtden.files.listing import MEDIA_SUFFIXES, SUFFIXES, Raw
from rtden.files.tags import texts_of
from rtden.types import Array

STRINGS = {
    **{name: name for name in ("title", "artist", "album", "date", "genre", "comment")},
    **{"copyright": "copyright", "track": "tracknumber"},
}
READ: dict[str, Any] = {"metadata_errors": "replace", "options": {"scan_all_pmts": "1"}}
"""Old tags are no UTF-8, and broadcasts may describe their tracks late."""
SUBTYPES = {"s64": "PCM_32", "s32": "PCM_24", "flt": "FLOAT", "dbl": "DOUBLE"}
CRASHING = {"adx"}  # FFmpeg's parser divides by zero where such a file is damaged
BIT_RATE_SECONDS = 60.0
LOSSLESS = ("pcm", "alac", "flac", "tta", "wavpack", "ape", "mlp", "truehd")
SIZED = ("avi", "asf")  # FFmpeg guesses how long a track is, but their size is in the header
SLACK_SECONDS = 0.1  # a few frames of a codec
HEADERS = {
    **{"ac3": slice(4, 5), "eac3": slice(2, 4), "dts": slice(5, 8)},
    **dict.fromkeys(("mp1", "mp2", "mp3"), slice(1, 3)),
}
"""The bytes of a frame on which its size depends, for codecs whose decoders take a part of one."""
MOST_GAP_SECONDS = 0.03  # longer gaps in a track's time stamps are no jitter
LONGEST_HOLE_SECONDS = 3600.0  # time stamps that jump would fill the disk with silence


TAGGED = ("aac", "ape", "mp3", "mpc", "mpc8", "tak", "tta", "wv")
"""FFmpeg's formats that know of tags at the end; others take them for sound."""


def url_of(path: Path, end: int = 0) -> str:
    """Return a path, up to a byte, as FFmpeg takes it: 12:30.m4a alone would be a protocol."""
    return f"subfile,,start,0,end,{end},,:file:{path}" if end else f"file:{path}"


def _tag_bytes(av: Any, path: Path, read: dict[str, Any]) -> int:
    """Return the length of an ID3 tag at a file's beginning that FFmpeg would take for sound."""
    with path.open("rb") as file:
        size = start_of_sound(file)
    if size:
        with suppress(av.error.FFmpegError), av.open(url_of(path), **read) as container:
            first = next(container.demux()).pos
            return 0 if first is None or first >= size else size
    return size


@contextmanager
def opened(path: Path, raw: Raw | None = None) -> Iterator[Any]:
    """Yield a file that PyAV has opened for reading."""
    known = path.suffix.lower() in SUFFIXES | MEDIA_SUFFIXES
    unknown = f"{path} has no usual suffix of a sound file; reading it nevertheless"
    av = needed("av", "av", str(path) if known else unknown)
    options = {**READ["options"], "format_whitelist": ",".join(av.formats_available - CRASHING)}
    if raw:
        options = {"sample_rate": str(raw.rate_hz), "ch_layout": f"{raw.channels}C"}
    read = {**READ, "format": raw.format if raw else short_format(path), "options": options}
    try:
        options["skip_initial_bytes"] = str(_tag_bytes(av, path, read))
        container = av.open(url_of(path), **read)
        with path.open("rb") as file:
            end = end_of_sound(file)
        if container.format.name not in TAGGED and end < path.stat().st_size:
            container.close()
            container = av.open(url_of(path, end), **read)
    except av.error.FFmpegError as error:
        advice = "PCM without a header needs --rate, --channels and --format of 'rtden file'."
        if known:
            advice = "it may be damaged or cut off: copy it again."
        if path.suffix.lower()[1:] in CRASHING:
            advice = "damaged ones make FFmpeg crash: convert it to .wav with another program."
        raise AudioFileError(
            f"{path} is not sound that can be read ({reason_of(error)}); {advice}"
        ) from None
    with container:
        if raw is None and container.format.long_name.startswith("PCM "):  # by its suffix alone
            raise no_header(path)
        with path.open("rb") as file:
            if is_joined(container.format.name, file):
                raise joined(path)
            check_end(path, file)
        yield container


def tracks_of(container: Any, path: Path, track: int | None) -> list[Any]:
    """Return the sound tracks to denoise: all, or the one that `track` counts, from 1."""
    found = [stream for stream in container.streams.audio if has_sound(stream)]
    if not container.streams.audio:
        raise AudioFileError(f"{path} has no sound track; there is nothing to denoise.")
    if not found:
        raise no_sound(path)
    if track is None:
        return found
    if track not in range(1, len(found) + 1):
        raise AudioFileError(f"{path} has no sound track {track}; it has {len(found)}.")
    return [found[int(track) - 1]]


def has_sound(stream: Any) -> bool:
    """Return whether a sound track can be decoded; damaged data may look like one."""
    context = stream.codec_context
    return bool(context and context.sample_rate and context.format)


@contextmanager
def open_media(path: Path, *, track: int | None = None) -> Iterator[Recording]:
    """Open a file for reading by PyAV, as :func:`rtden.files.audio_file.open_recording` does."""
    with opened(path) as container:
        stream = tracks_of(container, path, track)[0]
        context, notes, count = stream.codec_context, list[str](), len(container.streams.audio)
        if count > 1 and track is None:
            notes.append(f"the first of {count} sound tracks was taken (--track takes another)")
        if container.streams.video:
            notes.append("its picture was left out")
        lossless = context.name.startswith(LOSSLESS)
        texts = texts_of(container)
        yield Recording(
            path,
            context.sample_rate,
            context.channels,
            round(seconds_of(stream) * context.sample_rate),
            "",
            SUBTYPES.get(context.format.name.rstrip("p"), "PCM_16") if lossless else "PCM_16",
            lambda _: (
                block for block, ours in pieces_of(container, [Track(stream, path)], notes) if ours
            ),
            strings={STRINGS[name]: text for name, text in texts.items() if name in STRINGS},
            texts=texts,
            bit_rate=float(bit_rate_of(stream)),
            codec=context.codec.canonical_name,
            notes=notes,
        )


class Track:
    """A sound track that is decoded. What is missing in it becomes silence, and is counted."""

    def __init__(self, stream: Any, path: Path) -> None:
        context = stream.codec_context
        self.stream, self.path = stream, path
        self.rate_hz, self.channels = int(context.sample_rate), int(context.channels)
        self.codec = context.codec.canonical_name
        stated = states_length(stream.container.format.name)
        self._header = None if stated else HEADERS.get(self.codec)
        with path.open("rb") as file:
            self._tags = end_of_sound(file)
        self._is_pcm = context.name.startswith("pcm")  # of which any part is whole
        self._sizes = dict[bytes, int]()
        if stream.container.format.name == "caf" and context.name in ("alac", "flac"):
            # Their last frame is short, and FFmpeg would shorten it once more.
            context.options = {"flags2": "+skip_manual"}
        self.start = self.done = 0  # samples: where it begins in the file's time, and so far
        self.held = 0.0  # seconds up to the end of the last packet that is not damaged
        self._missing = self._silenced = self._damaged = 0
        self._layout = context.layout.name
        self._kind: Any = None  # rate, channels and format of the newest frame
        self._resampler: Any = None
        self._changes: list[str] = []
        self._cut = False  # whether the newest packet is damaged

    @property
    def ended(self) -> float:
        """Seconds from the file's beginning to the track's end."""
        return (self.start + self.done) / self.rate_hz

    def decode(self, av: Any, packet: Any) -> Iterator[Array]:
        """Yield a packet's sound as float32, (samples, channels), after what is missing before."""
        if packet.size and (packet.pos or 0) >= self._tags:
            return
        damaged, after_damage = bool(packet.is_corrupt) and not self._is_pcm, self._cut
        if packet.size and self._header:  # frames with equal headers have equal sizes
            head = bytes(packet)[:8]
            if not any(head):  # zeros fill up the file, or a hole in it
                return
            known = self._sizes.setdefault(head[self._header], packet.size)
            damaged |= packet.size != known or packet.size < mp3_frame_size(head)
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            frames, damaged = [], True
        if packet.size:
            self._cut = damaged
            self._damaged += damaged
            if not damaged and packet.pts is not None:
                ended = packet.pts + (packet.duration or 0) - (self.stream.start_time or 0)
                self.held = float(ended * packet.time_base)
        for frame in frames:
            yield from self._missing_before(frame, 0.0 if after_damage else MOST_GAP_SECONDS)
            yield from self._sound_of(av, frame)
        if not packet.size:
            yield from self._sound_of(av, None)

    def notes(self) -> Iterator[str]:
        """Yield what a user should know, once the track is read."""
        if self._cut:
            yield CUT_OFF
        yield from self._changes[:1]
        if damaged := self._damaged - self._cut:
            yield f"{damaged} damaged packets were left out"
        if self._missing:
            yield f"{self._missing / self.rate_hz:.2f} s of its sound are missing: now silence"
        if self._silenced:
            yield ABSURD.format(self._silenced)

    def _missing_before(self, frame: Any, least_seconds: float) -> Iterator[Array]:
        """Yield silence up to a frame's time, so that lips stay in step; none for less."""
        if frame.pts is None:
            return
        at = round(frame.pts * frame.time_base * self.rate_hz)
        self.start = self.start if self.done else at
        gap = at - self.start - self.done
        gap_seconds = gap / self.rate_hz
        if gap_seconds > LONGEST_HOLE_SECONDS:
            raise DamagedFileError(
                f"{self.path} has no sound for {gap_seconds:.0f} s after "
                f"{self.ended:.1f} s; split it there, for instance with ffmpeg."
            )
        if gap_seconds > least_seconds:
            self._missing += gap
            self.done += gap
            yield from silence(gap, self)

    def _sound_of(self, av: Any, frame: Any) -> Iterator[Array]:
        """Yield a frame's sound as float32, (samples, channels); for None what is still to come."""
        layout, wanted = frame and frame.layout, (self.rate_hz, self.channels)
        kind = frame and (frame.sample_rate, layout.nb_channels, layout.name, frame.format.name)
        made = list[Any]()
        if kind != self._kind:  # so it may be in a joined file
            made, self._kind = self._resampler.resample(None) if self._resampler else [], kind
            self._resampler = frame and av.AudioResampler("flt", self._layout, self.rate_hz)
            if frame and kind[:2] != wanted:
                self._changes.append(CHANGED.format(*kind[:2], self.ended, *wanted))
        for interleaved in [*made, *(self._resampler.resample(frame) if frame else [])]:
            sound, silenced = without_absurd(interleaved.to_ndarray().reshape(-1, self.channels))
            self._silenced += silenced
            self.done += len(sound)
            yield sound


def silence(frames: int, track: Track) -> Iterator[Array]:
    """Yield silence for a track, a second at a time."""
    for left in range(frames, 0, -track.rate_hz):
        yield np.zeros((min(left, track.rate_hz), track.channels), np.float32)


def pieces_of(
    container: Any, tracks: list[Track], notes: list[str]
) -> Iterator[tuple[Any, Track | None]]:
    """Yield blocks of sound, each with its track, and other packets, with None; then notes.

    Raises DamagedFileError where a header promises more than there was.
    """
    import av

    last, end, by_index = 0.0, 0, {track.stream.index: track for track in tracks}
    try:
        for packet in demuxed(container):
            if ours := by_index.get(packet.stream.index):
                yield from ((block, ours) for block in ours.decode(av, packet))
            else:
                yield packet, None
            end = max(end, (packet.pos or 0) + packet.size)
            ended = (packet.pts or 0) + (packet.duration or 0)
            last = max(last, float(ended * (packet.time_base or 0)))
    except av.error.FFmpegError as error:
        first = tracks[0]
        stated = own_seconds(first.stream) if states_length(container.format.name) else 0.0
        promised = round(stated * first.rate_hz)
        if not 0 < promised <= first.done:  # behind its sound anything may follow
            sentence = f"{first.path} is damaged or cut off ({reason_of(error)}); copy it again."
            raise DamagedFileError(sentence) from None
    notes += _checked_end(container, tracks, last, end)


def _checked_end(container: Any, tracks: list[Track], last: float, end: int) -> list[str]:
    """Return the notes of a file whose packets end after `last` seconds and at byte `end`.

    Raises DamagedFileError where its header promises more, or nothing could be decoded.
    """
    first, name = tracks[0], container.format.name
    if not any(track.done for track in tracks):
        raise no_sound(first.path)
    with first.path.open("rb") as file:
        if goes_on(name, file, end):
            raise joined(first.path)
        cut_off = is_cut_off(name, file, end)
    # A decoder may keep a frame, and a header count what fills up the last one.
    seconds = max(first.done / first.rate_hz, first.held)
    # A chapter may end later than all else, and the container counts it.
    chapters = [float(each["end"] * each["time_base"]) for each in container.chapters()]
    last = max(last, *(track.ended for track in tracks), *chapters)
    lengths = [(seconds, own_seconds(first.stream)), (last, (container.duration or 0) / 1e6)]
    stated = name not in SIZED and states_length(name)
    for seconds, promised in lengths:
        if stated and seconds < promised - SLACK_SECONDS:
            # It is whole, as its layout has shown; in a WAV, only frames with sync words are found.
            if name == "wav" and first.codec not in HEADERS:
                raise AudioFileError(
                    f"{first.path} is a WAV of {first.codec}, which nothing "
                    "decodes there; save it as .m4a or .wav with the program that made it."
                )
            raise truncated(first.path, seconds / promised)
    notes = [note for track in tracks for note in track.notes()]
    return [*notes, CUT_OFF] if cut_off and CUT_OFF not in notes else notes


def bit_rate_of(stream: Any) -> int:
    """Return a track's bits a second, by its packets if nothing states it; 0 if unknown."""
    import av

    if stream.codec_context.name.startswith(LOSSLESS):
        return 0
    if stated := stream.bit_rate or stream.codec_context.bit_rate:
        return int(stated)
    size, seconds = 0, 0.0
    name, known = stream.container.name, stream.container.format.name
    with suppress(av.error.FFmpegError), av.open(name, format=known, **READ) as container:
        for packet in container.demux(container.streams[stream.index]):
            if packet.duration:
                seconds += float(packet.duration * packet.time_base)
                size += packet.size
                if seconds > BIT_RATE_SECONDS:
                    break
    return round(8 * size / seconds) if seconds > SLACK_SECONDS else 0
