from __future__ import annotations

import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import names
from properties import HealthCheck, given, settings, st
from signals import delay_samples
from sounds import Untouched

from rtden import Settings, denoise_file
from rtden.errors import AudioFileError, InputError, ModelError
from rtden.files import listing, writing
from rtden.files.audio_file import read_aligned, read_blocks
from rtden.files.containers import Window
from rtden.files.listing import default_target
from rtden.files.writing import format_of, write_recording
from rtden.measure.metrics import si_sdr_db

pytestmark = pytest.mark.usefixtures("small_model")
UNTOUCHED = Settings(limit_db=0.0)  # every gain is one: the written sound is the sound read
LOSSLESS_STEPS = {"PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_U8": 2**-7, "FLOAT": 2**-20}
SUFFIXES_AND_FORMATS = [
    ("wav", "WAV", "PCM_16", 22050),
    ("wav", "WAV", "PCM_24", 22050),
    ("wav", "WAV", "FLOAT", 22050),
    ("wav", "WAV", "PCM_U8", 22050),
    ("wav", "WAV", "ULAW", 8000),
    ("wav", "WAVEX", "PCM_16", 44100),
    ("flac", "FLAC", "PCM_16", 44100),
    ("flac", "FLAC", "PCM_24", 22050),
    ("ogg", "OGG", "VORBIS", 44100),
    ("opus", "OGG", "OPUS", 48000),
    ("mp3", "MP3", "MPEG_LAYER_III", 44100),
    ("aiff", "AIFF", "PCM_16", 22050),
    ("caf", "CAF", "PCM_24", 22050),
]


def tune(rate_hz: int, *, frames: int = 20011, channels: int = 2) -> np.ndarray:
    """A chord that fades in and out, another one in each channel, in some noise."""
    t = np.arange(frames) / rate_hz
    fade = np.sin(np.pi * np.arange(frames) / max(frames, 1)) ** 2
    columns = []
    for channel in range(channels):
        rng = np.random.default_rng(channel)
        chord = sum(np.sin(2 * np.pi * hz * t + hz) for hz in rng.uniform(200.0, 2500.0, 6))
        columns.append(fade * (0.08 * chord + 0.002 * rng.standard_normal(frames)))
    return np.stack(columns, axis=1).astype(np.float32)


def plan(sources: list[str], output: str | None) -> list[tuple[str, str]]:
    return listing.plan(sources, output).pairs


def write(path: Path, samples: np.ndarray, rate_hz: int = 22050, **kwargs: str) -> Path:
    soundfile.write(path, samples, rate_hz, **kwargs)
    return path


# What is kept


@pytest.mark.parametrize(("suffix", "container", "subtype", "rate_hz"), SUFFIXES_AND_FORMATS)
def test_frames_rate_channels_and_sample_format_are_kept_and_the_original_is_untouched(
    tmp_path: Path, suffix: str, container: str, subtype: str, rate_hz: int
) -> None:
    source = write(
        tmp_path / f"tune.{suffix}", tune(rate_hz), rate_hz, format=container, subtype=subtype
    )
    before, before_bytes = soundfile.info(source), source.read_bytes()
    report = denoise_file(source, settings=UNTOUCHED)
    target = tmp_path / f"tune.denoised.{suffix}"
    assert (report.source, report.target) == (str(source), str(target))
    assert report.seconds == pytest.approx(20011 / rate_hz)
    assert report.processing_seconds > 0
    assert report.real_time_factor == pytest.approx(report.processing_seconds / report.seconds)
    assert names(tmp_path) == sorted([source.name, target.name])
    assert source.read_bytes() == before_bytes
    after = soundfile.info(target)
    for name in ("frames", "samplerate", "channels", "format", "subtype", "endian"):
        assert getattr(after, name) == getattr(before, name)
    old, new = soundfile.read(source)[0], soundfile.read(target)[0]
    assert old.shape == new.shape == (20011, 2)
    if rate_hz == 22050 and subtype in LOSSLESS_STEPS:
        assert np.abs(new - old).max() <= 1.01 * LOSSLESS_STEPS[subtype]
    for channel in range(2):
        assert delay_samples(new[:, channel], old[:, channel]) == 0
        assert si_sdr_db(old[:, channel], new[:, channel]) > 15.0


