"""Lengths that headers lie about, what lies beside the sound, bit rates, and pipes."""

from __future__ import annotations

import base64
import io
import math
import os
import struct
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import RTDEN, assert_one_sentence, invoke, rtden
from conftest import DATA
from sounds import Untouched
from waiting import LIMIT_SECONDS, until

from rtden import Settings, denoise_file
from rtden.errors import AudioFileError, InputError, MissingPackageError, SettingsError
from rtden.files import spool
from rtden.files.atomic import new_file
from rtden.files.audio_file import open_recording, read_blocks
from rtden.files.listing import Raw, has_av, list_audio
from rtden.files.pipe import denoise_pipe
from rtden.files.tags import read_tags, write_tags
from rtden.files.writing import format_of

pytestmark = pytest.mark.usefixtures("small_model")
UNTOUCHED = Settings(limit_db=0.0)


def noise(frames: int = 30000, channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((frames, channels))).astype(np.float32)


def all_of(path: Path, raw: Raw | None = None) -> np.ndarray:
    with open_recording(path, raw) as recording:
        return np.concatenate([*read_blocks(recording)])


def patched(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


# Lengths


def sparse_wav(path: Path, magic: bytes, frames: int) -> None:
    """A WAV of 64-bit floats and 8 channels, silent but for its first sample, without its bytes."""
    size = frames * 64
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, size + 72, size, frames, 0)
    with path.open("wb") as file:
        file.write(magic + struct.pack("<I", (size + 36) & 0xFFFFFFFF) + b"WAVE")
        file.write(b"" if magic == b"RIFF" else ds64)
        file.write(b"fmt " + struct.pack("<IHHIIHH", 16, 3, 8, 192000, 192000 * 64, 64, 64))
        stated = size & 0xFFFFFFFF if magic == b"RIFF" else 0xFFFFFFFF
        file.write(b"data" + struct.pack("<I", stated) + struct.pack("<d", 0.5))
        file.truncate(file.tell() - 8 + size)


@pytest.mark.parametrize("magic", [b"RIFF", b"RF64", b"BW64"])
def test_a_wav_beyond_4_gib_is_as_long_as_it_is_and_becomes_an_rf64(
    tmp_path: Path, magic: bytes
) -> None:
    path, frames = tmp_path / "big.wav", 70_000_000
    sparse_wav(path, magic, frames)
    with open_recording(path) as recording:
        assert (recording.frames, recording.channels, recording.subtype) == (frames, 8, "DOUBLE")
        assert next(read_blocks(recording))[0, 0] == 0.5
        assert format_of(tmp_path / "out.wav", recording) == ("RF64", "DOUBLE")


