"""Headers that promise another length than there is, joined files, and levels: nothing is lost."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from signals import delay_samples
from sounds import FRAMES, RATE_HZ, Untouched, encoded, noise, sound_of

from rtden import denoise_file
from rtden.errors import AudioFileError
from rtden.files.audio_file import open_recording
from rtden.files.containers import state_frames
from rtden.files.endings import mp3_frame_size
from rtden.resample import load_soxr
from rtden.settings import Settings


def made(path: Path, subtype: str = "PCM_16", samples: np.ndarray | None = None) -> bytes:
    """Write noise to a file; return its bytes."""
    soundfile.write(path, noise() if samples is None else samples, RATE_HZ, subtype)
    return path.read_bytes()


def flac(total: int, content: bytes) -> bytes:
    stated = (int.from_bytes(content[21:26], "big") >> 36 << 36 | total).to_bytes(5, "big")
    return content[:21] + stated + content[26:]


@pytest.mark.parametrize("total", [0, 1, 4096, 30000])
@pytest.mark.parametrize("behind", [b"", b"\xff\xf8\x12 no frame of FLAC" * 999])
def test_a_flac_that_states_less_than_it_holds_is_read_to_its_end(
    tmp_path: Path, total: int, behind: bytes
) -> None:
    path = tmp_path / "in.flac"
    path.write_bytes(flac(total if not behind else FRAMES, made(path)) + behind)
    np.testing.assert_allclose(sound_of(path), noise(), atol=4e-5)
    report = denoise_file(path, streams=Untouched)
    np.testing.assert_allclose(sound_of(Path(report.target)), noise(), atol=4e-5)
    assert ("goes on" in "".join(report.notes)) == (total > 0 and not behind)


def test_a_flac_that_states_more_than_it_holds_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "in.flac"
    path.write_bytes(flac(34483, made(path)))
    with pytest.raises(AudioFileError, match="it holds 87% of the sound"):
        denoise_file(path, streams=Untouched)
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("size", [0, 5000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_au_is_read_to_its_end_whatever_it_states(tmp_path: Path, size: int) -> None:
    path = tmp_path / "in.au"
    content = made(path)
    path.write_bytes(content[:8] + struct.pack(">I", size) + content[12:])
    np.testing.assert_allclose(sound_of(path), noise(), atol=4e-5)


def test_an_aiff_from_a_pipe_and_a_caf_from_one_are_read_to_their_end(tmp_path: Path) -> None:
    content = made(tmp_path / "in.aiff")
    at = content.index(b"SSND") + 4
    sox = content[:4] + b"\x7f\0\0\x50" + content[8:at] + b"\x7f\0\0\x08" + content[at + 4 :]
    (tmp_path / "in.aiff").write_bytes(sox)
    np.testing.assert_allclose(sound_of(tmp_path / "in.aiff"), noise(), atol=4e-5)
    pytest.importorskip("av")
    content = made(tmp_path / "in.caf")
    at = content.index(b"data") + 4
    (tmp_path / "in.caf").write_bytes(content[:at] + b"\xff" * 8 + content[at + 8 :])
    np.testing.assert_allclose(sound_of(tmp_path / "in.caf"), noise(), atol=4e-5)


def test_a_w64_of_floats_with_an_extensible_header_is_no_integers(tmp_path: Path) -> None:
    sound = noise().tobytes()
    guid = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    riff = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
    extended = struct.pack("<HHIIHHHHI", 0xFFFE, 2, RATE_HZ, RATE_HZ * 8, 8, 32, 22, 32, 3)
    extended += b"\3\0" + bytes.fromhex("00000000100080000 0aa00389b71".replace(" ", ""))
    chunks = b"fmt " + guid + struct.pack("<Q", 24 + len(extended)) + extended
    chunks += b"data" + guid + struct.pack("<Q", 24 + len(sound)) + sound
    whole = riff + struct.pack("<Q", 40 + len(chunks)) + b"wave" + guid + chunks
    path = tmp_path / "in.w64"
    path.write_bytes(whole)
    report = denoise_file(path, streams=Untouched)
    np.testing.assert_array_equal(sound_of(Path(report.target)), noise())
    assert soundfile.info(report.target).subtype == "FLOAT"
    assert soundfile.info(report.target).format == "W64"
    path.write_bytes(whole[:-1000])
    with pytest.raises(AudioFileError, match="truncated"):
        sound_of(path)


def test_what_describes_the_sound_of_an_8svx_is_no_tag(tmp_path: Path) -> None:
    path = tmp_path / "in.8svx"
    soundfile.write(path, noise(channels=1), 8000, "PCM_16", format="SVX")
    report = denoise_file(path, tmp_path / "out.svx", streams=Untouched)
    assert not report.notes
    assert Path(report.target).stat().st_size < path.stat().st_size + 100


def test_mp3s_with_tags_that_were_joined_are_read_to_their_end(tmp_path: Path) -> None:
    pytest.importorskip("av")
    one = made(tmp_path / "in.mp3", "MPEG_LAYER_III") + b"TAG" + bytes(125)
    (tmp_path / "in.mp3").write_bytes(one)
    assert len(sound_of(tmp_path / "in.mp3")) == FRAMES
    (tmp_path / "in.mp3").write_bytes(3 * one)
    assert len(sound_of(tmp_path / "in.mp3")) >= 3 * FRAMES


@pytest.mark.parametrize("keep", [0.3, 0.98])
def test_an_mp3_that_was_cut_off_is_truncated(tmp_path: Path, keep: float) -> None:
    content = made(tmp_path / "in.mp3", "MPEG_LAYER_III")
    (tmp_path / "in.mp3").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(AudioFileError, match="truncated"):
        sound_of(tmp_path / "in.mp3")


def test_an_mp3_whose_vbri_header_promises_more_is_truncated(tmp_path: Path) -> None:
    pytest.importorskip("av")
    frames = made(tmp_path / "in.mp3", "MPEG_LAYER_III")
    size = mp3_frame_size(frames[:4])
    frames, head = frames[size:], frames[:4] + bytes(32)  # without its own header
    for count, part, whole in ((27, 1.0, True), (27, 0.5, False), (1000, 1.0, False)):
        vbri = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(frames), count)
        content = (head + vbri).ljust(size, b"\0") + frames[: int(part * len(frames))]
        (tmp_path / "in.mp3").write_bytes(content)
        if whole:
            assert len(sound_of(tmp_path / "in.mp3")) >= FRAMES
            continue
        with pytest.raises(AudioFileError, match="truncated"):
            sound_of(tmp_path / "in.mp3")


@pytest.mark.parametrize("name", ["in.mp3", "in.flac", "in.wav", "in"])
def test_a_file_that_ends_in_the_tag_at_its_beginning_has_no_sound(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"ID3\3\0\0\0\x7f\x7f\x7f" + bytes(5000))
    with pytest.raises(AudioFileError, match="has no sound that can be decoded"):
        sound_of(tmp_path / name)


def test_a_damaged_mp3_is_decoded_on_both_sides_of_the_damage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    content = made(tmp_path / "in.mp3", "MPEG_LAYER_III", noise(70000))
    half = len(content) // 2
    hole = np.random.default_rng(1).bytes(4000)
    (tmp_path / "in.mp3").write_bytes(content[:half] + hole + content[half:])
    report = denoise_file(tmp_path / "in.mp3", streams=Untouched)
    assert report.seconds > 66000 / RATE_HZ
    assert "damaged packets were left out" in report.notes[0]
    assert not capfd.readouterr().err


@pytest.mark.parametrize("kbps", [8, 64, 128, 192, 320])
def test_the_level_of_an_mp3_stays(tmp_path: Path, kbps: int) -> None:
    rate_hz = 8000 if kbps == 8 else RATE_HZ
    tone = 0.3 * np.sin(np.arange(60000) * 2.0 * np.pi * 440.0 / rate_hz)
    level = min(0.99, (320 - kbps) / 288) if kbps > 8 else 0.99
    with soundfile.SoundFile(
        tmp_path / "in.mp3", "w", rate_hz, 1, "MPEG_LAYER_III",
        compression_level=level, bitrate_mode="CONSTANT",
    ) as file:  # fmt: skip
        file.write(tone)
    before = sound_of(tmp_path / "in.mp3")
    after = sound_of(Path(denoise_file(tmp_path / "in.mp3", streams=Untouched).target))
    assert np.std(after) == pytest.approx(np.std(before), rel=0.01)


def test_an_mp3_inside_a_wav_is_read_to_its_end(tmp_path: Path) -> None:
    encoded(tmp_path / "in.wav", "libmp3lame", q="4")
    assert soundfile.info(tmp_path / "in.wav").subtype == "MPEG_LAYER_III"
    assert len(sound_of(tmp_path / "in.wav")) >= 48000


def test_of_two_tracks_in_an_ogg_one_is_not_dropped_without_a_word(tmp_path: Path) -> None:
    encoded(tmp_path / "in.ogg", "libopus", "libopus")
    report = denoise_file(tmp_path / "in.ogg", streams=Untouched)
    assert "the first of 2 sound tracks was taken" in report.notes[0]


@pytest.mark.parametrize("suffix", ["mp2", "ac3", "wma", "aac", "avi"])
@pytest.mark.parametrize(("rate_hz", "frames"), [(8000, 8007), (44100, 30007), (48000, 96007)])
def test_sound_begins_and_ends_where_it_did_whatever_rate_its_encoder_takes(
    tmp_path: Path, suffix: str, rate_hz: int, frames: int
) -> None:
    pytest.importorskip("av")
    low = np.convolve(noise(frames, 1)[:, 0], np.ones(rate_hz // 2000) / 4.0, "same")
    soundfile.write(tmp_path / "in.wav", low, rate_hz)
    denoise_file(tmp_path / "in.wav", tmp_path / f"out.{suffix}", streams=Untouched)
    with open_recording(tmp_path / f"out.{suffix}") as recording:
        own_hz = recording.samplerate
    before = load_soxr().resample(low, rate_hz, own_hz)
    after = sound_of(tmp_path / f"out.{suffix}")[:, 0]
    assert abs(delay_samples(after, before)) <= 1
    assert len(before) <= len(after) <= len(before) + 2048 + own_hz // 40
    last = slice(len(before) - own_hz // 60, len(before))
    assert np.std(after[last]) == pytest.approx(np.std(before[last]), rel=0.2)


def test_an_encoder_that_keeps_its_last_samples_gets_some_more(tmp_path: Path) -> None:
    encoded(tmp_path / "in.mpg", "mp2")
    before = sound_of(tmp_path / "in.mpg")
    after = sound_of(Path(denoise_file(tmp_path / "in.mpg", streams=Untouched).target))
    assert len(after) == len(before)
    np.testing.assert_allclose(after[481:], before[481:], atol=0.1)  # the rest is the encoder's


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [("a.avi", "libmp3lame", 44100), ("a.flv", "libmp3lame", 44100), ("a.ts", "aac", 48000),
     ("a.mkv", "libmp3lame", 44100), ("a.asf", "libmp3lame", 44100), ("a.mp4", "libmp3lame", 44100),
     ("a.ts", "libopus", 48000), ("a.avi", "wmav2", 44100)],
)  # fmt: skip
def test_no_frame_is_added_that_holds_no_sound(
    tmp_path: Path, name: str, codec: str, rate_hz: int
) -> None:
    encoded(tmp_path / name, codec, rate_hz=rate_hz)
    before = sound_of(tmp_path / name)
    after = sound_of(Path(denoise_file(tmp_path / name, streams=Untouched).target))
    longest = 2048 if codec == "wmav2" else 0  # FFmpeg's decoder adds the half of a frame
    assert len(before) <= len(after) <= len(before) + longest


@pytest.mark.parametrize("suffix", ["aac", "ac3", "avi", "flv", "mp3", "wma"])
def test_a_hundredth_of_a_second_is_not_lost(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("av")
    soundfile.write(tmp_path / "in.wav", np.full(320, 0.5), 32000)
    target = tmp_path / f"out.{suffix}"
    denoise_file(tmp_path / "in.wav", target, settings=Settings(strength=0.0))
    assert np.abs(sound_of(target)).max() > 0.2


@pytest.mark.parametrize("subtype", ["MS_ADPCM", "IMA_ADPCM", "GSM610"])
def test_what_fills_the_last_block_of_a_wav_is_not_encoded(tmp_path: Path, subtype: str) -> None:
    pytest.importorskip("av")
    soundfile.write(tmp_path / "in.wav", noise(30007, 1), 8000, subtype)
    state_frames(tmp_path / "in.wav", 30007)
    before = sound_of(tmp_path / "in.wav")
    assert len(before) == 30007
    report = denoise_file(tmp_path / "in.wav", tmp_path / "out.tta", streams=Untouched)
    assert report.seconds == len(before) / 8000
    np.testing.assert_array_equal(sound_of(tmp_path / "out.tta"), before)


@pytest.mark.parametrize("suffix", ["m4a", "mkv", "tta"])
def test_a_film_of_a_wav_that_goes_on_has_all_of_its_sound(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("av")
    path = tmp_path / "in.wav"
    soundfile.write(path, noise(96000), RATE_HZ, "PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = (96000).to_bytes(4, "little")  # half of it
    path.write_bytes(content)
    report = denoise_file(path, tmp_path / f"out.{suffix}", streams=Untouched)
    assert report.seconds == 96000 / RATE_HZ
    assert report.notes[0].startswith("its sound goes on")
    assert len(sound_of(tmp_path / f"out.{suffix}")) >= 96000


def test_an_8svx_with_an_odd_number_of_samples_has_no_more(tmp_path: Path) -> None:
    path = tmp_path / "in.8svx"
    soundfile.write(path, noise(30007, 1), 8000, "PCM_S8", format="SVX")
    report = denoise_file(path, streams=Untouched)
    assert report.seconds == 30007 / 8000
    np.testing.assert_array_equal(sound_of(Path(report.target)), sound_of(path))


def test_what_a_film_cannot_hold_is_said(tmp_path: Path) -> None:
    samples = 3.0 * noise(96000)
    samples[[7, 900]] = np.nan
    made(tmp_path / "in.wav", "FLOAT", samples)
    pytest.importorskip("av")
    loud = int(np.count_nonzero(np.abs(samples) > 1.0))
    clipped = f"{loud} samples above full scale were clipped"
    of_mp2 = ["its first 11 ms gave way", clipped]
    for suffix, said in ((".mka", []), (".m4a", [clipped]), (".mp2", of_mp2)):
        notes = denoise_file(tmp_path / "in.wav", tmp_path / f"o{suffix}", streams=Untouched).notes
        words = ["4 samples were not finite", *said]
        assert [note[: len(start)] for note, start in zip(notes, words, strict=True)] == words


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wma", "wmav2"), ("a.mka", "libopus"), ("a.flv", "aac"), ("a.tta", "tta"),
     ("a.wv", "wavpack")],
)  # fmt: skip
def test_a_tenth_that_is_missing_is_noticed(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    encoded(path, codec, rate_hz=44100 if codec == "aac" else 48000, frames=96000)
    assert len(sound_of(path)) > 93000
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    for target in (tmp_path / "out.wav", tmp_path / f"out{path.suffix}"):
        with pytest.raises(AudioFileError, match=r"truncated|damaged"):
            denoise_file(path, target, streams=Untouched)
    assert [*tmp_path.iterdir()] == [path]


def test_the_annotation_of_an_au_stays_and_what_a_caf_loses_is_said(tmp_path: Path) -> None:
    content, note = made(tmp_path / "in.au"), b"recorded at noon\0\0\0\0\0\0\0\0"
    head = content[:4] + struct.pack(">I", 24 + len(note)) + content[8:24]
    (tmp_path / "in.au").write_bytes(head + note + content[24:])
    target = Path(denoise_file(tmp_path / "in.au", streams=Untouched).target)
    assert target.read_bytes()[24:40] == b"recorded at noon"
    np.testing.assert_allclose(sound_of(target), noise(), atol=8e-5)
    info = b"\0\0\0\2title\0T\0scene\0beach\0"
    content = made(tmp_path / "in.caf")
    at = content.index(b"data")
    chunk = b"info" + struct.pack(">q", len(info)) + info
    (tmp_path / "in.caf").write_bytes(content[:at] + chunk + content[at:])
    report = denoise_file(tmp_path / "in.caf", streams=Untouched)
    assert "left out: scene" in report.notes[0]


def test_tags_of_an_aac_stay(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    encoded(tmp_path / "plain.aac", "aac")
    tag = b"TIT2\0\0\0\x02\0\0\0T"
    id3 = b"ID3\3\0\0\0\0\0" + bytes([len(tag)]) + tag
    (tmp_path / "in.aac").write_bytes(id3 + (tmp_path / "plain.aac").read_bytes())
    target = denoise_file(tmp_path / "in.aac", streams=Untouched).target
    with av.open(target) as container:
        assert container.metadata["title"] == "T"


def test_an_mp3_is_as_long_in_an_mp4_as_it_was_and_begins_at_once(tmp_path: Path) -> None:
    pytest.importorskip("av")
    made(tmp_path / "in.mp3", "MPEG_LAYER_III")
    before = sound_of(tmp_path / "in.mp3")[:, 0]
    for suffix in ("mp4", "mkv"):
        denoise_file(tmp_path / "in.mp3", tmp_path / f"out.{suffix}", streams=Untouched)
        after = sound_of(tmp_path / f"out.{suffix}")[:, 0]
        assert FRAMES <= len(after) < FRAMES + 1152
        assert delay_samples(after, before) == 0


def test_an_mp3_becomes_aac_in_an_m4a_as_long_as_it_was(tmp_path: Path) -> None:
    pytest.importorskip("av")
    made(tmp_path / "in.mp3", "MPEG_LAYER_III")
    target = denoise_file(tmp_path / "in.mp3", tmp_path / "out.m4a", streams=Untouched).target
    with open_recording(Path(target)) as recording:
        assert recording.codec == "aac"
        assert recording.frames == FRAMES


@pytest.mark.parametrize("rates_hz", [(44100, 48000), (48000, 22050, 44100), (22050, 44100)])
@pytest.mark.parametrize("suffix", ["wav", "mp3", "mka"])
def test_mp3s_of_several_rates_that_were_joined_get_one_rate(
    tmp_path: Path, rates_hz: tuple[int, ...], suffix: str
) -> None:
    pytest.importorskip("av")
    content = b""
    for number, rate_hz in enumerate(rates_hz):
        tone = 0.3 * np.sin(2.0 * np.pi * 440.0 * np.arange(rate_hz) / rate_hz)
        columns = np.tile(tone[:, None], (number + 1) % 2 + 1)
        soundfile.write(tmp_path / "part.mp3", columns, rate_hz)
        content += (tmp_path / "part.mp3").read_bytes()
    (tmp_path / "in.mp3").write_bytes(content)
    report = denoise_file(tmp_path / "in.mp3", tmp_path / f"out.{suffix}", streams=Untouched)
    (note,) = report.notes
    with open_recording(tmp_path / f"out.{suffix}") as recording:
        own_hz = recording.samplerate
    assert ": converted to " in note
    assert f" to {own_hz} Hz " in note or suffix == "mka"
    assert report.seconds == pytest.approx(len(rates_hz), abs=0.1 * len(rates_hz))
    after = sound_of(tmp_path / f"out.{suffix}")
    for number in range(len(rates_hz)):
        middle = round((number + 0.5) * own_hz)
        spectrum = np.abs(np.fft.rfft(after[middle : middle + own_hz // 4], axis=0))
        np.testing.assert_allclose(spectrum.argmax(0), 440 / 4)


@pytest.mark.parametrize("subtype", ["PCM_S8", "ULAW", "ALAW"])
def test_an_aiff_with_an_odd_number_of_bytes_has_no_more_samples(
    tmp_path: Path, subtype: str
) -> None:
    path = tmp_path / "in.aiff"
    soundfile.write(path, noise(30007, 1), 8000, subtype)
    content = path.read_bytes()
    assert soundfile.info(path).frames == 30008  # libsndfile's own count
    counted = struct.pack(">I", 30008), struct.pack(">I", 30016)
    for wrong, right in zip(counted, (30007, 30015), strict=True):
        assert content.count(wrong) == 1
        content = content.replace(wrong, struct.pack(">I", right))
    path.write_bytes(content)
    report = denoise_file(path, streams=Untouched)
    assert soundfile.info(report.target).frames == 30007
    np.testing.assert_array_equal(sound_of(Path(report.target)), sound_of(path))


def test_a_wav_that_states_a_part_of_a_frame_more_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    content = made(path)
    sized = struct.pack("<I", FRAMES * 4)
    for more, whole in ((1, True), (3, True), (4, False), (-1, True)):
        path.write_bytes(content.replace(sized, struct.pack("<I", FRAMES * 4 + more), 1))
        if whole:
            assert len(sound_of(path)) == FRAMES - (more < 0)
            continue
        with pytest.raises(AudioFileError, match="truncated"):
            sound_of(path)
    path.write_bytes(content[:-1])
    with pytest.raises(AudioFileError, match="truncated"):
        sound_of(path)


@pytest.mark.parametrize("ds64", [b"", b"ds64" + struct.pack("<IQQQI", 28, 0, 0, 0, 0)])
def test_an_rf64_whose_length_was_never_written_is_read_to_its_end(
    tmp_path: Path, ds64: bytes
) -> None:
    path = tmp_path / "in.wav"
    content = made(path)
    path.write_bytes(
        b"RF64\xff\xff\xff\xffWAVE" + ds64 + content[12:40] + b"\xff\xff\xff\xff" + content[44:]
    )
    np.testing.assert_allclose(sound_of(path), noise(), atol=4e-5)


def test_integers_of_64_bits_keep_32(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "in.wav"
    sound = (noise(20000, 1) * 2.0**63).astype("<i8").tobytes()
    head = struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 8 * RATE_HZ, 8, 64)
    chunks = b"WAVEfmt " + head + b"data" + struct.pack("<I", len(sound)) + sound
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    target = denoise_file(path, streams=Untouched).target
    assert soundfile.info(target).subtype == "PCM_32"
    np.testing.assert_allclose(sound_of(Path(target)), noise(20000, 1), atol=1e-7)