@given(
    frames=st.integers(0, 6000),
    channels=st.integers(1, 3),
    rate_hz=st.sampled_from([8000, 22050, 44100, 192000]),
)
@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_recording_of_any_length_comes_back_with_that_length(
    tmp_path: Path, frames: int, channels: int, rate_hz: int
) -> None:
    sound, target = tune(rate_hz, frames=frames, channels=channels), tmp_path / "out.wav"
    source = write(tmp_path / "any.wav", sound, rate_hz, subtype="FLOAT")
    report = denoise_file(source, target, force=True)
    samples, written_hz = soundfile.read(target, always_2d=True)
    assert samples.shape == (frames, channels)
    assert written_hz == rate_hz
    assert np.isfinite(samples).all()
    assert report.seconds == pytest.approx(frames / rate_hz)


def test_a_big_endian_wav_stays_big_endian(tmp_path: Path) -> None:
    source = write(tmp_path / "big.wav", tune(22050), endian="BIG")
    denoise_file(source)
    assert (tmp_path / "big.denoised.wav").read_bytes()[:4] == b"RIFX" == source.read_bytes()[:4]


@pytest.mark.parametrize("suffix", ["flac", "wav", "ogg"])
def test_title_and_artist_are_copied(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"titled.{suffix}"
    with soundfile.SoundFile(source, "w", 22050, 1) as file:
        file.title, file.artist = "Über das Rauschen", "Nobody"
        file.write(tune(22050, channels=1))
    denoise_file(source)
    with soundfile.SoundFile(default_target(source)) as file:
        assert (file.title, file.artist) == ("Über das Rauschen", "Nobody")


@pytest.mark.parametrize("suffix", ["au", "w64"])
def test_a_title_that_the_chosen_container_cannot_hold_does_not_stop_the_work(
    tmp_path: Path, suffix: str
) -> None:
    source = tmp_path / "titled.flac"
    with soundfile.SoundFile(source, "w", 22050, 1) as file:
        file.title = "A title"
        file.write(tune(22050, channels=1))
    denoise_file(source, tmp_path / f"out.{suffix}", settings=UNTOUCHED)
    np.testing.assert_allclose(
        soundfile.read(tmp_path / f"out.{suffix}")[0], soundfile.read(source)[0], atol=2**-14
    )


@pytest.mark.parametrize(
    ("source_name", "target_name", "container", "subtype"),
    [
        ("in.wav", "out.flac", "FLAC", "PCM_24"),
        ("in.flac", "out.wav", "WAV", "PCM_24"),
        ("in.wav", "out.mp3", "MP3", "MPEG_LAYER_III"),
        ("in.wav", "out.ogg", "OGG", "VORBIS"),
        ("in.wav", "out.aif", "AIFF", "PCM_24"),
        ("in.wav", "out", "WAV", "PCM_24"),
    ],
)
def test_the_suffix_of_the_target_chooses_the_container(
    tmp_path: Path, source_name: str, target_name: str, container: str, subtype: str
) -> None:
    source = write(tmp_path / source_name, tune(22050), subtype="PCM_24")
    denoise_file(source, tmp_path / target_name)
    info = soundfile.info(tmp_path / target_name)
    assert (info.format, info.subtype) == (container, subtype)
    assert (info.frames, info.samplerate, info.channels) == (20011, 22050, 2)


@pytest.mark.parametrize(
    ("lossy", "suffix"),
    [("mp3", "wav"), ("mp3", "ogg"), ("ogg", "flac"), ("ogg", "aiff"), ("opus", "caf")],
)
def test_a_lossy_recording_may_go_into_another_container(
    tmp_path: Path, lossy: str, suffix: str
) -> None:
    kind = {"format": "OGG", "subtype": "OPUS"} if lossy == "opus" else {}
    source = write(tmp_path / f"in.{lossy}", tune(48000), 48000, **kind)
    denoise_file(source, tmp_path / f"out.{suffix}")
    info = soundfile.info(tmp_path / f"out.{suffix}")
    assert (info.frames, info.samplerate) == (soundfile.info(source).frames, 48000)
    assert info.channels == 2


def test_samples_beyond_full_scale_are_limited_and_do_not_wrap_around(tmp_path: Path) -> None:
    loud = 3.0 * np.sin(2 * np.pi * 300 * np.arange(22050) / 22050).astype(np.float32)
    source = write(tmp_path / "loud.wav", loud, subtype="FLOAT")
    for suffix in ("wav", "flac"):
        with write_recording(
            tmp_path / f"direct.{suffix}", 22050, 1, container=suffix.upper()
        ) as append:
            append(loud[:, None])
        written = soundfile.read(tmp_path / f"direct.{suffix}")[0]
        np.testing.assert_allclose(written, np.clip(loud, -1.0, 1.0), atol=2**-14)
    denoise_file(source, tmp_path / "loud.flac", settings=UNTOUCHED)
    np.testing.assert_allclose(
        soundfile.read(tmp_path / "loud.flac")[0], np.clip(loud, -1.0, 1.0), atol=2**-13
    )


@pytest.mark.parametrize(("suffix", "container", "subtype", "rate_hz"), SUFFIXES_AND_FORMATS)
def test_a_recording_of_one_sample_or_none_stays_one(
    tmp_path: Path, suffix: str, container: str, subtype: str, rate_hz: int
) -> None:
    source, kind = tmp_path / f"short.{suffix}", {"format": container, "subtype": subtype}
    write(source, np.full((1, 2), 0.25, np.float32), rate_hz, **kind)
    target = denoise_file(source, settings=UNTOUCHED).target
    samples = soundfile.read(target)[0]
    assert samples.shape == (1, 2)
    if rate_hz == 22050:
        np.testing.assert_allclose(samples, soundfile.read(source)[0], atol=1e-2)
    if subtype in ("OPUS", "MPEG_LAYER_III") or container == "FLAC":
        return  # libsndfile writes no such file without a sample
    write(source, np.zeros((0, 2), np.float32), rate_hz, **kind)
    report = denoise_file(source, force=True)
    info = soundfile.info(report.target)
    assert (info.frames, info.channels, info.subtype) == (0, 2, subtype)
    assert report.seconds == report.real_time_factor == 0.0
    assert np.isnan(report.noise_removed_db)


def test_progress_tells_the_frames_done_and_ends_at_all_of_them(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    source = write(tmp_path / "long.wav", tune(22050, frames=100000))
    denoise_file(source, streams=Untouched, progress=lambda done, total: told.append((done, total)))
    done = [frames for frames, _ in told]
    assert done == sorted(set(done))
    assert len(done) >= 3
    assert told[-1] == (100000, 100000)


# What is never overwritten, and what is not left behind


def test_an_existing_target_is_kept_unless_forced(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.wav", tune(22050)), tmp_path / "a.denoised.wav"
    target.write_bytes(b"something dear")
    with pytest.raises(AudioFileError, match="exists already"):
        denoise_file(source)
    assert target.read_bytes() == b"something dear"
    denoise_file(source, force=True)
    assert soundfile.info(target).frames == 20011
    assert names(tmp_path) == ["a.denoised.wav", "a.wav"]


def test_a_forced_target_is_kept_when_the_work_fails(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.wav", tune(22050)), tmp_path / "a.denoised.wav"
    target.write_bytes(b"something dear")

    def fail(done: int, total: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        denoise_file(source, force=True, progress=fail)
    assert target.read_bytes() == b"something dear"
    assert names(tmp_path) == ["a.denoised.wav", "a.wav"]


@pytest.mark.parametrize("alias", ["the name", "a longer way", "a symbolic link", "a hard link"])
def test_the_original_cannot_be_its_own_target(tmp_path: Path, alias: str) -> None:
    source = write(tmp_path / "a.wav", tune(22050))
    (tmp_path / "folder").mkdir()
    target = {"the name": source, "a longer way": tmp_path / "folder" / ".." / "a.wav"}.get(
        alias, tmp_path / "alias.wav"
    )
    if alias == "a symbolic link":
        target.symlink_to(source)
    elif alias == "a hard link":
        target.hardlink_to(source)
    before, listed = source.read_bytes(), names(tmp_path)
    for force in (False, True):
        with pytest.raises(AudioFileError, match="would overwrite the original"):
            denoise_file(source, target, force=force)
    assert source.read_bytes() == before
    assert names(tmp_path) == listed


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("wav", RuntimeError), ("flac", KeyboardInterrupt), ("ogg", KeyboardInterrupt)],
)
def test_nothing_is_left_when_the_work_is_broken_off(
    tmp_path: Path, suffix: str, kind: type[BaseException]
) -> None:
    source = write(tmp_path / f"a.{suffix}", tune(22050, frames=100000))
    before = source.read_bytes()
    seen: list[list[str]] = []

    def break_off(done: int, total: int) -> None:
        seen.append(names(tmp_path))
        if len(seen) == 2:
            raise kind

    with pytest.raises(kind):
        denoise_file(source, streams=Untouched, progress=break_off)
    assert len(seen[0]) == 2  # the part was there, under another name than the target's
    assert default_target(source).name not in seen[-1]
    assert names(tmp_path) == [source.name]
    assert source.read_bytes() == before


def test_a_target_that_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    source, pipe = write(tmp_path / "a.wav", tune(22050)), tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    with pytest.raises(AudioFileError):
        denoise_file(source, pipe, force=True)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["a.wav", "pipe.wav"]


def test_a_link_to_no_file_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    source, link = write(tmp_path / "a.wav", tune(22050)), tmp_path / "out.wav"
    link.symlink_to("nowhere.wav")
    with pytest.raises(AudioFileError, match="exists already"):
        denoise_file(source, link)
    assert link.is_symlink()
    denoise_file(source, link, force=True)
    assert soundfile.info(link).frames == soundfile.info(source).frames


def test_missing_folders_of_the_target_are_made(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", tune(22050))
    denoise_file(source, tmp_path / "new" / "newer" / "b.wav")
    assert names(tmp_path) == ["a.wav", "new/newer/b.wav"]


@pytest.mark.parametrize("error", ["rate", "channels", "model"])
def test_nothing_is_written_when_the_work_cannot_begin(tmp_path: Path, error: str) -> None:
    rate_hz, channels = (6000 if error == "rate" else 16000), (65 if error == "channels" else 1)
    source = write(tmp_path / "a.wav", tune(16000, channels=channels), rate_hz)
    with pytest.raises(ModelError if error == "model" else InputError):
        denoise_file(
            source, tmp_path / "out" / "b.wav", model="no such model" if error == "model" else None
        )
    assert names(tmp_path) == ["a.wav"]
    assert not (tmp_path / "out").exists()


# Recordings that are not whole


@pytest.mark.parametrize(
    ("share", "suffix", "container", "subtype", "rate_hz"),
    [
        *(
            ((0.3, 0.7, 0.99)[number % 3], *entry)
            for number, entry in enumerate(SUFFIXES_AND_FORMATS)
            if entry[1] not in ("OGG", "AIFF")
        ),
        *((0.5, name.lower(), name, "PCM_16", 22050) for name in ("AIFF", "AU", "W64", "RF64")),
    ],
)
def test_a_truncated_recording_is_refused_and_nothing_written(
    tmp_path: Path, suffix: str, container: str, subtype: str, rate_hz: int, share: float
) -> None:
    sound, kind = tune(rate_hz, frames=60000), {"format": container, "subtype": subtype}
    source = write(tmp_path / f"cut.{suffix}", sound, rate_hz, **kind)
    whole = source.read_bytes()
    source.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(AudioFileError) as caught:
        denoise_file(source)
    assert str(source) in str(caught.value)
    assert names(tmp_path) == [source.name]


def test_a_truncated_wav_is_told_with_the_share_that_is_there(tmp_path: Path) -> None:
    source = write(tmp_path / "cut.wav", tune(22050, frames=60000))
    source.write_bytes(source.read_bytes()[: 44 + 60000 * 4 // 4])
    with pytest.raises(AudioFileError, match=r"is truncated: it holds 25% of the sound"):
        denoise_file(source)


def test_a_flac_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "damaged.flac", tune(22050, frames=100000))
    content = bytearray(source.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    source.write_bytes(content)
    with pytest.raises(AudioFileError, match="damaged"):
        denoise_file(source)
    assert names(tmp_path) == ["damaged.flac"]


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFFF - 36, 0x80000000, 0x7FFFF000])
def test_a_wav_whose_header_was_written_to_a_pipe_is_read_to_its_end(
    tmp_path: Path, size: int
) -> None:
    source = write(tmp_path / "streamed.wav", tune(22050))
    content = source.read_bytes()
    at = content.index(b"data")
    of_all, of_sound = (struct.pack("<I", n) for n in (min(size + 36, 0xFFFFFFFF), size))
    parts = (content[:4], of_all, content[8 : at + 4], of_sound, content[at + 8 :])
    source.write_bytes(b"".join(parts))
    report = denoise_file(source, settings=UNTOUCHED)
    samples = soundfile.read(report.target, dtype="int16")[0]
    assert samples.shape == (20011, 2)
    np.testing.assert_allclose(
        samples, np.frombuffer(content[at + 8 :], "<i2").reshape(-1, 2), atol=1
    )


def test_a_wav_whose_header_promises_nothing_does_not_pass_for_an_empty_recording(
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "unfinished.wav", tune(22050))
    content = source.read_bytes()
    at = content.index(b"data")
    source.write_bytes(content[:4] + bytes(4) + content[8 : at + 4] + bytes(4) + content[at + 8 :])
    try:
        report = denoise_file(source)
    except AudioFileError:
        assert names(tmp_path) == ["unfinished.wav"]
    else:
        assert soundfile.info(report.target).frames == 20011


@pytest.mark.parametrize("tag", [b"", b"TAG".ljust(128, b"x")])
@pytest.mark.parametrize("before", [b"", b"ID3\4\0\0\0\0\0\x0a" + bytes(10)])
def test_id3_tags_around_a_flac_do_no_harm(tmp_path: Path, before: bytes, tag: bytes) -> None:
    source = tmp_path / "a.flac"
    with soundfile.SoundFile(source, "w", 22050, 1) as file:
        file.title = "Title"
        file.write(tune(22050, channels=1))
    source.write_bytes(before + source.read_bytes() + tag)
    report = denoise_file(source, settings=UNTOUCHED)
    said = ("left out: ID3 or APE tags around the sound",) if before + tag else ()
    assert (soundfile.info(report.target).frames, report.notes) == (20011, said)
    with soundfile.SoundFile(report.target) as file:
        assert file.title == "Title"


def test_a_vbr_mp3_stays_one(tmp_path: Path) -> None:
    for mode, mark in (("VARIABLE", b"Xing"), ("CONSTANT", b"Info")):
        with soundfile.SoundFile(
            tmp_path / "a.mp3", "w", 44100, 1, compression_level=0.5, bitrate_mode=mode
        ) as file:
            file.write(tune(44100, frames=90000, channels=1))
        source = tmp_path / "a.mp3"
        target = denoise_file(source, force=True, streams=Untouched).target
        assert mark in source.read_bytes()[:300]
        assert mark in Path(target).read_bytes()[:300]


# What is no recording


def test_what_is_no_recording_is_refused_with_its_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("text.wav", "text.mp3"):
        (tmp_path / name).write_text("not audio\n" * 100, encoding="utf-8")
    (tmp_path / "one byte.mp3").write_bytes(b"\xff")
    (tmp_path / "empty.flac").touch()
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "dangling.wav").symlink_to("nowhere.wav")
    whole = write(tmp_path / "whole.wav", tune(22050)).read_bytes()
    (tmp_path / "cut in its header.wav").write_bytes(whole[:30])
    (tmp_path / "no channels.wav").write_bytes(whole[:22] + bytes(2) + whole[24:])
    (tmp_path / "no rate.wav").write_bytes(whole[:24] + bytes(8) + whole[32:])
    odd = ("text.wav", "text.mp3", "one byte.mp3", "cut in its header.wav", "no rate.wav")
    reasons = dict.fromkeys(odd, "is not sound")
    reasons |= {"no channels.wav": "no sound that can be decoded", "empty.flac": "is empty"}
    reasons |= dict.fromkeys(("missing.wav", "dangling.wav"), "there is no file")
    reasons |= dict.fromkeys(("loop.wav", "text.wav/below.wav"), "cannot be read")
    reasons["folder.wav"] = "is a folder"
    listed = names(tmp_path)
    for name, reason in reasons.items():
        with pytest.raises(AudioFileError) as caught:
            denoise_file(tmp_path / name, tmp_path / "out.wav")
        assert reason in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
        assert names(tmp_path) == listed
    assert capfd.readouterr().err == ""  # nor do the libraries complain there


def test_a_name_that_the_file_system_refuses_is_an_audio_file_error(tmp_path: Path) -> None:
    source, endless = write(tmp_path / "a.wav", tune(22050)), tmp_path / ("x" * 300 + ".wav")
    with pytest.raises(AudioFileError):
        denoise_file(endless, tmp_path / "out.wav")
    with pytest.raises(AudioFileError):
        denoise_file(source, endless)
    for sources, output in (
        ([str(endless)], None),
        ([str(source)], str(endless)),
        ([str(source), str(endless)], str(endless)),
    ):
        with pytest.raises(AudioFileError):
            [denoise_file(*pair) for pair in plan(sources, output)]
    assert names(tmp_path) == ["a.wav"]


def test_a_target_that_cannot_be_made_is_an_audio_file_error(tmp_path: Path) -> None:
    source = write(tmp_path / "a.wav", tune(22050))
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    for target in (
        tmp_path / "plain" / "b.wav",
        tmp_path / "plain" / "below" / "b.wav",
        Path("/proc/nowhere/b.wav"),
        tmp_path / "folder",
    ):
        with pytest.raises(AudioFileError) as caught:
            denoise_file(source, target)
        assert str(target) in str(caught.value) or str(target.parent) in str(caught.value)
    assert names(tmp_path) == ["a.wav", "plain"]


def test_a_format_that_cannot_hold_the_recording_is_told_by_the_name_of_the_target(
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "a.wav", tune(22050))
    with pytest.raises(AudioFileError, match=r"choose another format") as caught:
        denoise_file(source, tmp_path / "a.wve")  # it has 8000 Hz
    assert str(tmp_path / "a.wve") in str(caught.value)
    assert ".part" not in str(caught.value)
    assert names(tmp_path) == ["a.wav"]


# Plans


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(folder: Path, *files: str) -> None:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_plan_for_one_recording_puts_it_where_told(here: Path) -> None:
    made(here, "a.wav", "folder/b.wav")
    assert plan(["a.wav"], None) == [("a.wav", "a.denoised.wav")]
    assert plan(["folder/b.wav"], None) == [("folder/b.wav", "folder/b.denoised.wav")]
    assert plan(["a.wav"], "c.flac") == [("a.wav", "c.flac")]
    assert plan(["a.wav"], "folder") == [("a.wav", "folder/a.wav")]
    assert plan(["a.wav"], "new/") == [("a.wav", "new/a.wav")]
    assert plan(["a.wav"], "-") == [("a.wav", "-")]
    assert plan(["-"], None) == [("-", "-")]
    assert plan(["-"], "c.wav") == [("-", "c.wav")]


def test_a_plan_for_several_recordings_keeps_their_names(here: Path) -> None:
    both = ["a.wav", "folder/b.flac"]
    made(here, *both)
    beside = ["a.denoised.wav", "folder/b.denoised.flac"]
    assert plan(both, None) == [*zip(both, beside, strict=True)]
    assert plan(both, "new") == [*zip(both, ["new/a.wav", "new/b.flac"], strict=True)]


def test_a_plan_for_a_folder_takes_the_recordings_below_it_and_keeps_its_subfolders(
    here: Path,
) -> None:
    found = ["in/A.FLAC", "in/a.wav", "in/deep/er/b.ogg"]
    made(here, *found, "in/notes.txt", "in/deep/picture.png", "in/.hidden.wav")
    made(here, "in/a.denoised.wav", "in/deep/b.denoised.ogg")
    (here / "in" / "folder.wav").mkdir()
    beside = ["in/A.denoised.FLAC", "in/a.denoised.wav", "in/deep/er/b.denoised.ogg"]
    assert plan(["in"], None) == [*zip(found, beside, strict=True)]
    assert plan(["in"], "out") == [(name, name.replace("in/", "out/")) for name in found]


def test_a_plan_does_not_take_its_own_earlier_results_for_recordings(here: Path) -> None:
    made(here, "a.wav", "cleaned/a.wav")
    assert plan(["."], "cleaned") == [("a.wav", "cleaned/a.wav")]


def test_a_plan_leaves_out_what_a_manifest_says_rtden_wrote(here: Path) -> None:
    made(here, "a.wav", "done/a.wav", "done/deep/b.wav", "done/mine.wav", "done/failed.wav")
    of = {"a.wav": "ok", "deep/b.wav": "ok", "failed.wav": "failed"}
    lines = [{"status": status, "target": target} for target, status in of.items()]
    manifest = "".join(json.dumps(line) + "\n" for line in lines) + '{"status": "ok", "tar'
    (here / "done" / listing.MANIFEST).write_text(manifest, encoding="utf-8")
    found = listing.plan(["."], "new")
    assert [source for source, _ in found.pairs] == ["a.wav", "done/failed.wav", "done/mine.wav"]
    assert found.results == 2
    (here / "done" / "mine.wav").unlink()
    (here / "done" / "failed.wav").unlink()
    with pytest.raises(AudioFileError, match="no sound files but results of rtden; name the files"):
        plan(["done"], "again")
    assert plan(["done/a.wav"], "again/") == [("done/a.wav", "again/a.wav")]


def test_a_plan_in_which_two_recordings_meet_is_refused(here: Path) -> None:
    made(here, "one/a.wav", "two/a.wav", "link/x.wav")
    with pytest.raises(AudioFileError, match=r"two files would be written to .*out/a\.wav"):
        plan(["one/a.wav", "two/a.wav"], "out")
    with pytest.raises(AudioFileError, match="two files would be written"):
        plan(["one", "two"], "out")
    with pytest.raises(AudioFileError, match="two files would be written"):
        plan(["one/a.wav", "./one/../one/a.wav"], None)
    assert plan(["one/a.wav", "two/a.wav"], None) == [
        ("one/a.wav", "one/a.denoised.wav"),
        ("two/a.wav", "two/a.denoised.wav"),
    ]


def test_a_plan_leaves_out_results_whose_originals_are_given_too(here: Path) -> None:
    made(here, "a.wav", "a.denoised.wav", "b.denoised.wav")
    found = listing.plan(["a.wav", "a.denoised.wav"], None)
    assert (found.pairs, found.results) == ([("a.wav", "a.denoised.wav")], 1)
    found = listing.plan(["a.wav", "b.denoised.wav"], "out")
    assert [source for source, _ in found.pairs] == ["a.wav", "b.denoised.wav"]
    assert listing.plan(["./a.wav", "./a.denoised.wav"], None).results == 1
    assert plan(["a"], None) == [("a", "a.denoised.wav")]
    assert listing.plan(["a.denoised.wav"], None).pairs == [
        ("a.denoised.wav", "a.denoised.denoised.wav")
    ]


def test_a_plan_that_would_overwrite_another_of_its_files_is_refused(here: Path) -> None:
    made(here, "in/a.wav", "a.wav")
    with pytest.raises(AudioFileError, match="would be overwritten"):
        plan(["in/a.wav", "a.wav"], ".")


def test_an_empty_name_is_no_folder(here: Path) -> None:
    made(here, "private.wav", "z.wav")
    for sources, output in (([""], None), (["z.wav", " "], None), (["z.wav"], "")):
        with pytest.raises(AudioFileError, match="empty"):
            plan(sources, output)


def test_a_plan_for_standard_input_goes_into_no_folder(here: Path) -> None:
    made(here, "folder/a.wav")
    for output in ("folder", "new/"):
        with pytest.raises(AudioFileError, match="is a folder; name the file to write in it"):
            plan(["-"], output)


def test_a_plan_of_several_recordings_into_one_file_is_refused(here: Path) -> None:
    made(here, "a.wav", "b.wav", "in/c.wav", "taken")
    for sources, output in (
        (["a.wav", "b.wav"], "taken"),
        (["in"], "taken"),
        (["a.wav", "b.wav"], "-"),
        (["in"], "-"),
    ):
        with pytest.raises(AudioFileError, match="several files cannot go into the one file"):
            plan(sources, output)


def test_a_plan_for_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "in/notes.txt", "in/a.denoised.wav")
    with pytest.raises(AudioFileError, match="holds no sound files"):
        plan([str(tmp_path / "in")], None)


# The rest


def test_recordings_read_to_be_compared_have_one_rate_one_channel_and_one_length(
    tmp_path: Path,
) -> None:
    mono = tune(16000, frames=16000, channels=1)
    first = write(tmp_path / "first.wav", mono, 16000, subtype="FLOAT")
    same = tune(48000, frames=48000, channels=1) - mono.mean()
    stereo = write(
        tmp_path / "stereo.wav", np.hstack([same * 1.5, same * 0.5]), 48000, subtype="FLOAT"
    )
    short = write(tmp_path / "short.wav", mono[:12000], 16000, subtype="FLOAT")
    signals, rate_hz = read_aligned(first, stereo, short)
    assert rate_hz == 16000
    assert [signal.shape for signal in signals] == [(12000,)] * 3
    np.testing.assert_array_equal(signals[0], mono[:12000, 0])
    np.testing.assert_array_equal(signals[2], mono[:12000, 0])
    assert delay_samples(signals[1], signals[0]) == 0
    assert si_sdr_db(signals[0], signals[1]) > 15.0


def test_recordings_read_to_be_compared_are_checked(tmp_path: Path) -> None:
    good, cut = write(tmp_path / "good.wav", tune(22050)), write(tmp_path / "cut.wav", tune(22050))
    cut.write_bytes(cut.read_bytes()[:20000])
    with pytest.raises(AudioFileError, match="truncated"):
        read_aligned(good, cut)
    with pytest.raises(AudioFileError, match="there is no file"):
        read_aligned(tmp_path / "missing.wav", good)


def test_the_format_of_a_file_without_a_recording_follows_its_suffix() -> None:
    assert format_of(Path("a.wav")) == ("WAV", "PCM_16")
    assert format_of(Path("a.FLAC")) == ("FLAC", "PCM_16")
    assert format_of(Path("a.opus")) == ("OGG", "OPUS")
    with pytest.raises(AudioFileError, match=r"writes no \.xyz files"):
        format_of(Path("a.xyz"))


@pytest.mark.parametrize("full_band", [True, False])
def test_sound_above_the_models_band_passes_unless_it_is_told_not_to(
    tmp_path: Path, full_band: bool
) -> None:
    seconds = np.arange(3 * 48000) / 48000
    tones = (
        0.2 * np.sin(2 * np.pi * 1000 * seconds) + 0.1 * np.sin(2 * np.pi * 16000 * seconds)
    ).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", tones, 48000, subtype="FLOAT")
    paths = (tmp_path / "in.wav", tmp_path / "out.wav")
    denoise_file(*paths, settings=UNTOUCHED, full_band=full_band)
    out, _ = soundfile.read(tmp_path / "out.wav")
    level = {
        hz: 2
        * np.abs(np.mean(out[24000:-24000] * np.exp(-2j * np.pi * hz * seconds[24000:-24000])))
        for hz in (1000, 16000)
    }
    assert level[1000] == pytest.approx(0.2, rel=0.01)
    assert level[16000] == (
        pytest.approx(0.1, rel=0.01) if full_band else pytest.approx(0.0, abs=1e-4)
    )


@pytest.mark.parametrize("seconds", [0.8, 1.4, 10.0])
def test_the_noise_of_all_that_comes_out_is_measured(
    seconds: float, tmp_path: Path, rng: np.random.Generator
) -> None:
    soundfile.write(tmp_path / "in.wav", 0.1 * rng.standard_normal(int(seconds * 22050)), 22050)
    report = denoise_file(tmp_path / "in.wav", tmp_path / "out.wav", model="seed")
    assert report.noise_removed_db > 10.0


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_libsndfile_writes_by_name_so_that_no_interrupt_is_swallowed(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is raised in Python while libsndfile calls it would not be passed on."""
    source = write(tmp_path / f"in.{suffix}", tune(22050))
    places, given = list[type](), soundfile.SoundFile.__init__

    def noted(file: Any, place: Any, *arguments: Any, **options: Any) -> None:
        places.append(type(place))
        given(file, place, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", noted)
    denoise_file(source, settings=UNTOUCHED)
    assert {*places} - {Window} == {bytes}


@pytest.mark.parametrize(
    ("suffix", "subtype", "live", "decoded"),
    [("wav", "PCM_16", False, False), ("caf", "FLOAT", False, False), ("au", "ULAW", False, False),
     ("flac", "PCM_16", False, True), ("ogg", "VORBIS", False, True),
     ("flac", "PCM_16", True, False), ("mp3", "MPEG_LAYER_III", True, False)],
)  # fmt: skip
def test_a_result_is_decoded_where_its_size_says_nothing_but_not_hours_of_live_sound(
    tmp_path: Path,
    suffix: str,
    subtype: str,
    live: bool,
    decoded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, read = write(tmp_path / f"a.{suffix}", tune(22050), subtype=subtype), list[Any]()

    def noted(recording: Any) -> Any:
        read.append(recording)
        return read_blocks(recording)

    monkeypatch.setattr(writing, "read_blocks", noted)
    writing.check_result(path, path, 20011, live=live)
    assert bool(read) == decoded
    with pytest.raises(AudioFileError, match=r"holds 20011 of 20012 samples"):
        writing.check_result(path, path, 20012, live=live)