def test_bw64_stays_bw64(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(), 22050, format="RF64")
    patched(tmp_path / "in.wav", 0, b"BW64")
    target = Path(denoise_file(tmp_path / "in.wav", settings=UNTOUCHED).target)
    assert target.read_bytes()[:4] == b"BW64"
    np.testing.assert_allclose(all_of(target), all_of(tmp_path / "in.wav"), atol=1e-4)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_wav_that_goes_on_after_its_stated_length_is_read_to_its_end(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "unfinished.wav"
    soundfile.write(path, noise(), 16000)
    patched(path, 40, struct.pack("<I", size))
    report = denoise_file(path, streams=Untouched)
    assert report.seconds == 30000 / 16000
    assert bool(report.notes) == bool(size)


def test_chained_ogg_is_read_to_its_end_and_a_change_of_rate_is_converted(tmp_path: Path) -> None:
    for name, rate_hz in (("a", 16000), ("b", 16000), ("c", 22050)):
        soundfile.write(tmp_path / f"{name}.ogg", noise(seed=ord(name)), rate_hz)
    one, two, other = ((tmp_path / f"{name}.ogg").read_bytes() for name in "abc")
    chained = tmp_path / "chained.ogg"
    chained.write_bytes(one + two)
    np.testing.assert_array_equal(
        all_of(chained), np.concatenate([all_of(tmp_path / "a.ogg"), all_of(tmp_path / "b.ogg")])
    )
    assert denoise_file(chained, streams=Untouched).seconds == 60000 / 16000
    chained.write_bytes(one + other + two)
    if has_av():
        after, from_rate = all_of(chained), round(30000 * 16000 / 22050)
        assert len(after) == pytest.approx(60000 + from_rate, abs=2)
        np.testing.assert_array_equal(after[:30000], all_of(tmp_path / "a.ogg"))
        np.testing.assert_array_equal(after[-30000:], all_of(tmp_path / "b.ogg"))
        assert after[30000:-30000].std() == pytest.approx(0.1 * math.sqrt(16000 / 22050), rel=0.05)
        (note,) = denoise_file(chained, tmp_path / "out.m4a", streams=Untouched).notes
        assert note.startswith("its sound has 22050 Hz and 1 channels from 1.9 s on: converted to ")
    else:
        with pytest.raises(MissingPackageError, match="needs the package av"):
            all_of(chained)
    chained.write_bytes(one[: len(one) // 2])
    report = denoise_file(chained, tmp_path / "out.wav", streams=Untouched)
    assert "cut off" in "".join(report.notes)


def test_samples_that_are_no_sound_are_silence_and_are_said(tmp_path: Path) -> None:
    samples = noise()
    samples[[5, 700, 20000]] = [[np.inf], [np.nan], [1e30]]
    soundfile.write(tmp_path / "in.wav", samples, 16000, "FLOAT")
    report = denoise_file(tmp_path / "in.wav")
    assert np.isfinite(report.noise_removed_db)
    assert report.notes == ("3 samples were not finite or absurd; they became silence",)
    assert np.abs(soundfile.read(report.target)[0]).max() < 1.0


def test_peaks_above_full_scale_are_kept_in_float_and_said_elsewhere(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", 30.0 * noise(), 16000, "FLOAT")
    kept = denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", settings=UNTOUCHED)
    assert np.abs(soundfile.read(kept.target)[0]).max() > 5.0
    assert kept.notes == ()
    clipped = denoise_file(tmp_path / "in.wav", tmp_path / "out.flac", settings=UNTOUCHED)
    assert soundfile.info(clipped.target).subtype == "PCM_24"
    assert "samples above full scale were clipped" in clipped.notes[0]


@pytest.mark.parametrize("suffix", ["m4a", "ac3", "eac3", "wma", "mka", "mp3", "opus", "ogg", "wv"])
def test_peaks_above_full_scale_do_not_lower_the_level_of_what_is_lossy(
    tmp_path: Path, suffix: str
) -> None:
    if suffix not in ("mp3", "opus", "ogg"):
        pytest.importorskip("av")
    tone = np.sin(np.arange(96000) * 2.0 * np.pi * 300.0 / 48000.0)
    samples = (3.0 * tone * (np.arange(96000) % 12000 < 1500)).astype(np.float32)  # 12 % of it
    soundfile.write(tmp_path / "in.wav", samples, 48000, "FLOAT")
    report = denoise_file(tmp_path / "in.wav", tmp_path / f"out.{suffix}", streams=Untouched)
    clips = suffix in ("m4a", "ac3", "eac3")
    assert any("above full scale were clipped" in note for note in report.notes) == clips
    after = all_of(tmp_path / f"out.{suffix}")
    wanted = samples.clip(-1.0, 1.0) if clips else samples
    assert np.std(after) == pytest.approx(np.std(wanted), rel=0.08)


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "ALAW", "DOUBLE", "PCM_U8"])
@pytest.mark.parametrize("frames", [1, 319, 15041, 30000])
def test_codecs_inside_wav_are_written_again_without_what_fills_their_last_block(
    tmp_path: Path, subtype: str, frames: int
) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, noise(frames), 8000, subtype)
    if (at := path.read_bytes().find(b"fact")) > 0:
        patched(path, at + 8, struct.pack("<I", frames))
    report = denoise_file(path, streams=Untouched)
    assert soundfile.info(report.target).subtype == subtype
    before, after = all_of(path), all_of(Path(report.target))
    assert len(before) == len(after) == frames
    assert np.std(after) == pytest.approx(np.std(before), rel=0.25, abs=0.01)
    assert report.notes == ()


def test_what_sox_puts_behind_the_last_block_of_a_wav_is_no_block(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, noise(24000), 8000, "GSM610")  # 75 blocks of 65 bytes, an odd number
    content = path.read_bytes()
    at = content.index(b"data")
    sound = content[at + 8 : at + 8 + 4875] + b"\0"
    path.write_bytes(content[:at] + b"data" + struct.pack("<I", 4876) + sound)
    patched(path, content.index(b"fact") + 8, struct.pack("<I", 24000))
    assert len(all_of(path)) == 24000


def test_a_count_of_frames_that_its_blocks_contradict_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, noise(), 8000, "IMA_ADPCM")
    patched(path, path.read_bytes().find(b"fact") + 8, struct.pack("<I", 15000))
    assert len(all_of(path)) >= 30000


