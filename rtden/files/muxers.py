"""How FFmpeg writes the files of a suffix."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from rtden.files.listing import Muxer
from rtden.files.media import LOSSLESS, bit_rate_of
from rtden.types import Array

UNPRIMED = ("avi", "flv", "adts", "ac3", "eac3", "mp2", "amr")
"""Where players do not leave out what an encoder puts before the sound."""
TIMED = ("mpegts", "mpeg", "asf")
"""Where only the time stamps of a picture could tell them to."""
ENCODERS = {"opus": "libopus", "mp3": "libmp3lame", "amr_nb": "libopencore_amrnb", "vorbis": ""}
"""FFmpeg's encoders where they have other names than the codec; its own for Vorbis is not used."""
PADDING = {
    **{"aac": 1024, "mp2": 481, "ac3": 256, "eac3": 256, "libmp3lame": 1105, "nellymoser": 128},
    **{"libopencore_amrnb": 40},
}
"""Samples that FFmpeg's encoders put before the sound; of AMR it states another number."""
OPUS_ORDER = {5: [0, 1, 4, 2, 3], 7: [0, 1, 4, 3, 5, 2, 6]}
"""What makes up for FFmpeg's order of 5 and 7 channels in libopus."""
FULL_SCALE = ("aac", "ac3", "eac3")
"""FFmpeg's encoders that take floating point, but lower or distort what exceeds full scale."""
OPUS_PADDING_SECONDS = 0.0065
RATES = {
    "libopencore_amrnb": (8000,),
    **dict.fromkeys(("wmav1", "wmav2"), (8000, 11025, 16000, 22050, 32000, 44100, 48000)),
}
"""Rates of encoders that do not state theirs."""
LOWEST_BIT_RATE, GOOD_BIT_RATE = 24000, 80000
"""Of AAC and WMA, for FFmpeg's have no better profile, and of what was lossless; a channel."""
LEAST = ("aac", "wmav1", "wmav2")


def muxer_options(container: Any, muxer: Muxer, suffix: str, rate_hz: int) -> dict[str, str]:
    """Return what makes metadata survive, and QuickTime's edits exact to the sample."""
    if muxer.name == "adts" and container.metadata:
        return {"write_id3v2": "1"}
    blu_ray = any(track.codec_context.name == "pcm_bluray" for track in container.streams.audio)
    if suffix == ".m2ts" and blu_ray:  # which FFmpeg would say in a file of that name alone
        return {"mpegts_m2ts_mode": "1"}
    if muxer.name not in ("mp4", "mov", "3gp", "3g2"):
        return {}
    options = {"movie_timescale": str(rate_hz)}
    if suffix in (".m4a", ".m4b"):
        options["brand"] = "M4A "
    if any(key.startswith("com.") for key in container.metadata):  # place, make, model
        options["movflags"] = "use_metadata_tags"
    return options


def padding_of(target: Any, muxer: Muxer, *, alone: bool) -> int:
    """Return how many samples a track's encoder puts before the sound; 0 where players know."""
    primed = muxer.name not in UNPRIMED and not (alone and muxer.name in TIMED)
    context = target.codec_context
    if context.codec.name == "libopus" and not primed:
        return int(context.sample_rate * OPUS_PADDING_SECONDS)
    return 0 if primed else PADDING.get(context.codec.name, 0)


def usual_layout(channels: int) -> str:
    """Return FFmpeg's name of the usual layout of that many channels."""
    usual = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
    return usual[channels - 1] if channels <= len(usual) else f"{channels} channels"


def frame_of(samples: Array, layout: Any, rate_hz: int, at: int) -> Any:
    """Return samples, shape (samples, channels), as FFmpeg's frame that begins at sample `at`."""
    import av

    interleaved = np.ascontiguousarray(samples).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), at
    return frame


def add_encoder(out: Any, stream: Any, muxer: Muxer, notes: list[str], same: bool) -> Any:
    """Add a sound track that is encoded as a source's is, as far as it can be.

    PCM stays PCM only in the `same` kind of file, and MP3 is none in another sound file.
    """
    from av.codec import Codec

    context = stream.codec_context
    codec = context.codec.canonical_name
    wanted = ENCODERS.get(codec, codec)
    unusual = "pcm" in codec or (codec == "mp3" and muxer.sound_only)  # in an m4a, for instance
    if not _encodes(out, wanted, codec) or (unusual and not same):
        kept, wanted = wanted == muxer.codec, muxer.codec
        if same and not kept:
            notes.append(f"its sound is written as {wanted.removeprefix('lib')}, not {codec}")
    elif codec == "aac" and _is_high_efficiency(context):
        notes.append("its sound is written as AAC-LC, not HE-AAC")
    if muxer.name == "flv" and context.channels > 2:
        raise ValueError("FLV has one or two channels")  # most players take more for two tracks
    encoder, rate_hz = Codec(wanted, "w"), context.sample_rate
    if rates := encoder.audio_rates or RATES.get(wanted):
        rate_hz = min(rates, key=lambda hz: (hz < rate_hz, abs(hz - rate_hz)))
    if rate_hz < context.sample_rate:
        notes.append(f"its sample rate falls to {rate_hz} Hz, the highest that {wanted} takes")
    made = out.add_stream(wanted, rate=rate_hz, layout=_layout_for(wanted, context))
    for found in encoder.audio_formats or ():  # as fine as the source's samples, where it can be
        if found.name.rstrip("p") == context.format.name.rstrip("p"):
            made.codec_context.format = found.name
    if not wanted.startswith(LOSSLESS):
        good = GOOD_BIT_RATE * context.channels
        rate = bit_rate_of(stream) or good
        rate = rate if wanted == ENCODERS.get(codec, codec) else min(rate, good)
        lowest = LOWEST_BIT_RATE * context.channels if wanted in LEAST else 0
        made.codec_context.bit_rate = max(rate, lowest)
    return made


def _is_high_efficiency(context: Any) -> bool:
    """Return whether AAC has spectral band replication, by its decoder or its header."""
    header = bytes(context.extradata or b"\0")
    return (context.profile or "").startswith("HE") or header[0] >> 3 in (5, 29)


def _layout_for(encoder: str, context: Any) -> str:
    """Return FFmpeg's name of the channels that a decoder gives, as an encoder takes them.

    That is the usual one where the file has none, and for Opus, whose encoder takes no other.
    """
    name = str(context.layout.name)
    usual = "channels" in name or encoder == "libopus"
    return usual_layout(context.channels) if usual else name


def _encodes(out: Any, encoder: str, codec: str) -> bool:
    """Return whether an encoder exists, and the container takes its codec."""
    from av.codec import Codec

    try:
        Codec(encoder, "w")
    except ValueError:  # it is unknown
        return False
    known = out.supported_codecs
    return out.format.name in ("mpegts", "mpeg") or codec in known or encoder in known
