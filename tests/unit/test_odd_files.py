"""Files that are whole although they look odd, and such as only look whole."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from socket import AF_UNIX, socket

import numpy as np
import pytest
import soundfile
from sounds import Untouched, noise, sound_of

from rtden import denoise_file
from rtden.errors import AudioFileError, DamagedFileError, InputError
from rtden.files.listing import Raw

av = pytest.importorskip("av")
RATE_HZ = 44100


def film(path: Path, codec: str, *, start: float, seconds: float) -> Path:
    """Three seconds of picture, with sound from `start` on."""
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
    with pytest.raises(AudioFileError, match="leave out --rate"):
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
    with pytest.raises(AudioFileError, match=r"nothing writes \.sd2 files"):
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