# Beside the sound

PICTURE = (
    struct.pack(">II9sI0sIIIII", 3, 9, b"image/png", 0, b"", 1, 1, 24, 0, 70000)
    + bytes(range(250)) * 280
)
COMMENTS = [b"TITLE=\xc3\x9cber", b"REPLAYGAIN_TRACK_GAIN=-3 dB", b"OWN=1"]


def test_chunks_of_a_wav_and_an_aiff_are_copied(tmp_path: Path) -> None:
    for suffix, order in (("wav", "<"), ("aiff", ">")):
        path = tmp_path / f"in.{suffix}"
        soundfile.write(path, noise(), 16000)
        content = path.read_bytes()
        added = b"".join(
            name + struct.pack(f"{order}I", len(body)) + body + b"\0" * (len(body) % 2)
            for name, body in ((b"bext", b"Take 3" * 100), (b"cue ", bytes(28)), (b"iXML", b"<a/>"))
        )
        path.write_bytes(content + added)
        patched(path, 4, struct.pack(f"{order}I", len(content + added) - 8))
        report = denoise_file(path, streams=Untouched)
        assert read_tags(Path(report.target)) == read_tags(path)
        assert report.notes == ()
        assert soundfile.info(report.target).frames == 30000
    report = denoise_file(tmp_path / "in.wav", tmp_path / "out.flac", streams=Untouched)
    assert "left out: bext, cue, iXML" in report.notes[0]


@pytest.mark.parametrize("speakers", [0x3, 0x7, 0x33, 0x60F, 0x63F], ids=hex)
def test_the_speakers_and_valid_bits_of_a_wav_stay(tmp_path: Path, speakers: int) -> None:
    channels, path = speakers.bit_count(), tmp_path / "in.wav"
    soundfile.write(path, noise(channels=channels), 16000, "PCM_24", format="WAVEX")
    patched(path, 38, struct.pack("<HI", 20, speakers))
    target = Path(denoise_file(path, streams=Untouched).target)
    assert target.read_bytes()[20:60] == path.read_bytes()[20:60]
    np.testing.assert_allclose(all_of(target), all_of(path), atol=2e-7)


