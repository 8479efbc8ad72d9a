"""A video comes back as a video: its sound is denoised, every other stream copied packet by packet.

PyAV (extra "av") does it; its wheel has FFmpeg.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import AudioFileError
from rtden.files import media, muxers
from rtden.files.atomic import reason_of
from rtden.files.audio_file import CLIPPED, Progress, Recording, read_blocks
from rtden.files.endings import seconds_of
from rtden.files.joins import begun, demuxed
from rtden.files.layout import no_sound
from rtden.files.listing import Muxer, Raw
from rtden.files.muxers import PADDING, add_encoder, frame_of, muxer_options, padding_of
from rtden.files.tags import AROUND, lost_texts, texts_of
from rtden.files.writing import mp3_gain
from rtden.types import Array

ATTACHED_PICTURE = 0x400  # FFmpeg's disposition of a cover
STALE = ("BPS", "NUMBER_OF_", "_STATISTICS", "DURATION", "ENCODER")
"""Matroska's figures of a sound track, which are another's after it is encoded anew."""
UNFLUSHED = ("mp2", "ac3", "eac3")
"""Encoders that keep as many samples when they are flushed as they put before the sound."""
WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
LEFT_OUT = ((), ("data",), ("data", "attachment"), ("data", "attachment", "subtitle"))
"""Kinds of streams to do without, in turn, where a container does not take them."""


def denoise_media(
    source: Path,
    partial: Path,
    muxer: Muxer,
    suffix: str,
    streams: Callable[[int, int], Any],
    *,
    notes: list[str],
    raw: Raw | None = None,
    track: int | None = None,
    progress: Progress | None = None,
    recording: Recording | None = None,
) -> tuple[float, dict[int, int]]:
    """Write a file with its sound denoised and all other streams copied, in constant memory.

    Return the length of its (first) sound in seconds, and the samples of each denoised track, by
    its number among the sound tracks, from 1. What is written at `partial` will be named
    with `suffix`; `streams` takes a rate in Hz and a number of channels, and gives the stream that
    denoises a track. The sound is that of `recording`, or what FFmpeg decodes.
    """
    import av

    with media.opened(source, raw) as container:
        streams_of = media.tracks_of(container, source, track)
        tracks = [media.Track(stream, source) for stream in streams_of]
        notes += [AROUND] if container.name != media.url_of(source) else []  # they were left out
        first = tracks[0]
        if recording:
            first.rate_hz, first.channels = recording.samplerate, recording.channels
        total = round(seconds_of(first.stream) * first.rate_hz)
        try:
            with closing(_Out(container, streams_of, partial, muxer, suffix)) as out:
                notes += out.notes
                targets = {t: out.targets[t.stream.index] for t in tracks}
                sounds = {t: _Sound(t, targets[t], muxer, streams) for t in tracks}
                audio = [target for target in out.targets.values() if target.type == "audio"]
                numbers = {t: audio.index(targets[t]) + 1 for t in tracks}
                for piece, ours in _pieces(container, tracks, recording, notes):
                    if ours:
                        out.file.mux(sounds[ours].feed(piece))
                        if progress is not None:
                            progress(first.done, max(first.done, total))
                    else:
                        out.copy(piece)
                for sound in sounds.values():
                    out.file.mux(sound.flush())
                out.file.close()
            written = {"file": media.url_of(partial), **media.READ}
            with suppress(av.error.FFmpegError), av.open(**written) as made:
                notes += lost_texts(texts_of(container), texts_of(made))
        except av.error.FFmpegError as error:
            raise _refusal(source, suffix, error) from None
    notes += _notes(list(sounds.values()))
    return first.done / first.rate_hz, {numbers[t]: sounds[t].frames for t in tracks}


def _notes(sounds: list[_Sound]) -> Iterator[str]:
    if lost_ms := max(sound.lost_ms for sound in sounds):
        yield f"its first {lost_ms:.0f} ms gave way to what the encoder puts before the sound"
    if added_ms := max(sound.added_ms for sound in sounds):
        yield f"{added_ms:.0f} ms of silence follow on its sound, as WMA has whole frames"
    if clipped := sum(sound.clipped for sound in sounds):
        yield CLIPPED.format(clipped)


def _refusal(source: Path, suffix: str, error: Exception) -> AudioFileError:
    reason, advice = reason_of(error), "choose another format, for instance NAME.mkv or NAME.wav."
    if reason == "Invalid argument":
        reason = "its time stamps go back, as in files that were joined"
        advice = "choose NAME.wav for its sound, or join the files anew with ffmpeg."
    elif reason.startswith("Invalid data"):  # H.264 of an mp4 into an AVI, for instance
        reason = "it does not take its picture as it is"
    elif getattr(error, "errno", None) in WRITING:
        advice = "make room on the disk, or choose another place."
    return AudioFileError(f"{source} could not be made into a {suffix} ({reason}); {advice}")


def _pieces(
    container: Any, tracks: list[media.Track], recording: Recording | None, notes: list[str]
) -> Iterator[tuple[Any, media.Track | None]]:
    """Yield what :func:`rtden.files.media.pieces_of` does, with the sound of `recording`."""
    if recording is None:
        yield from media.pieces_of(container, tracks, notes)
        return
    (only,) = tracks
    covers = any(stream.type != "audio" for stream in container.streams)
    for packet in demuxed(container) if covers else ():  # FFmpeg does not read all chained files
        if packet.stream.type != "audio":
            yield packet, None
    for block in read_blocks(recording):
        only.done += len(block)
        yield block, only
    if not only.done:
        raise no_sound(recording.path)
    notes += recording.notes


class _Sound:
    """A sound track between its decoder and its encoder."""

    def __init__(
        self, track: media.Track, target: Any, muxer: Muxer, streams: Callable[[int, int], Any]
    ) -> None:
        self._track, self._target, encoder = track, target, target.codec_context
        self._layout = encoder.layout.name  # of as many channels, in the same order
        self._stream = streams(track.rate_hz, track.channels)
        # Alone, sound begins at zero; an MP3's does not, after what its decoder leaves out.
        streams_of = track.stream.container.streams
        timed = [s for s in streams_of if not s.disposition & ATTACHED_PICTURE]
        self._alone = len(streams_of.audio if muxer.sound_only else timed) == 1
        ratio = track.rate_hz / encoder.sample_rate
        wma = encoder.frame_size if encoder.name.startswith("wma") else 0
        self._whole = round(ratio * wma)  # its length is a multiple of this
        self._written = -self._whole  # its decoder leaves out a frame
        self._begun = False  # whether it has given a packet
        self._fills = muxer.name == "avi" and not self._alone  # its sound cannot begin later
        starts = [begun(stream) for stream in timed if stream.type == "video"]
        # AVI puts a picture's start at zero, and WMA's decoder begins with its third frame.
        self._zero = round(max(starts, default=0) * track.rate_hz) + 2 * self._whole
        padding = padding_of(target, muxer, alone=self._alone)
        self._dropped = round(ratio * padding)  # of what comes first, unless that is half of all
        self._first = np.zeros((0, track.channels), np.float32)
        kept = PADDING[encoder.name] if encoder.name in UNFLUSHED else 0
        self._held = round(ratio * (wma or kept))  # and at the end
        # An encoder of AMR adds a frame when it is flushed.
        self._adds_frame = encoder.name == "libopencore_amrnb" and ratio == 1.0
        floats = encoder.format.name.startswith(("flt", "dbl"))
        self._order = muxers.OPUS_ORDER.get(track.channels) if encoder.name == "libopus" else None
        self._takes_more = floats and encoder.name not in muxers.FULL_SCALE
        self._gain = mp3_gain(encoder.bit_rate) if encoder.name == "libmp3lame" else 1.0

    def feed(self, samples: Array) -> Iterator[Any]:
        """Take in decoded samples; yield encoded packets."""
        if self._fills:
            self._fills, late = False, max(0, self._track.start - self._zero)
            spared = min(late, self._dropped)
            self._dropped -= spared
            self._written -= late - spared
        for nothing in media.silence(-self._written, self._track):
            yield from self._encode(nothing)
        first = np.concatenate([self._first, self._stream.feed(samples)])
        wait = len(first) <= 2 * self._dropped
        self._first = first if wait else first[:0]
        yield from self._encode(first[:0] if wait else first)

    def flush(self) -> Iterator[Any]:
        """End the track; yield its last packets, but none that begins behind its end."""
        start = 0 if self._alone else self._track.start
        ended = Fraction(start + self._track.done, self._track.rate_hz)
        for packet in self._flushed():
            # FFmpeg gives no duration to what only fills up an encoder's last frame.
            goes_on = packet.duration and packet.pts * packet.time_base < ended
            if goes_on or not self._begun:  # the only packet has all of the sound
                yield packet

    def _flushed(self) -> Iterator[Any]:
        rest, held = np.concatenate([self._first, self._stream.flush()]), self._held
        if self._written + len(rest) <= 2 * self._dropped:  # too much of it would be lost
            self._dropped = 0
        yield from self._encode(rest)
        if self._adds_frame:
            held = self._dropped + -self._written % self._target.codec_context.frame_size
        yield from self._encode(np.zeros((held, self._track.channels), np.float32))
        if not self._adds_frame:
            yield from self._target.encode(None)

    @property
    def frames(self) -> int:
        """Samples of the sound at its encoder's rate, as a decoder is to return them."""
        rate_hz = int(self._target.codec_context.sample_rate)
        return self._track.done * rate_hz // self._track.rate_hz

    @property
    def lost_ms(self) -> float:
        """Sound that was left out at the beginning; none where the source has padding there."""
        name, codec = self._track.stream.container.format.name, self._track.codec
        same = self._target.codec_context.codec.canonical_name == codec
        padded = name in ("aac", *muxers.UNPRIMED, *muxers.TIMED) or (name, codec) == ("mp3", "mp2")
        return 0.0 if same and padded else 1000.0 * self._dropped / self._track.rate_hz

    @property
    def added_ms(self) -> float:
        """Silence behind the sound that players do not leave out: up to a whole frame, and one."""
        added = self._whole and self._whole + -self._track.done % self._whole
        return float(1000.0 * added / self._track.rate_hz)

    @property
    def clipped(self) -> int:
        """Samples above full scale in an encoder that does not take them."""
        return 0 if self._takes_more else int(self._stream.clipped)

    def _encode(self, samples: Array) -> Iterator[Any]:
        dropped = min(max(0, self._dropped - max(0, self._written)), len(samples))
        start = 0 if self._alone else self._track.start
        at = start + self._written + dropped
        self._written += len(samples)
        if len(samples) > dropped:
            louder = samples[dropped:] * np.float32(self._gain)
            louder = louder[:, self._order] if self._order else louder
            louder = louder if self._takes_more else louder.clip(-1.0, 1.0)
            frame = frame_of(louder, self._layout, self._track.rate_hz, at)
            for packet in self._target.encode(frame):
                self._begun = True
                yield packet


