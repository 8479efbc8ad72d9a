"""Files that are whole although they look odd, and such as only look whole."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import numpy as np
import pytest
import soundfile
from signals import delay_samples
from sounds import Untouched, noise, sound_of

from rtden import denoise_file
from rtden.errors import AudioFileError, DamagedFileError, InputError
from rtden.files import tags
from rtden.files.audio_file import open_recording
from rtden.files.listing import Raw
from rtden.resample import load_soxr

av = pytest.importorskip("av")
RATE_HZ = 44100


def film(
    path: Path, codec: str, *, start: float, seconds: float, picture_start: float = 0.0
) -> Path:
    """Three seconds of picture from `picture_start` on, with sound from `start` on."""
    with av.open(str(path), "w") as out:
        codecs = {".mxf": "mpeg2video", ".flv": "flv"}
        picture = out.add_stream(codecs.get(path.suffix, "mpeg4"), rate=25)
        picture.width = picture.height = 64
        sound = out.add_stream(
            codec, rate=48000 if path.suffix in (".mxf", ".mkv") else RATE_HZ, layout="stereo"
        )
        sound.bit_rate = 128000
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        packets = [p for _ in range(75) for p in picture.encode(frame)] + picture.encode(None)
        for packet in packets:
            packet.dts += round(picture_start / packet.time_base)
            packet.pts = packet.dts
        samples = np.ascontiguousarray(noise(round(seconds * sound.rate)).T)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base = sound.rate, Fraction(1, sound.rate)
        frame.pts = round(start * sound.rate)
        packets += [*sound.encode(frame), *sound.encode(None)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


@pytest.mark.parametrize(("start", "seconds"), [(0.0, 2.0), (1.2, 3.0), (100.0, 2.0)])
@pytest.mark.parametrize(("suffix", "codec"), [("avi", "libmp3lame"), ("wmv", "wmav2")])
def test_sound_of_another_length_than_the_picture_is_whole(
    tmp_path: Path, suffix: str, codec: str, start: float, seconds: float
) -> None:
    path = film(tmp_path / f"in.{suffix}", codec, start=start, seconds=seconds)
    report = denoise_file(path, tmp_path / f"out.{suffix}", streams=Untouched)
    assert report.seconds == pytest.approx(seconds, abs=0.1)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(DamagedFileError, match=r"is truncated: it holds (89|90)%"):
        denoise_file(path, tmp_path / f"out.{suffix}", streams=Untouched, force=True)


def test_an_mxf_that_was_cut_off_is_truncated(tmp_path: Path) -> None:
    path = film(tmp_path / "in.mxf", "pcm_s16le", start=0.0, seconds=3.0)
    assert denoise_file(path, streams=Untouched).seconds == pytest.approx(3.0, abs=0.05)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match="is truncated"):
        denoise_file(path, streams=Untouched, force=True)


def test_wma_that_was_joined_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wma"), "w") as out:
        stream = out.add_stream("wmav2", rate=RATE_HZ, layout="stereo", bit_rate=128000)
        frame = av.AudioFrame.from_ndarray(noise().reshape(1, -1), format="flt", layout="stereo")
        frame.sample_rate = RATE_HZ
        out.mux([*stream.encode(frame), *stream.encode(None)])
    content = (tmp_path / "a.wma").read_bytes()
    at = content.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 88
    live = content[:at] + b"\1" + content[at + 1 :]  # it states no length
    for part in (content, live):
        (tmp_path / "b.wma").write_bytes(part)
        denoise_file(tmp_path / "b.wma", streams=Untouched, force=True)
        (tmp_path / "b.wma").write_bytes(part + part)
        with pytest.raises(AudioFileError, match="is several files in one"):
            denoise_file(tmp_path / "b.wma", streams=Untouched, force=True)


@pytest.mark.parametrize(("suffix", "container"), [("au", "AU"), ("sph", "NIST"), ("avr", "AVR")])
def test_a_header_behind_the_sound_is_no_sound(tmp_path: Path, suffix: str, container: str) -> None:
    path = tmp_path / f"in.{suffix}"
    soundfile.write(path, noise(8000, 1), 16000, "PCM_16", format=container)
    denoise_file(path, streams=Untouched)
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(AudioFileError, match="is several files in one"):
        denoise_file(path, streams=Untouched, force=True)


def pictures_and_sound(path: Path) -> tuple[list[float], np.ndarray]:
    """Return when the pictures of a film are shown, and its sound from time zero on."""
    with av.open(str(path)) as container:
        shown = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.size]
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    start = round(frames[0].pts * frames[0].time_base * frames[0].sample_rate)
    sound = np.concatenate([np.zeros(start), *(frame.to_ndarray()[0] for frame in frames)])
    return shown, sound


@pytest.mark.parametrize("target", ["avi", "mp4", "mkv", "flv", "wmv", "mov", "ts"])
def test_sound_that_begins_later_than_the_picture_does_so_in_every_container(
    tmp_path: Path, target: str
) -> None:
    codec = "flv" if target == "flv" else "mpeg4"
    path = film(
        tmp_path / f"in.{'flv' if codec == 'flv' else 'mkv'}", "aac", start=1.2, seconds=1.0
    )
    report = denoise_file(path, tmp_path / f"out.{target}", streams=Untouched)
    shown, before = pictures_and_sound(path)
    shown_after, after = pictures_and_sound(Path(report.target))
    shift = shown_after[0] - shown[0]
    assert len(shown_after) == len(shown)
    rate_hz = 44100 if codec == "flv" else 48000
    found = (delay_samples(after, before) / rate_hz - shift) * 1000.0
    assert abs(found) < (25.0 if target == "avi" else 2.0)  # an AVI shows pictures on a grid


@pytest.mark.parametrize(
    ("suffix", "codec", "start", "picture_start"),
    [("mkv", "aac", 1.2, 0.4), ("wmv", "wmav2", 1.2, 0.4), ("avi", "wmav2", 0.0, 0.0)],
)
def test_lips_stay_in_step_in_an_avi(
    tmp_path: Path, suffix: str, codec: str, start: float, picture_start: float
) -> None:
    path = tmp_path / f"in.{suffix}"
    film(path, codec, start=start, seconds=2.0, picture_start=picture_start)
    report = denoise_file(path, tmp_path / "out.avi", streams=Untouched)
    shown, before = pictures_and_sound(path)
    shown_after, after = pictures_and_sound(Path(report.target))
    rate_hz = 48000 if suffix == "mkv" else RATE_HZ
    shift = shown_after[0] - shown[0]
    assert shown[0] == pytest.approx(picture_start, abs=0.05)
    assert abs(delay_samples(after, before) / rate_hz - shift) < 0.025


@pytest.mark.parametrize("target", ["ts", "mp4", "mkv", "avi"])
def test_the_time_of_a_broadcast_begins_at_zero(tmp_path: Path, target: str) -> None:
    path = tmp_path / "in.ts"
    film(path, "mp2", start=0.0, seconds=3.0)
    with av.open(str(path)) as source, av.open(str(tmp_path / "late.ts"), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.pts += 90000 * 36000  # of ten hours
                packet.dts += 90000 * 36000
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    report = denoise_file(tmp_path / "late.ts", tmp_path / f"out.{target}", streams=Untouched)
    assert report.notes == ()
    shown, _ = pictures_and_sound(Path(report.target))
    assert 0.0 <= min(shown) < 2.0
    assert 2.9 < max(shown) - min(shown) < 3.1


@pytest.mark.parametrize("target", ["ts", "mp4", "mkv"])
def test_broadcasts_that_were_joined_are_one_film(tmp_path: Path, target: str) -> None:
    part = film(tmp_path / "a.ts", "mp2", start=0.0, seconds=3.0)
    (tmp_path / "in.ts").write_bytes(3 * part.read_bytes())
    report = denoise_file(tmp_path / "in.ts", tmp_path / f"out.{target}", streams=Untouched)
    assert 9.0 < report.seconds < 9.5
    with av.open(report.target) as container:
        shown = [p.pts * p.time_base for p in container.demux(video=0) if p.pts is not None]
    assert len(shown) == 3 * 75
    assert 8.9 < max(shown) - min(shown) < 9.5


def test_a_film_that_was_joined_is_refused_with_advice_that_fits(tmp_path: Path) -> None:
    part = film(tmp_path / "a.mkv", "libopus", start=0.0, seconds=3.0)
    (tmp_path / "in.mkv").write_bytes(2 * part.read_bytes())
    with pytest.raises(AudioFileError) as refused:
        denoise_file(tmp_path / "in.mkv", tmp_path / "out.mkv", streams=Untouched)
    assert str(refused.value).endswith(
        "(its time stamps go back, as in files that were joined); choose NAME.wav for its sound, "
        "or join the files anew with ffmpeg."
    )
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.mkv", "in.mkv"]
    report = denoise_file(tmp_path / "in.mkv", tmp_path / "out.wav", streams=Untouched)
    assert report.seconds == pytest.approx(6.0, abs=0.1)


def test_a_track_that_begins_late_does_no_harm(tmp_path: Path) -> None:
    path = film(tmp_path / "in.flv", "aac", start=0.0, seconds=3.0)
    whole = len(sound_of(path))
    caption = b"\2\0\12onTextData\10\0\0\0\1\0\4text\2\0\2hi\0\0\11"
    head = b"\x12" + len(caption).to_bytes(3, "big") + b"\0\5\0\0\0\0\0"
    path.write_bytes(path.read_bytes() + head + caption + (len(caption) + 11).to_bytes(4, "big"))
    assert len(sound_of(path)) == whole
    denoise_file(path, streams=Untouched)


@pytest.mark.parametrize("suffix", ["gsm", "vox", "raw", "pcm"])
def test_a_file_with_a_header_is_read_by_it_whatever_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in.{suffix}"
    soundfile.write(path, noise(16000, 1), 16000, "PCM_16", format="WAV")
    denoise_file(path, tmp_path / "out.wav", streams=Untouched)
    np.testing.assert_array_equal(sound_of(tmp_path / "out.wav"), sound_of(path))
    with pytest.raises(AudioFileError, match="leave out the rate"):
        denoise_file(path, raw=Raw(16000), streams=Untouched)


def test_what_cannot_be_opened_is_refused_in_a_sentence_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    with socket(AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.wav"))
        for name, words in (
            ("loop.wav", r"loop\.wav cannot be read \(Too many .*\); check its name\."),
            ("socket.wav", r"socket\.wav cannot be read \(.*\); name a file or a pipe\."),
        ):
            with pytest.raises(AudioFileError, match=words):
                denoise_file(tmp_path / name, tmp_path / "out.wav", streams=Untouched)
    assert not (tmp_path / "out.wav").exists()


def test_what_libsndfile_writes_into_two_files_or_not_at_all_is_not_begun(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(8000), 8000)
    with pytest.raises(AudioFileError, match=r"writes no \.sd2 files"):
        denoise_file(tmp_path / "in.wav", tmp_path / "out.sd2", streams=Untouched)
    assert [found.name for found in tmp_path.iterdir()] == ["in.wav"]
    with soundfile.SoundFile(tmp_path / "in.aiff", "w", 8000, 1, "DWVW_16") as file:
        file.write(np.arange(8000, dtype=np.int16))
    report = denoise_file(tmp_path / "in.aiff", streams=Untouched)
    assert report.notes == ("written as PCM_16, for its own codec cannot be written",)
    np.testing.assert_array_equal(sound_of(Path(report.target)), sound_of(tmp_path / "in.aiff"))


@pytest.mark.parametrize(("rate_hz", "channels"), [(384000, 1), (4000, 1), (16000, 65)])
def test_a_rate_or_channels_that_rtden_does_not_take_are_said_of_the_file(
    tmp_path: Path, rate_hz: int, channels: int
) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros((800, channels)), rate_hz)
    with pytest.raises(InputError, match=r"in\.wav cannot be denoised: .*(8000 to 192000|1 to 64)"):
        denoise_file(tmp_path / "in.wav")
    assert [found.name for found in tmp_path.iterdir()] == ["in.wav"]


def test_a_chunk_or_tag_that_would_fill_the_memory_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tags, "MOST_BYTES", 1 << 20)
    for name, container in (("in.wav", "LIST of 3 MiB"), ("in.aiff", "APPL of 3 MiB")):
        path = tmp_path / name
        soundfile.write(path, noise(8000, 1), 16000, "PCM_16")
        order = "<" if name == "in.wav" else ">"
        small, large = ((b"abcd", 100), (container[:4].encode(), 3 << 20))
        for kind, size in (small, large):
            path.write_bytes(path.read_bytes() + struct.pack(f"{order}4sI", kind, size))
            path.write_bytes(path.read_bytes() + b"x" * size)
        report = denoise_file(path, streams=Untouched)
        assert f"left out for its size: {container}" in report.notes
        written = Path(report.target).read_bytes()
        assert b"abcd" in written
        assert len(written) < 1 << 20
    path = tmp_path / "in.mp3"
    soundfile.write(path, noise(8000, 1), 16000)
    head = b"ID3\3\0\0\1\0\0\0" + bytes(2 << 20)  # a size of 7 bits a byte
    path.write_bytes(head + path.read_bytes())
    report = denoise_file(path, streams=Untouched)
    assert report.notes == ("left out for its size: ID3 of 2 MiB",)


@pytest.mark.parametrize(("suffix", "rate_hz"), [("wve", 16000), ("8svx", 96000), ("xi", 8000)])
def test_a_container_that_cannot_state_the_rate_is_refused_before_the_work(
    tmp_path: Path, suffix: str, rate_hz: int
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(8000, 1), rate_hz)
    with pytest.raises(AudioFileError, match=rf"played at \d+ Hz instead of {rate_hz}\); choose"):
        denoise_file(tmp_path / "in.wav", tmp_path / f"out.{suffix}", streams=Untouched)
    assert [found.name for found in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize(("rate_hz", "own_hz"), [(11025, 12000), (22050, 24000), (44100, 48000)])
def test_sound_of_a_rate_that_opus_lacks_is_resampled(
    tmp_path: Path, rate_hz: int, own_hz: int
) -> None:
    low = np.convolve(noise(rate_hz, 1)[:, 0], np.ones(8) / 3.0, "same")
    with soundfile.SoundFile(tmp_path / "in.flac", "w", rate_hz, 1) as file:
        file.title = "Take 1"
        file.write(low)
    report = denoise_file(tmp_path / "in.flac", tmp_path / "out.opus", streams=Untouched)
    assert report.notes == ()
    with soundfile.SoundFile(report.target) as file:
        assert (file.samplerate, file.subtype, file.title) == (own_hz, "OPUS", "Take 1")
    after = sound_of(Path(report.target))[:, 0]
    before = load_soxr().resample(low, rate_hz, own_hz)
    assert abs(len(after) - len(before)) <= 1
    assert delay_samples(after[: len(before)], before[: len(after)]) == 0


@pytest.mark.parametrize(
    "suffix",
    ["mka", "webm", "mp4", "wma", "flac", "opus", "mp3", "aac", "ac3", "eac3", "ts", "m2ts", "mpg",
     "avi", "flv"],
)  # fmt: skip
@pytest.mark.parametrize("frames", [1, 100, 900, 1500, 3000])
def test_a_file_of_some_samples_is_denoised_and_its_result_again(
    tmp_path: Path, suffix: str, frames: int
) -> None:
    soundfile.write(tmp_path / "in.wav", np.full((frames, 2), 0.5), 48000)
    first = denoise_file(tmp_path / "in.wav", tmp_path / f"a.{suffix}", streams=Untouched).target
    again = denoise_file(first, tmp_path / f"b.{suffix}", streams=Untouched).target
    assert len(sound_of(Path(again))) >= frames
    # No more than half is lost to an encoder whose padding players do not leave out.
    assert np.count_nonzero(np.abs(sound_of(Path(first))[:, 0]) > 0.2) >= frames / 2


@pytest.mark.parametrize("suffix", ["m4a", "mkv", "ts", "wv", "aac"])
def test_no_film_is_made_of_no_sample(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros((0, 2)), RATE_HZ)
    with pytest.raises(AudioFileError, match=r"in\.wav has no sound"):
        denoise_file(tmp_path / "in.wav", tmp_path / f"out.{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
def test_an_amr_of_some_samples_has_them(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "in.wav", np.full(100, 0.5), rate_hz)
    denoise_file(tmp_path / "in.wav", tmp_path / "a.amr", streams=Untouched)
    assert len(sound_of(tmp_path / "a.amr")) == 160


@pytest.mark.parametrize(("at", "zeros"), [(0.5, 4096), (0.5, 1 << 20), (1.0, 4096), (0.0, 4096)])
@pytest.mark.parametrize("target", ["wav", "ts"])
def test_zeros_in_a_broadcast_do_not_end_it(
    tmp_path: Path, at: float, zeros: int, target: str
) -> None:
    path = film(tmp_path / "in.ts", "aac", start=0.0, seconds=1.0)
    whole = denoise_file(path, tmp_path / f"whole.{target}", streams=Untouched)
    content = path.read_bytes()
    cut = int(at * len(content)) // 188 * 188
    path.write_bytes(content[:cut] + bytes(zeros) + content[cut:])
    report = denoise_file(path, tmp_path / f"out.{target}", streams=Untouched)
    assert report.seconds == whole.seconds
    np.testing.assert_array_equal(sound_of(Path(report.target)), sound_of(Path(whole.target)))


@pytest.mark.parametrize("layouts", [("stereo", "5.1"), ("5.1", "mono"), ("quad", "4.0")])
def test_channels_that_change_in_a_broadcast_become_those_of_its_beginning(
    tmp_path: Path, layouts: tuple[str, str]
) -> None:
    content = b""
    for layout in layouts:
        with av.open(str(tmp_path / "part.ac3"), "w") as out:
            stream = out.add_stream("ac3", rate=48000, layout=layout)
            channels = stream.codec_context.channels
            samples = np.ascontiguousarray(noise(48000, channels).T)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = 48000, 0
            out.mux([*stream.encode(frame), *stream.encode(None)])
        content += (tmp_path / "part.ac3").read_bytes()
    (tmp_path / "in.ac3").write_bytes(content)
    report = denoise_file(tmp_path / "in.ac3", tmp_path / "out.wav", streams=Untouched)
    after = sound_of(Path(report.target))
    assert len(after) == pytest.approx(96000, abs=2 * 1536)
    assert after[:40000].std() > 0.02
    assert after[-40000:].std() > 0.02
    assert len(report.notes) == (layouts != ("quad", "4.0"))


@pytest.mark.parametrize(
    ("frames", "rate_hz", "name"),
    [(0, 8000, "out.flac"), (0, 8000, "out.mp3"), (0, 8000, "out.opus"), (0, 8000, "out.gsm"),
     (0, 8000, "out.voc"), (0, 8000, "out.raw"), (1, RATE_HZ, "out.mka"), (1, RATE_HZ, "out.opus"),
     (100, RATE_HZ, "out.mp2")],
)  # fmt: skip
def test_a_result_that_nothing_reads_is_not_made(
    tmp_path: Path, frames: int, rate_hz: int, name: str
) -> None:
    soundfile.write(tmp_path / "in.wav", np.full(frames, 0.5), rate_hz)
    sentence = "was not made: what was written cannot be read again; choose another format"
    with pytest.raises(AudioFileError, match=f"{name} {sentence}"):
        denoise_file(tmp_path / "in.wav", tmp_path / name, streams=Untouched)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize("name", ["out.mp3", "out.wav", "out.m4a", "out.mkv"])
def test_a_result_that_lacks_a_part_is_not_made(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if its encoder had failed without a word."""
    soundfile.write(tmp_path / "in.wav", noise(70000), RATE_HZ)

    @contextmanager
    def shorter(*args: Any, **options: Any) -> Iterator[Any]:
        with open_recording(*args, **options) as recording:
            whole = recording.blocks
            recording.frames -= 20
            recording.blocks = lambda frames: (block[:-20] for block in whole(frames))
            yield recording

    monkeypatch.setattr("rtden.files.writing.open_recording", shorter)
    with pytest.raises(AudioFileError, match=rf"{name} was not made: .* holds \d+ of \d+ samples"):
        denoise_file(tmp_path / "in.wav", tmp_path / name, streams=Untouched)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize(
    ("name", "lost_ms"),
    [("out.aac", 23), ("out.mp2", 11), ("out.ac3", 6), ("out.avi", 25), ("out.m4a", 0),
     ("out.wv", 0)],
)  # fmt: skip
def test_what_an_encoder_puts_before_the_sound_is_said_once(
    tmp_path: Path, name: str, lost_ms: int
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(20000), RATE_HZ)
    first = denoise_file(tmp_path / "in.wav", tmp_path / name, streams=Untouched)
    said = [note for note in first.notes if f"its first {lost_ms} ms gave way" in note]
    assert len(said) == len(first.notes) == bool(lost_ms)
    assert denoise_file(first.target, streams=Untouched).notes == ()  # it has that itself