@pytest.mark.parametrize("suffix", ["aiff", "caf"])
def test_the_speakers_of_an_aiff_and_a_caf_stay(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"in.{suffix}"
    soundfile.write(path, noise(channels=6), 16000, "PCM_16")
    content, layout = path.read_bytes(), struct.pack(">III", 124 << 16 | 6, 0, 0)  # MPEG 5.1 D
    if suffix == "caf":
        at = 8 + 12 + 32  # behind the description
        content = content[:at] + b"chan" + struct.pack(">q", 12) + layout + content[at:]
    else:
        content += b"CHAN" + struct.pack(">I", 12) + layout
    path.write_bytes(content)
    before = all_of(path)
    report = denoise_file(path, streams=Untouched)
    assert layout in Path(report.target).read_bytes()
    assert report.notes == ()
    np.testing.assert_array_equal(all_of(Path(report.target)), before)


@pytest.mark.parametrize(
    ("first", "second"),
    [("flac", "ogg"), ("ogg", "opus"), ("opus", "flac"), ("flac", "flac"), ("ogg", "ogg")],
)
def test_comments_and_pictures_are_copied_among_flac_vorbis_and_opus(
    tmp_path: Path, first: str, second: str
) -> None:
    source, target = tmp_path / f"in.{first}", tmp_path / f"out.{second}"
    opus = {"format": "OGG", "subtype": "OPUS"} if first == "opus" else {}
    soundfile.write(source, noise(60000), 24000, **opus)
    before = all_of(source)
    picture = b"METADATA_BLOCK_PICTURE=" + base64.b64encode(PICTURE)
    tags = read_tags(source)._replace(
        kind="comments", parts=[(b"", text) for text in [*COMMENTS, picture]]
    )
    assert write_tags(tags, source) == ""
    np.testing.assert_array_equal(all_of(source), before)
    report = denoise_file(source, target, streams=Untouched)
    assert read_tags(target) == tags
    assert report.notes == ()
    assert soundfile.info(target).frames == 60000


def test_id3_of_an_mp3_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "in.mp3"
    soundfile.write(source, noise(), 16000)
    body = b"TIT2" + struct.pack(">IH", 6, 0) + b"\3Title" + bytes(50)
    size = len(body)
    tag = b"ID3\4\0\0" + bytes((size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127))
    source.write_bytes(tag + body + source.read_bytes() + b"TAG".ljust(128, b"x"))
    target = Path(denoise_file(source, streams=Untouched).target)
    assert target.read_bytes().startswith(tag + body)
    assert target.read_bytes().endswith(b"TAG".ljust(128, b"x"))
    assert soundfile.info(target).frames == soundfile.info(source).frames


@pytest.mark.parametrize(
    ("suffix", "level", "rate_hz"),
    [("mp3", 0.0, 44100), ("mp3", 0.7, 44100), ("opus", 0.9, 48000), ("ogg", 0.2, 44100)],
)
def test_bit_rates_stay_about_what_they_were(
    tmp_path: Path, suffix: str, level: float, rate_hz: int
) -> None:
    source = tmp_path / f"in.{suffix}"
    container = {"mp3": ("MP3", "MPEG_LAYER_III"), "ogg": ("OGG", "VORBIS")}.get(
        suffix, ("OGG", "OPUS")
    )
    mode = {"bitrate_mode": "CONSTANT"} if suffix == "mp3" else {}
    with soundfile.SoundFile(
        *(source, "w", rate_hz, 2, container[1], None, container[0]),
        compression_level=level,
        **mode,
    ) as file:
        file.write(noise(3 * rate_hz, 2))
    target = Path(denoise_file(source, streams=Untouched).target)
    assert target.stat().st_size == pytest.approx(source.stat().st_size, rel=0.1)


@pytest.mark.parametrize(("rate_hz", "channels"), [(11025, 1), (16000, 2), (44100, 1)])
def test_the_bit_rate_that_vorbis_states_stays(tmp_path: Path, rate_hz: int, channels: int) -> None:
    source, kind = tmp_path / "in.ogg", {"format": "OGG", "subtype": "VORBIS"}
    soundfile.write(source, noise(channels=channels), rate_hz, compression_level=0.7, **kind)
    target = Path(denoise_file(source, streams=Untouched).target)
    before, after = (int.from_bytes(p.read_bytes()[48:52], "little") for p in (source, target))
    assert after == pytest.approx(before, rel=0.02)


def test_ape_tags_of_an_mp3_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "in.mp3"
    soundfile.write(source, noise(), 16000)
    item = struct.pack("<II", 3, 0) + b"Key\0abc"
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    )
    tags = head + item + foot + b"TAG".ljust(128, b"x")
    source.write_bytes(source.read_bytes() + tags)
    report = denoise_file(source, streams=Untouched)
    assert Path(report.target).read_bytes().endswith(tags)
    assert soundfile.info(report.target).frames == 30000


# Names and pipes


def test_links_to_folders_are_followed_once_and_what_cannot_be_read_is_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "other").mkdir()
    for name in ("in/a.wav", "in/a.denoised.wav", "in/.hidden.wav", "in/n.txt", "other/b.flac"):
        (tmp_path / name).touch()
    (tmp_path / "in" / "link").symlink_to("../other")
    (tmp_path / "in" / "loop").symlink_to(".")
    for name in ("in/c.voc", "in/d.gsm", "in/e.pcm"):
        (tmp_path / name).touch()
    (tmp_path / "in" / "gone.wav").symlink_to("nowhere")
    left_out: list[str] = []
    found = list_audio(tmp_path / "in", left_out)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "in/a.wav",
        "in/c.voc",
        "in/d.gsm",
        "in/link/b.flac",
    ]
    gone, raw = sorted(left_out, reverse=True)
    assert "gone.wav" in gone
    assert raw.endswith("e.pcm has no header; name it alone, with its --rate")


def test_a_name_of_255_bytes_is_written_and_of_two_writers_the_second_fails(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".wav")
    first, second = new_file(path, force=False), new_file(path, force=False)
    first.__enter__().write_bytes(b"first")
    second.__enter__().write_bytes(b"second")
    first.__exit__(None, None, None)
    with pytest.raises(AudioFileError, match="exists already"):
        second.__exit__(None, None, None)
    assert path.read_bytes() == b"first"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "raw"])