class _Out:
    """A file to write, with its header; what its container does not take is left out."""

    def __init__(
        self, source: Any, tracks: list[Any], path: Path, muxer: Muxer, suffix: str
    ) -> None:
        import av

        self._source, self._tracks = source, tracks
        self._muxer, self._suffix = muxer, suffix
        options = muxer_options(source, muxer, suffix, tracks[0].codec_context.sample_rate)
        for left_out in LEFT_OUT:
            self.file = av.open(media.url_of(path), "w", format=muxer.name, options=options)
            self.targets: dict[int, Any] = {}  # streams by the source's index
            self.notes: list[str] = []
            try:
                self._add_streams(left_out)
                self.file.metadata.update(source.metadata or texts_of(source))  # Ogg has the latter
                with suppress(Exception):
                    self.file.set_chapters(source.chapters())
                self.file.start_encoding()
            except (av.error.FFmpegError, ValueError, TypeError, RuntimeError) as failure:
                error = failure
                self.close()
            else:
                return
        place = Path(source.name.rpartition("file:")[2])
        if getattr(error, "errno", None) in WRITING:
            raise _refusal(place, suffix, error)
        reason, sound = reason_of(error), tracks[0].codec_context
        if "avcodec_open2" in str(error):
            reason = f"its encoder takes no {sound.channels} channels at {sound.sample_rate} Hz"
        film = f"NAME.{'mov' if suffix == '.mkv' else 'mkv'} or " if source.streams.video else ""
        raise AudioFileError(
            f"a {suffix} does not take all of {place.name} ({reason}); choose another "
            f"format, for instance {film}NAME.wav."
        )

    def copy(self, packet: Any) -> None:
        """Write a packet of the source, unless its stream is left out."""
        if packet.stream.index in self.targets and (packet.dts is not None or packet.size):
            packet.stream = self.targets[packet.stream.index]
            self.file.mux(packet)

    def close(self) -> None:
        """Close the file; after an error its own does not matter."""
        with suppress(Exception):
            self.file.close()

    def _add_streams(self, kinds: tuple[str, ...]) -> None:
        """Add the streams to write, in order, without some `kinds`."""
        left_out: list[str] = []
        muxer = self._muxer
        family = muxer.name in self._source.format.name.split(",")
        for stream in self._source.streams:
            cover = bool(stream.disposition & ATTACHED_PICTURE)
            made_anew = self._source.chapters() or "timecode" in stream.metadata
            if stream.type == "data" and family and muxer.name in ("mp4", "mov") and made_anew:
                continue  # chapters and time codes, which are written from their lists
            if cover and muxer.name == "matroska":
                self._attach(stream)
                continue
            unfit = muxer.name not in ("mp4", "mov") if cover else muxer.sound_only
            unfit = not media.has_sound(stream) if stream.type == "audio" else unfit
            if unfit or stream.type in kinds:
                names = {"video": "picture", "audio": "a sound track that cannot be decoded"}
                left_out.append(names.get(stream.type, stream.type))
                continue
            target = self._add_stream(stream, family)
            target.disposition = stream.disposition
            self.targets[stream.index] = target
        if left_out:
            self.notes.append(f"left out: {', '.join(dict.fromkeys(left_out))}")

    def _attach(self, cover: Any) -> None:
        """Attach a cover as Matroska has it; FFmpeg reads it as a stream of one packet."""
        import av

        with av.open(self._source.name, **media.READ) as again:
            picture = bytes(next(again.demux(again.streams[cover.index])))
        kind = cover.codec_context.name.replace("mjpeg", "jpeg")
        name = cover.metadata.get("filename", f"cover.{kind.replace('jpeg', 'jpg')}")
        self.file.add_attachment(name, f"image/{kind}", picture)

    def _add_stream(self, stream: Any, family: bool) -> Any:
        metadata = dict(stream.metadata)
        if stream in self._tracks:
            named = Path(self._source.name).suffix.lower() == self._suffix
            same = named and self._source.format.name not in ("wav", "w64", "aiff", "au")
            target = add_encoder(self.file, stream, self._muxer, self.notes, same)
            metadata = {k: v for k, v in metadata.items() if not k.upper().startswith(STALE)}
        else:
            try:
                target = self.file.add_stream_from_template(stream)
            except ValueError:  # FFmpeg has no encoder of that codec, and needs none
                target = self.file.add_stream_from_template(stream, opaque=True)
            if family and stream.codec_context:
                target.codec_context.codec_tag = stream.codec_context.codec_tag
        target.metadata.update(metadata)
        return target