ID3 = b"ID3\4\0\0\0\0\7\x68" + bytes(1000)


@pytest.mark.parametrize("name", ["in.g722", "in.sbc", "in.wve", "in.voc", "in.w64", "in.wav"])
def test_a_tag_before_any_kind_of_sound_is_no_sound(tmp_path: Path, name: str) -> None:
    path, target = tmp_path / name, tmp_path / "out.wav"
    if path.suffix in (".g722", ".sbc"):
        with av.open(str(path), "w") as out:
            stream = out.add_stream(path.suffix[1:], rate=16000, layout="mono", bit_rate=128000)
            frame = av.AudioFrame.from_ndarray(noise(16000, 1).T.copy(), "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, 0
            out.mux([*stream.encode(frame), *stream.encode(None)])
    else:
        soundfile.write(path, noise(16000, 1), 8000, format=path.suffix[1:])
    untagged = sound_of(path)
    path.write_bytes(ID3 + path.read_bytes())
    np.testing.assert_array_equal(sound_of(path), untagged)
    denoise_file(path, target, streams=Untouched)
    assert soundfile.info(target).frames == len(untagged) >= 16000
    if path.suffix in (".w64", ".wav"):
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(DamagedFileError, match="truncated"):
            sound_of(path)


@pytest.mark.parametrize("behind", [bytes(5000), b"\7" * 5000])
def test_what_follows_the_end_of_a_voc_is_no_sound(tmp_path: Path, behind: bytes) -> None:
    path = tmp_path / "in.voc"
    soundfile.write(path, noise(20000, 1), 8000, "PCM_16")
    path.write_bytes(path.read_bytes() + behind)
    np.testing.assert_allclose(sound_of(path), noise(20000, 1), atol=4e-5)


def test_what_follows_the_chunks_is_not_called_too_large(tmp_path: Path) -> None:
    path = tmp_path / "in.aiff"
    soundfile.write(path, noise(), RATE_HZ)
    path.write_bytes(path.read_bytes() + b"TAG".ljust(128, b"x"))
    notes = denoise_file(path, streams=Untouched).notes
    assert notes == ("left out: ID3 or APE tags around the sound",)


@pytest.mark.parametrize("name", ["in.amr", "in.wv", "in.caf", "in.mka", "in.wma", "in.ac3"])
def test_a_tag_that_ffmpeg_does_not_skip_is_skipped(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(tmp_path / "in.wav", noise(16000, 1), 8000)
    denoise_file(tmp_path / "in.wav", path, streams=Untouched)
    untagged = sound_of(path)
    path.write_bytes(ID3 + path.read_bytes())
    np.testing.assert_array_equal(sound_of(path), untagged)


ID3V1 = b"TAG".ljust(128, b"x")
APE = struct.pack("<II", 3, 0) + b"Key\0abc"
APE += b"APETAGEX" + struct.pack("<IIII", 2000, len(APE) + 32, 1, 0) + bytes(8)  # its footer
LYRICS = b"LYRICSBEGIN" + b"la" * 40
TAGS_BEHIND = {
    "ape": APE,
    "lyrics": LYRICS + b"%06d" % len(LYRICS) + b"LYRICS200" + ID3V1,
    "id3": b"ID3\4\0\x10\0\0\0\x50" + bytes(80) + b"3DI\4\0\x10\0\0\0\x50",
    "ape and id3": APE + ID3V1,
}


@pytest.mark.parametrize("behind", TAGS_BEHIND)
@pytest.mark.parametrize(
    "name", ["in.ac3", "in.g722", "in.au", "in.gsm", "in.mp2", "in.aac", "in.flac", "in.ircam"]
)
def test_tags_behind_any_kind_of_sound_are_no_sound_and_said(
    tmp_path: Path, name: str, behind: str
) -> None:
    path = tmp_path / name
    soundfile.write(tmp_path / "in.wav", noise(16000, 1), 8000)
    if name == "in.g722":
        path.write_bytes(np.random.default_rng(0).bytes(8000))
    else:
        denoise_file(tmp_path / "in.wav", path, streams=Untouched)
    untagged = sound_of(path)
    path.write_bytes(path.read_bytes() + TAGS_BEHIND[behind])
    np.testing.assert_array_equal(sound_of(path), untagged)
    for target in ("out.wav", "out.m4a"):
        notes = denoise_file(path, tmp_path / target, streams=Untouched, force=True).notes
        known = target == "out.m4a" and path.suffix in (".mp2", ".aac")  # FFmpeg reads them
        assert known or "ID3 or APE tags" in notes[0]
        assert not [note for note in notes if "missing" in note]


@pytest.mark.parametrize("before", [b"\r\n", b"\xef\xbb\xbf", bytes(1000)], ids=len)
@pytest.mark.parametrize("name", ["in.flac", "in.wav", "in.aiff"])
def test_blanks_that_a_server_put_before_a_file_are_no_sound(
    tmp_path: Path, name: str, before: bytes
) -> None:
    soundfile.write(tmp_path / name, noise(16000, 1), 8000, "PCM_16")
    whole = sound_of(tmp_path / name)
    (tmp_path / name).write_bytes(before + (tmp_path / name).read_bytes())
    np.testing.assert_array_equal(sound_of(tmp_path / name), whole)


@pytest.mark.parametrize(
    "name", ["in.mp3", "in", "in.ac3", "in.m4a", "in.mka", "in.wma", "in.wv", "in.aac"]
)
def test_what_is_no_pcm_is_not_read_as_such(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "in.wav", noise(20000, 1), 16000)
    made = tmp_path / (name if "." in name else "in.mp3")
    denoise_file(tmp_path / "in.wav", made, streams=Untouched)
    made.rename(tmp_path / name)
    with pytest.raises(AudioFileError, match="leave out the rate"):
        denoise_file(tmp_path / name, tmp_path / "out.wav", streams=Untouched, raw=Raw(16000))
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize("target", ["out.mov", "out.mkv", "out.wav"])
def test_a_time_code_stays_or_is_said_to_be_lost(tmp_path: Path, target: str) -> None:
    film(tmp_path / "plain.mkv", "aac", start=0.0, seconds=3.0)
    path = tmp_path / "in.mkv"
    with av.open(str(tmp_path / "plain.mkv")) as source, av.open(str(path), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in source.streams]
        streams[0].metadata["timecode"] = "10:00:00:00"
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    report = denoise_file(path, tmp_path / target, streams=Untouched)
    with av.open(report.target) as made:
        kept = "10:00:00:00" in [code for each in made.streams for code in each.metadata.values()]
    assert kept == (target != "out.wav")
    assert ("left out of its tags: timecode" in report.notes) == (not kept)


@pytest.mark.parametrize(("suffix", "kind"), [("ul", "mulaw"), ("al", "alaw"), ("ub", "u8")])
def test_what_has_no_header_has_no_rate_by_its_suffix(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    subtypes = {"mulaw": "ULAW", "alaw": "ALAW", "u8": "PCM_U8"}
    path = tmp_path / f"in.{suffix}"
    soundfile.write(path, noise(16000, 1), 8000, subtypes[kind], format="RAW")
    with pytest.raises(AudioFileError, match=r"reads it with --rate, --channels and --format"):
        denoise_file(path, tmp_path / "out.wav", streams=Untouched)
    report = denoise_file(path, tmp_path / "out.wav", streams=Untouched, raw=Raw(8000, 1, kind))
    assert report.seconds == 2.0


@pytest.mark.parametrize("behind", [ID3V1, bytes(5000)], ids=["tag", "zeros"])
@pytest.mark.parametrize(
    "name", ["in.wv", "in.mka", "in.mp3", "in.mp2", "in.aac", "in.tta", "in.flv", "in.ts"]
)
def test_what_follows_the_last_frame_is_no_cut(tmp_path: Path, name: str, behind: bytes) -> None:
    path = tmp_path / name
    soundfile.write(tmp_path / "in.wav", noise(20000), RATE_HZ)
    denoise_file(tmp_path / "in.wav", path, streams=Untouched)
    before = sound_of(path)
    whole = path.read_bytes()
    path.write_bytes(whole + behind)
    notes = denoise_file(path, streams=Untouched).notes
    assert [note for note in notes if not note.startswith("left out")] == []
    np.testing.assert_array_equal(sound_of(path), before)