def test_a_header_is_not_taken_for_sound(tmp_path: Path, suffix: str) -> None:
    kind = "WAV" if suffix == "raw" else suffix.upper()
    soundfile.write(tmp_path / f"in.{suffix}", noise(), 22050, format=kind, subtype=None)
    with pytest.raises(AudioFileError, match="leave out the rate"):
        denoise_file(tmp_path / f"in.{suffix}", raw=Raw(16000))


@pytest.mark.parametrize("command", ["file", "plot"])
def test_pcm_without_a_header_is_refused_with_advice_that_any_command_can_give(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.pcm").write_bytes(bytes(3200))
    names = ["in.pcm", "in.pcm", "out.png"] if command == "plot" else ["in.pcm"]
    monkeypatch.chdir(tmp_path)
    run = invoke(command, *names)
    assert run.exit_code == 2
    assert "'rtden file' reads it with --rate, --channels and --format." in run.stderr


def test_standard_input_and_output_are_called_so_in_a_dry_run() -> None:
    assert invoke("file", "-", "--dry-run").stderr == "standard input -> standard output\n"


def test_what_has_no_header_is_written_as_its_name_says(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "wide.wav", np.zeros(8000), 16000)
    denoise_file(tmp_path / "in.wav", tmp_path / "out.gsm", streams=Untouched)
    assert (tmp_path / "out.gsm").stat().st_size == 33 * 50
    notes = denoise_file(tmp_path / "in.wav", tmp_path / "out.raw", streams=Untouched).notes
    assert notes == ("it has no header to say what it holds: 8000 Hz, 1 channels, PCM_16",)
    for name, words in (
        ("wide.gsm", "one channel at 8000 Hz, not 1 at 16000"),
        ("a.vox", "writes"),
    ):
        with pytest.raises(AudioFileError, match=words):
            denoise_file(tmp_path / "wide.wav", tmp_path / name, streams=Untouched)


def test_raw_pcm_is_read_and_written_as_it_is_described(tmp_path: Path) -> None:
    samples = (noise(channels=2) * 32767).astype("<i2")
    (tmp_path / "in.raw").write_bytes(samples.tobytes())
    with pytest.raises(AudioFileError, match="--rate, --channels and --format"):
        denoise_file(tmp_path / "in.raw")
    report = denoise_file(tmp_path / "in.raw", raw=Raw(22050, 2), settings=UNTOUCHED)
    written = np.frombuffer(Path(report.target).read_bytes(), "<i2").reshape(-1, 2)
    assert np.abs(written.astype(int) - samples).max() <= 1
    for wrong, words in (
        ((16000, 1, "s17le"), "no raw format"),
        ((0,), "sample rate of 0 Hz"),
        ((16000, 0), "1 to 64 channels, not 0"),
    ):
        with pytest.raises(InputError, match=words):
            Raw(*wrong)
    for option in (["--channels", "0"], ["--format", ""]):
        run = invoke("file", tmp_path / "in.raw", "--rate", "16000", "--force", *option)
        assert_one_sentence(run.exit_code, run.stdout, run.stderr)


@pytest.mark.parametrize("wav", [False, True])
def test_a_pipe_gives_what_came_in_step_by_step_and_a_wav_stays_one(wav: bool) -> None:
    samples = noise(22050, 2)
    content = pcm = (samples * 32767).astype("<i2").tobytes()
    if wav:
        file = io.BytesIO()
        soundfile.write(file, samples, 22050, format="WAV", subtype="PCM_16")
        content = file.getvalue()
    (source, write_to), (read_from, sink) = os.pipe(), os.pipe()
    ended: list[tuple[int, bool]] = []

    def work() -> None:
        kind = None if wav else Raw(22050, 2, "s16le")
        ended.append(denoise_pipe(source, sink, kind, settings=UNTOUCHED))
        os.close(sink)

    thread = threading.Thread(target=work)
    thread.start()
    half = len(content) // 2 + 1  # in the midst of a sample
    out = b""
    for part in (content[:half], content[half:]):
        sent = len(out)
        writer = threading.Thread(target=os.write, args=(write_to, part))
        writer.start()
        while len(out) < sent + len(part) - 22050 * 4 // 10:  # 0.1 s at most are held back
            out += os.read(read_from, 1 << 16)
        writer.join()
    os.close(write_to)
    while rest := os.read(read_from, 1 << 16):
        out += rest
    thread.join()
    os.close(source)
    os.close(read_from)
    assert ended == [(22050, False)]
    assert len(out) == len(content)
    assert not wav or out.startswith(b"RIFF")
    written = np.frombuffer(out[-len(pcm) :], "<i2").reshape(-1, 2) / 32768
    assert np.abs(written - samples).max() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pipe", "--rate", "16000", "--format", "s24le"], "cannot carry 's24le'"),
        (["pipe", "--format", "wav"], "no WAV"),
        (["file", "-"], "nothing came"),
    ],
)
def test_pipes_that_carry_nothing_are_one_sentence(arguments: list[str], words: str) -> None:
    run = rtden(*arguments, stdin=subprocess.DEVNULL)
    assert run.returncode == 2
    assert words in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_pipe_of_pcm_refuses_a_file_whose_header_would_become_sound() -> None:
    with (DATA / "noisy.flac").open("rb") as file:
        run = rtden("pipe", "--rate", "22050", stdin=file)
    assert_one_sentence(run.returncode, run.stdout, run.stderr)
    assert "'rtden file -'" in run.stderr


