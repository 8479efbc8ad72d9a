"""Files that were cut off, or have a hole: what is lost is said, and becomes silence."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from signals import delay_samples
from sounds import FRAMES, RATE_HZ, Untouched, encoded, noise, sound_of

from rtden import denoise_file
from rtden.errors import AudioFileError, DamagedFileError
from rtden.files.containers import Window
from rtden.files.listing import Raw

av = pytest.importorskip("av")

CUT_OFF = "its end is missing: it was cut off, or is still being written"


def sound_by_ffmpeg(path: Path) -> np.ndarray:
    """Return what its decoder makes of a file's whole packets, mono."""
    parts = []
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            with contextlib.suppress(av.error.InvalidDataError):
                parts += [frame.to_ndarray()[0] for frame in packet.decode()]
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.ogv", "libopus"), ("a.ac3", "ac3"), ("a.eac3", "eac3"), ("a.mp2", "mp2"),
     ("a.aac", "aac"), ("a.ts", "aac"), ("a.mpg", "mp2"), ("a.mp3", "libmp3lame")],
)  # fmt: skip
def test_the_cut_end_of_a_file_that_states_no_length_is_said(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = tmp_path / name
    container = {"write_xing": "0"} if path.suffix == ".mp3" else {}
    encoded(path, codec, frames=72000, container=container)  # a page of Ogg has a second
    whole = path.read_bytes()
    for content in (whole, whole[: len(whole) * 5 // 7 - 101]):
        path.write_bytes(content)
        for target in ("out.wav", f"out{path.suffix}"):
            report = denoise_file(path, tmp_path / target, streams=Untouched, force=True)
            assert (CUT_OFF in report.notes) == (content != whole)
        frames = len(sound_by_ffmpeg(path))
        assert soundfile.info(tmp_path / "out.wav").frames == frames > 35250


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [("a.sbc", "sbc", 48000), ("a.aac", "aac", 48000), ("a.amr", "libopencore_amrnb", 8000),
     ("a.gsm", "", 8000)],
)  # fmt: skip
def test_a_cut_in_the_last_frame_is_said_and_one_in_the_first_is_refused(
    tmp_path: Path, name: str, codec: str, rate_hz: int
) -> None:
    path, target = tmp_path / name, tmp_path / "out.wav"
    samples = noise(rate_hz, 1)
    if not codec:
        soundfile.write(path, samples, rate_hz, "GSM610", format="RAW")
    elif codec == "libopencore_amrnb":
        soundfile.write(tmp_path / "in.wav", samples, rate_hz)
        denoise_file(tmp_path / "in.wav", path, streams=Untouched)
    else:
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=rate_hz, layout="mono", bit_rate=128000)
            frame = av.AudioFrame.from_ndarray(samples.T.copy(), "fltp", "mono")
            frame.sample_rate, frame.pts = rate_hz, 0
            out.mux([*stream.encode(frame), *stream.encode(None)])
    whole = path.read_bytes()
    lengths = []
    for content in (whole, whole[:-1], whole[: len(whole) // 2 - 11]):
        path.write_bytes(content)
        report = denoise_file(path, target, streams=Untouched, force=True)
        assert (CUT_OFF in report.notes) == (content != whole)
        lengths.append(soundfile.info(target).frames)
    assert lengths == sorted(lengths, reverse=True)
    for length in (3, 6):
        path.write_bytes(whole[:length])
        with pytest.raises(AudioFileError, match="it may be damaged or cut off: copy it again"):
            denoise_file(path, target, streams=Untouched, force=True)


@pytest.mark.parametrize(
    "head", [b".snd", b".SoX", b"2BIT", b"NIST_1A\n", b"fLaC", b"\xff\xfb\x90\x64"]
)
@pytest.mark.parametrize("name", ["in", "in.wav", "in.mp3", "in.flac"])
def test_less_than_a_header_is_refused_in_a_sentence(
    tmp_path: Path, name: str, head: bytes
) -> None:
    pytest.importorskip("av")
    for behind in (*(bytes(size) for size in (0, 1, 4, 8, 17, 26)), bytes(220) + b"Xing"):
        (tmp_path / name).write_bytes(head + behind)
        with pytest.raises(AudioFileError):
            denoise_file(tmp_path / name, tmp_path / "out.wav", streams=Untouched)
    assert not (tmp_path / "out.wav").exists()


def test_a_sox_file_that_was_cut_off_or_joined_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    sound = (noise(8000) * 2.0**31).astype("<i4").tobytes()
    content = b".SoX" + struct.pack("<IQdII", 28, 16000, 44100.0, 2, 0) + sound
    (tmp_path / "in.sox").write_bytes(content)
    np.testing.assert_allclose(sound_of(tmp_path / "in.sox"), noise(8000), atol=1e-6)
    for wrong, words in ((content[:-30000], "holds 53%"), (2 * content, "several files in one")):
        (tmp_path / "in.sox").write_bytes(wrong)
        with pytest.raises(AudioFileError, match=words):
            sound_of(tmp_path / "in.sox")


@pytest.mark.parametrize("name", ["a.sph", "a.avr", "a.svx", "a.caf", "a.aiff", "a.w64", "a.rf64"])
def test_a_header_that_promises_more_is_believed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    kinds = {"sph": "NIST", "rf64": "RF64"}
    soundfile.write(path, noise(channels=1), 8000, "PCM_16", format=kinds.get(path.suffix[1:]))
    whole = path.read_bytes()
    np.testing.assert_allclose(sound_of(path), noise(channels=1), atol=4e-5)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedFileError, match=r"is truncated: it holds (4\d|50)%"):
        sound_of(path)


@pytest.mark.parametrize(
    "name",
    ["a.wav", "a.aiff", "a.w64", "a.caf", "a.m4a", "a.mov", "a.tta", "a.flv", "a.swf", "a.wv"],
)
def test_of_joined_files_none_is_dropped_without_a_word(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix in (".m4a", ".mov", ".tta", ".flv", ".swf", ".wv"):
        codecs = {".tta": "tta", ".swf": "libmp3lame", ".wv": "wavpack"}
        encoded(path, codecs.get(path.suffix, "aac"), rate_hz=44100)
    else:
        soundfile.write(path, noise(48000), RATE_HZ, "PCM_16")
    assert len(sound_of(path)) >= 48000
    content = path.read_bytes()
    if path.suffix == ".wv":  # FFmpeg reads nothing behind a tag
        content += b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)
    path.write_bytes(content + content[36 if path.suffix == ".wav" else 0 :])  # sound twice
    for target in ("out.wav", f"out{path.suffix}".replace("swf", "m4a")):
        with pytest.raises(AudioFileError, match="is several files in one; split them"):
            denoise_file(path, tmp_path / target, streams=Untouched)


def test_a_flash_file_that_is_cut_off_or_compressed_is_said_to_lack_its_end(
    tmp_path: Path,
) -> None:
    path = tmp_path / "in.swf"
    encoded(path, "libmp3lame", rate_hz=44100)
    whole = path.read_bytes()
    compressed = b"CWS" + whole[3:8] + zlib.compress(whole[8:])
    for content in (whole, whole[: len(whole) * 2 // 3], compressed):
        path.write_bytes(content)
        report = denoise_file(path, tmp_path / "out.wav", streams=Untouched, force=True)
        assert report.notes == ((CUT_OFF,) if content != whole else ())
        assert (report.seconds * 44100 >= 48000) == (content == whole)
    path.write_bytes(2 * compressed)
    with pytest.raises(AudioFileError, match="is several files in one; split them"):
        sound_of(path)


@pytest.mark.parametrize(("name", "kind"), [("a.8svx", "SVX"), ("a.voc", "VOC")])
def test_joined_files_of_old_computers_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(7000, 1), 8000, "PCM_16", format=kind)
    assert len(sound_of(path)) == 7000
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(AudioFileError, match="is several files in one; split them"):
        sound_of(path)


class Pipe(io.BytesIO):
    """A file in which nothing that was written can be written again."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError


@pytest.mark.parametrize(
    ("name", "codec", "cut_is_seen"),
    [("matroska", "libopus", True), ("webm", "libopus", True), ("flv", "libmp3lame", True),
     ("asf", "wmav2", True), ("avi", "libmp3lame", False), ("w64", "pcm_s16le", False),
     ("caf", "pcm_s16be", False), ("au", "pcm_s16be", False)],
)  # fmt: skip
def test_what_came_through_a_pipe_without_a_length_is_read_to_its_end(
    tmp_path: Path, name: str, codec: str, cut_is_seen: bool
) -> None:
    pipe, path = Pipe(), tmp_path / f"in.{name.replace('asf', 'wma')[:4]}"
    rate_hz = 44100 if name == "flv" else 48000
    with av.open(pipe, "w", format=name) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="stereo", bit_rate=128000)
        frame = av.AudioFrame.from_ndarray(noise(96000).reshape(1, -1), "flt", "stereo")
        frame.sample_rate, frame.pts = rate_hz, 0
        out.mux([*stream.encode(frame), *stream.encode(None)])
    path.write_bytes(pipe.getvalue())
    report = denoise_file(path, tmp_path / "out.wav", streams=Untouched)
    assert report.notes == ()
    assert abs(soundfile.info(report.target).frames - 96000) <= 2048
    path.write_bytes(pipe.getvalue()[: len(pipe.getvalue()) * 3 // 4])
    report = denoise_file(path, tmp_path / "out.wav", streams=Untouched, force=True)
    assert (report.notes == (CUT_OFF,)) == cut_is_seen


def test_a_chained_file_whose_second_part_is_no_sound_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "in.ogg"
    soundfile.write(path, noise(), RATE_HZ)
    whole = path.read_bytes()
    path.write_bytes(whole + whole.replace(b"vorbis", b"varbis"))
    with pytest.raises(DamagedFileError, match=r"is damaged after 0\.7 s"):
        denoise_file(path, streams=Untouched)


def test_what_cannot_be_read_to_its_end_is_not_called_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.flac"
    soundfile.write(path, noise(), RATE_HZ)
    path.write_bytes(2 * path.read_bytes())  # so that it is read by Window
    given = Window.readinto

    def failing(window: Window, buffer: bytearray) -> int:
        if window.tell() > path.stat().st_size // 3:
            window.error = OSError(5, "Input/output error")
            return 0
        return given(window, buffer)

    monkeypatch.setattr(Window, "readinto", failing)
    with pytest.raises(AudioFileError, match=r"cannot be read to its end \(Input/output error\)"):
        denoise_file(path, streams=Untouched)
    assert [*tmp_path.iterdir()] == [path]


def test_a_rest_of_raw_pcm_is_said(tmp_path: Path) -> None:
    path, raw = tmp_path / "in.raw", Raw(8000, 2, "s24le")
    path.write_bytes(bytes(601))
    report = denoise_file(path, tmp_path / "out.wav", raw=raw, streams=Untouched)
    assert report.notes == (CUT_OFF,)
    assert soundfile.info(report.target).frames == 100
    path.write_bytes(bytes(5))
    with pytest.raises(AudioFileError, match="no sound that can be decoded"):
        denoise_file(path, raw=raw, streams=Untouched)


def test_a_tag_before_sound_without_a_header_is_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "in.gsm"
    soundfile.write(path, noise(channels=1), 8000, "GSM610", format="RAW")
    untagged = sound_of(path)
    path.write_bytes(b"ID3\4\0\0\0\0\0\x64" + bytes(100) + path.read_bytes())
    np.testing.assert_array_equal(sound_of(path), untagged)


def test_zeros_behind_a_tta_are_no_second_one(tmp_path: Path) -> None:
    path = tmp_path / "in.tta"
    encoded(path, "tta")
    frames = len(sound_of(path))
    with path.open("ab") as file:
        file.write(bytes(10000))
    assert len(sound_of(path)) == frames


@pytest.mark.parametrize("codec", ["mp2", "libmp3lame"])
def test_mpeg_audio_that_is_damaged_in_a_wav_is_called_so(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "in.wav"
    encoded(path, codec)
    content = bytearray(path.read_bytes())
    half, noisy = len(content) // 2, np.random.default_rng(0).bytes(len(content) // 4)
    content[half : half + len(noisy)] = noisy
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"is truncated: it holds \d\d%"):
        denoise_file(path, tmp_path / "out.wav", streams=Untouched)


def test_an_amr_stays_as_long_as_it_is_and_in_step(tmp_path: Path) -> None:
    samples = np.convolve(noise(16000, 1)[:, 0], np.ones(8), "same")
    soundfile.write(tmp_path / "in.wav", samples, 8000)
    first = denoise_file(tmp_path / "in.wav", tmp_path / "in.amr", streams=Untouched)
    before = sound_of(Path(first.target))
    after = sound_of(Path(denoise_file(first.target, streams=Untouched).target))
    assert len(before) == len(after) == 16000
    assert abs(delay_samples(after[:, 0], before[:, 0])) <= 1


def test_a_codec_that_nothing_decodes_in_a_wav_is_called_so(tmp_path: Path) -> None:
    encoded(tmp_path / "in.wav", "aac")
    with pytest.raises(AudioFileError, match="is a WAV of aac, which nothing decodes there"):
        denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", streams=Untouched)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mka", "libopus"), ("a.m4a", "aac"), ("a.flv", "aac"), ("a.ts", "aac"), ("a.mpg", "mp2"),
     ("a.wma", "wmav2")],
)  # fmt: skip
def test_a_hole_becomes_silence_and_is_said(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    clusters = {"cluster_time_limit": "200"} if path.suffix == ".mka" else {}
    encoded(path, codec, rate_hz=44100 if codec == "aac" else 48000, container=clusters)
    whole = len(sound_of(path))
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half : half + 3000] = bytes(3000)
    path.write_bytes(content)
    for target in ("out.wav", f"out{path.suffix}"):
        report = denoise_file(path, tmp_path / target, streams=Untouched)
        assert "s of its sound are missing: now silence" in " ".join(report.notes)
        assert abs(len(sound_of(tmp_path / target)) - whole) < 5000


def test_an_mp3_of_free_format_without_a_count_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "in.mp3"
    encoded(path, "libmp3lame", container={"write_xing": "0", "id3v2_version": "0"}, b="128000")
    usual = sound_of(path)
    content = bytearray(path.read_bytes())
    assert content[2] & 0xF2 == 0x90  # 128 kbit/s: at 48 kHz frames of 384 bytes, without padding
    for at in range(2, len(content), 384):
        content[at] &= 0x0F
    path.write_bytes(content)
    free = sound_of(path)
    assert abs(len(free) - len(usual)) <= 1152
    assert len(free) == len(content) // 384 * 1152
    path.write_bytes(content[: len(content) // 2 + 100])
    with pytest.raises(DamagedFileError, match="truncated"):
        sound_of(path)


def test_the_blocks_of_a_voc_are_no_sound(tmp_path: Path) -> None:
    path, samples = tmp_path / "in.voc", noise(20000, 1)
    soundfile.write(path, samples, RATE_HZ, "PCM_16")
    assert np.array_equal(sound_of(path), soundfile.read(path, always_2d=True)[0])
    pcm = (32767.0 * samples).astype("<i2").tobytes()
    sized = [struct.pack("<I", len(part) << 8 | 2) + part for part in (pcm[:9000], pcm[9000:])]
    start = path.read_bytes()[:26] + b"\x09\x0c\0\0"
    start += struct.pack("<IBBHI", RATE_HZ, 16, 1, 4, 0)
    path.write_bytes(start + b"".join(sized) + b"\0")
    assert np.array_equal(sound_of(path)[:, 0], np.frombuffer(pcm, "<i2") / np.float32(32768.0))
    path.write_bytes((start + b"".join(sized))[:-9000])
    with pytest.raises(DamagedFileError, match="truncated"):
        sound_of(path)


def test_a_file_with_the_name_of_another_kind_is_written_as_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "in.m4a"
    soundfile.write(path, noise(), RATE_HZ, "PCM_16", format="WAV")
    target = denoise_file(path, streams=Untouched).target
    with av.open(target) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    path = tmp_path / "in.ogg"
    soundfile.write(path, noise(), RATE_HZ, "PCM_16", format="FLAC")
    report = denoise_file(path, streams=Untouched)
    assert soundfile.info(report.target).format == "OGG"
    assert report.notes == ("it is FLAC in spite of its name; written as OGG",)


def test_time_stamps_that_jump_do_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "in.mka"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libopus", rate=48000, layout="stereo")
        for start in (0, 48000 * 9000):
            frame = av.AudioFrame.from_ndarray(noise(960).T.copy(), "fltp", "stereo")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for target in ("out.wav", "out.mka"):
        with pytest.raises(DamagedFileError, match=r"no sound for \d+ s after .*; split it there"):
            denoise_file(path, tmp_path / target, streams=Untouched)
    assert [*tmp_path.iterdir()] == [path]


def test_tags_that_are_damaged_do_no_harm(tmp_path: Path) -> None:
    endless, picture = b"\0\0\0\0\xff\xff\xff\xff", b"\1\0\0\0" + b"METADATA_BLOCK_PICTURE=x"
    comments = b"\0\0\0\0\1\0\0\0" + struct.pack("<I", len(picture) - 4) + picture[4:]
    for name, content in (("endless", endless), ("picture", comments)):
        path = tmp_path / f"{name}.flac"
        soundfile.write(path, noise(), RATE_HZ)
        plain = path.read_bytes()
        block = b"\4" + len(content).to_bytes(3, "big") + content
        path.write_bytes(plain[:42] + block + plain[42:])
        denoise_file(path, tmp_path / f"{name}.out.flac", streams=Untouched)
        assert len(sound_of(tmp_path / f"{name}.out.flac")) == FRAMES
    path = tmp_path / "in.w64"
    soundfile.write(path, noise(), RATE_HZ, "PCM_16")
    summary = b"list" + bytes.fromhex("2f91cf11a5d628db04c10000") + struct.pack("<q", 1 << 62)
    path.write_bytes(path.read_bytes() + bytes(-path.stat().st_size % 8) + summary)
    denoise_file(path, tmp_path / "out.wav", streams=Untouched)
    assert len(sound_of(tmp_path / "out.wav")) == FRAMES