def test_a_pipe_that_carries_no_recording_and_never_ends_is_refused() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        run = rtden("file", "-", stdin=endless.stdout)
        endless.terminate()
    assert_one_sentence(run.returncode, run.stdout, run.stderr)
    assert "standard input is not sound that can be read" in run.stderr


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "caf", "mp3", "mp4", "mkv", "raw"])
def test_the_rest_of_a_recording_in_a_pipe_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    pytest.importorskip("av")
    monkeypatch.setattr(spool, "SPOOL_BYTES", 4096)
    monkeypatch.setattr(spool, "SURE_BYTES", 32768)
    soundfile.write(tmp_path / "in.wav", noise(120000, 2), 48000)
    source, pipe = tmp_path / f"sound.{suffix}", tmp_path / "pipe"
    denoise_file(tmp_path / "in.wav", source, streams=Untouched)
    raw = Raw(48000, 2) if suffix == "raw" else None
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()))
    writer.start()
    report = denoise_file(pipe, tmp_path / "out.wav", raw=raw, streams=Untouched)
    writer.join()
    assert source.stat().st_size > 32768
    assert report.seconds == pytest.approx(120000 / 48000, abs=0.03)


@pytest.mark.skipif(not os.path.isdir(spool.DESCRIPTORS), reason="files need a name here")
def test_what_came_through_a_pipe_goes_with_a_program_that_is_killed(tmp_path: Path) -> None:
    command, env = [*RTDEN, "file", "-"], {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=env) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(1 << 22))
        process.stdin.flush()
        until(lambda: bool([*tmp_path.rglob("standard input")]))
        process.kill()
    assert sum(path.lstat().st_size for path in tmp_path.rglob("*") if not path.is_dir()) < 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pipe"], "--rate"),
        (["pipe", "--rate", "16000", "--format", "wav"], "either"),
        (["live", "--in", "-"], "rtden pipe"),
    ],
)
def test_pipes_that_cannot_work_are_one_sentence(arguments: list[str], words: str) -> None:
    run = invoke(*arguments)
    assert_one_sentence(run.exit_code, run.stdout, run.stderr)
    assert words in run.stderr


@pytest.mark.parametrize("wav", [False, True])
def test_a_pipe_whose_end_is_missing_gives_the_rest_and_says_so(tmp_path: Path, wav: bool) -> None:
    cut = tmp_path / "cut"
    soundfile.write(cut, noise(), 16000, format="WAV" if wav else "RAW", subtype="PCM_16")
    os.truncate(cut, size := cut.stat().st_size - 1)
    with cut.open("rb") as file:
        options = ["--format", "wav"] if wav else ["--rate", "16000"]
        run = rtden("pipe", *options, stdin=file, text=False)
    assert run.returncode == 0
    assert run.stderr == b"rtden: the end of the input is missing: it was cut off.\n"
    assert len(run.stdout) == size - 1


@pytest.mark.parametrize(("behind", "said"), [("WAV", True), ("LIST", False), ("odd", True)])
def test_sound_behind_that_of_a_wav_in_a_pipe_is_said_to_be_left_out(
    tmp_path: Path, behind: str, said: bool
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(), 16000, "PCM_16")
    whole = (tmp_path / "in.wav").read_bytes()
    more = {"WAV": whole, "LIST": b"LIST" + struct.pack("<I", 9000) + bytes(9000)}
    (tmp_path / "in.wav").write_bytes(whole + more.get(behind, noise().tobytes()))
    with (tmp_path / "in.wav").open("rb") as source:
        run = rtden("pipe", "--format", "wav", stdin=source, text=False)
    assert run.returncode == (2 if said else 0)
    assert (b"was left out; send one file at a time" in run.stderr) == said
    assert len(run.stdout) == len(whole)


@pytest.mark.skipif(os.name != "posix", reason="pipes of Windows always block")
def test_a_full_pipe_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    """Programs that wait for many things at once start others with such pipes."""
    (tmp_path / "pcm").write_bytes(bytes(400_000))
    read_from, write_to = os.pipe()
    os.set_blocking(write_to, False)
    command = [*RTDEN, "pipe", "--rate", "16000"]
    with (tmp_path / "pcm").open("rb") as pcm:
        process = subprocess.Popen(command, stdin=pcm, stdout=write_to)
    until(lambda: os.get_blocking(write_to) or process.poll() is not None)
    os.close(write_to)
    with open(read_from, "rb") as pipe:
        assert len(pipe.read()) == 400_000
    assert process.wait(LIMIT_SECONDS) == 0


def test_without_pyav_a_folders_videos_are_named_and_the_exit_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from rtden.app.main import app
    from rtden.files import listing

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listing, "has_av", lambda: False)
    Path("in").mkdir()
    soundfile.write("in/a.wav", noise(), 16000)
    Path("in/memo.m4a").touch()
    result = CliRunner().invoke(app, ["file", "in", "-o", "out", "--jobs", "1"])
    assert result.exit_code == 2
    assert "in/memo.m4a needs the package av" in result.stderr
    assert "rtden: 1 left out" in result.stderr
    assert Path("out/a.wav").exists()


def test_the_loudness_is_pyloudnorms_and_the_result_has_it(tmp_path: Path) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    from rtden.files.loudness import gain_for, measured

    samples = 0.2 * noise(5 * 44100, 2) * np.sin(np.arange(5 * 44100) / 9000.0)[:, None]
    blocks = np.array_split(samples.astype(np.float32), [0, 5, 999, 70000, 70001])
    lufs, peak = measured(blocks, 44100, 2)
    assert lufs == pytest.approx(pyloudnorm.Meter(44100).integrated_loudness(samples), abs=0.1)
    assert peak == np.abs(samples.astype(np.float32)).max()
    soundfile.write(tmp_path / "in.wav", samples, 44100, "FLOAT")
    silence = measured([np.zeros((8000, 9), np.float32)], 8000, 9)
    assert gain_for(*silence, -16.0, []) == 1.0
    report = denoise_file(tmp_path / "in.wav", streams=Untouched, loudness=-24.0)
    result = soundfile.read(report.target)[0]
    assert pyloudnorm.Meter(44100).integrated_loudness(result) == pytest.approx(-24.0, abs=0.2)
    report = denoise_file(tmp_path / "in.wav", streams=Untouched, loudness=-1.0, force=True)
    assert report.notes[0].endswith(" LUFS; its peaks would be clipped at -1 LUFS")
    assert np.abs(soundfile.read(report.target)[0]).max() < 0.95
    for wrong in (math.nan, math.inf, -math.inf, -71.0, 1.0, "-16"):
        with pytest.raises(SettingsError, match="loudness must lie between -70 and 0"):
            denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", loudness=wrong)  # type: ignore[arg-type]


def test_a_dry_run_says_what_cannot_be_read_and_writes_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(), 16000)
    run = invoke("file", tmp_path / "in.wav", "--dry-run")
    assert (run.exit_code, "in.wav -> " in run.stderr) == (0, True)
    run = invoke("file", tmp_path / "none.wav", "--dry-run")
    assert (run.exit_code, "there is no file" in run.stderr) == (2, True)
    both = invoke("file", tmp_path / "in.wav", tmp_path / "none.wav", "--dry-run")
    assert (both.exit_code, both.stderr.count("there is no file")) == (2, 1)
    assert "in.denoised.wav\n" in both.stderr
    assert [*tmp_path.iterdir()] == [tmp_path / "in.wav"]
