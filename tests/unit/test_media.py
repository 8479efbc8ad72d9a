"""Phone recordings and videos through PyAV, against FFmpeg's own decoder where it has one."""

from __future__ import annotations

import base64
import hashlib
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from signals import delay_samples
from sounds import Untouched

from rtden import denoise_file
from rtden.errors import AudioFileError, MissingPackageError
from rtden.files.audio_file import open_recording, read_blocks
from rtden.files.media import open_media

av = pytest.importorskip("av")

pytestmark = pytest.mark.usefixtures("small_model")
RATE_HZ = 44100


def voice(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes, two channels."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(seed).standard_normal((len(t), 2))
    voice: np.ndarray = 0.1 * noise * np.sin(7.0 * t)[:, None] ** 2
    return voice.astype(np.float32)


def encode(out: Any, stream: Any, samples: np.ndarray, start: int = 0) -> None:
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples.T), format="fltp", layout="stereo"
    )
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
    for packet in [*stream.encode(frame), *stream.encode(None)]:
        out.mux(packet)


def film(path: Path, *, codecs: tuple[str, ...] = ("aac",), start: int = 0, **options: Any) -> Path:
    """A film whose frames come at uneven times, with sound tracks of a second of noise."""
    with av.open(str(path), "w", **options) as out:
        picture = out.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        picture.set_display_rotation(90)
        picture.time_base = Fraction(1, 1000)
        tracks = [out.add_stream(codec, rate=RATE_HZ, layout="stereo") for codec in codecs]
        for number, track in enumerate(tracks):
            track.bit_rate = 128000
            track.metadata["language"] = ("deu", "eng")[number]
        out.metadata["title"] = "Holiday"
        halves = {"time_base": Fraction(1, 2), "metadata": {}}
        # The last one ends later than picture and sound.
        chapters = [{"id": 0, "start": 0, "end": 1}, {"id": 1, "start": 1, "end": 3}]
        out.set_chapters([chapter | halves for chapter in chapters])
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(
                np.full((64, 64, 3), 6 * number, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = 40 * number + 7 * (number % 3), Fraction(1, 1000)
            for packet in picture.encode(frame):
                out.mux(packet)
        for packet in picture.encode(None):
            out.mux(packet)
        for number, track in enumerate(tracks):
            encode(out, track, voice(seed=number), start)
    return path


def sound(path: Path, track: int = 0) -> np.ndarray:
    """The left channel on the file's time line, as FFmpeg decodes it."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=track))
    first = round(float(frames[0].pts * frames[0].time_base) * RATE_HZ)
    left = np.concatenate([frame.to_ndarray().astype(np.float64)[0] for frame in frames])
    return np.concatenate([np.zeros(max(0, first)), left[max(0, -first) :]])


def pictures(path: Path) -> list[tuple[str, Any, Any]]:
    with av.open(str(path)) as container:
        return [
            (hashlib.sha256(bytes(packet)).hexdigest(), packet.pts, packet.time_base)
            for packet in container.demux(video=0)
            if packet.size
        ]


def described(path: Path) -> list[tuple[str, str, str | None]]:
    with av.open(str(path)) as container:
        return [
            (s.type, s.codec_context.codec.canonical_name, s.metadata.get("language"))
            for s in container.streams
            if s.type != "data"  # QuickTime's list of chapters
        ]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_video_comes_back_with_its_picture_to_the_bit_and_its_sound_in_step(
    tmp_path: Path, suffix: str
) -> None:
    source = film(tmp_path / f"in.{suffix}")
    report = denoise_file(source, streams=Untouched)
    target = Path(report.target)
    assert target.name == f"in.denoised.{suffix}"
    assert pictures(target) == pictures(source)
    assert described(target) == described(source)
    before, after = sound(source), sound(target)
    shortest = min(len(before), len(after))
    assert abs(len(before) - len(after)) <= 1024
    assert delay_samples(after[:shortest], before[:shortest]) == 0
    with av.open(str(target)) as out, av.open(str(source)) as original:
        assert out.metadata["title"] == "Holiday"
        assert [c["start"] * c["time_base"] for c in out.chapters()] == [0, 0.5]
        rate = original.streams.audio[0].bit_rate
        assert rate is None or out.streams.audio[0].bit_rate == pytest.approx(rate, rel=0.2)
        assert next(out.decode(video=0)).rotation == next(original.decode(video=0)).rotation != 0


@pytest.mark.parametrize("suffix", ["avi", "flv"])
def test_where_players_do_not_skip_what_an_encoder_puts_first_the_sound_is_in_step_too(
    tmp_path: Path, suffix: str
) -> None:
    codec, picture = ("libmp3lame", "mpeg4") if suffix == "avi" else ("aac", "flv")
    source = tmp_path / f"in.{suffix}"
    with av.open(str(source), "w") as out:
        film_stream = out.add_stream(picture, rate=25)
        film_stream.width = film_stream.height = 64
        track = out.add_stream(codec, rate=RATE_HZ, layout="stereo")
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), "rgb24")
            frame.pts = number
            for packet in film_stream.encode(frame):
                out.mux(packet)
        encode(out, track, voice(), 2048)
    before, after = sound(source), sound(Path(denoise_file(source, streams=Untouched).target))
    shortest = min(len(before), len(after))
    assert delay_samples(after[:shortest], before[:shortest]) == 0


@pytest.mark.parametrize(("channels", "suffix"), [(7, "m4a"), (8, "m4a"), (8, "webm"), (16, "wv")])
def test_many_channels_stay_in_their_order(tmp_path: Path, channels: int, suffix: str) -> None:
    time = np.arange(24000) / 48000
    tones = np.stack([0.1 * np.sin(20.0 * np.pi * (n + 3) * time) for n in range(channels)], 1)
    soundfile.write(tmp_path / "in.wav", tones, 48000)
    first = denoise_file(tmp_path / "in.wav", tmp_path / f"a.{suffix}", streams=Untouched).target
    second = denoise_file(first, tmp_path / f"b.{suffix}", streams=Untouched).target
    denoise_file(second, tmp_path / "out.wav", streams=Untouched)
    after = soundfile.read(tmp_path / "out.wav")[0]
    assert after.shape[1] == channels
    found = np.abs(after[:24000].T @ tones) / np.sum(tones**2, 0)
    np.testing.assert_array_equal(np.argmax(found, 1), np.arange(channels))


@pytest.mark.parametrize("channels", range(3, 9))
@pytest.mark.parametrize("suffix", ["ogg", "opus", "mka"])
def test_each_channel_of_vorbis_and_opus_goes_to_its_speaker(
    tmp_path: Path, channels: int, suffix: str
) -> None:
    """FFmpeg's decoder returns them in the order of a WAV."""
    tones = np.sin(np.outer(np.arange(48000), 2.0 * np.pi * (3 + np.arange(channels)) * 10) / 48000)
    soundfile.write(tmp_path / "in.wav", 0.1 * tones, 48000)
    path = Path(
        denoise_file(tmp_path / "in.wav", tmp_path / f"a.{suffix}", streams=Untouched).target
    )
    with open_media(path) as recording:
        decoded = np.concatenate([*read_blocks(recording)])
    denoise_file(path, tmp_path / "out.wav", streams=Untouched)
    for after in (decoded, soundfile.read(tmp_path / "out.wav")[0]):
        assert after.shape[1] == channels
        found = np.abs(after[4800:43200].T @ tones[4800:43200])
        np.testing.assert_array_equal(np.argmax(found, 1), np.arange(channels))


def test_sound_that_begins_later_than_the_picture_still_does(tmp_path: Path) -> None:
    source = film(tmp_path / "late.mp4", start=31234)
    before, after = sound(source), sound(Path(denoise_file(source, streams=Untouched).target))
    shortest = min(len(before), len(after))
    assert delay_samples(after[:shortest], before[:shortest]) == 0


def test_all_sound_tracks_are_denoised_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    source = film(tmp_path / "two.mkv", codecs=("aac", "ac3"))
    both = Path(denoise_file(source, tmp_path / "both.mkv").target)
    second = Path(denoise_file(source, tmp_path / "second.mkv", track=2).target)
    assert described(both) == described(second) == described(source)
    for number in range(2):
        assert sound(both, number).std() < 0.8 * sound(source, number).std()
    assert np.array_equal(sound(second), sound(source))
    assert sound(second, 1).std() < 0.8 * sound(source, 1).std()
    report = denoise_file(source, tmp_path / "out.wav", track=2)
    assert soundfile.info(report.target).samplerate == RATE_HZ
    assert "its picture was left out" in report.notes
    for track in (0, 3):
        with pytest.raises(AudioFileError, match=f"has no sound track {track}; it has 2"):
            denoise_file(source, tmp_path / "other.mkv", track=track)
    with pytest.raises(AudioFileError, match="has no sound track 0; it has 1"):
        denoise_file(tmp_path / "out.wav", track=0)


@pytest.mark.parametrize("name", ["12:30 a.m4a", "http:x.m4a", "%03d.m4a"])
def test_a_name_that_ffmpeg_takes_for_a_protocol_is_a_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("in.wav", voice(0.5), RATE_HZ)
    denoise_file("in.wav", name, streams=Untouched)
    (tmp_path / "12:00").mkdir()
    report = denoise_file(name, f"12:00/{name}", streams=Untouched)
    assert report.seconds == pytest.approx(0.5, abs=0.05)
    assert len(sound(tmp_path / "12:00" / name)) > 0.5 * RATE_HZ


@pytest.mark.parametrize(("codec", "suffix"), [("flac", "ogg"), ("flac", "oga"), ("alac", "caf")])
def test_a_lossless_codec_stays_where_libsndfile_does_not_write_it(
    tmp_path: Path, codec: str, suffix: str
) -> None:
    source = tmp_path / f"in.{suffix}"
    with av.open(str(source), "w", format="caf" if suffix == "caf" else "ogg") as out:
        stream = out.add_stream(codec, rate=RATE_HZ, layout="stereo")
        stream.codec_context.format = "s16" if codec == "flac" else "s16p"
        encode(out, stream, voice())
    report = denoise_file(source, streams=Untouched)
    assert described(Path(report.target)) == described(source) == [("audio", codec, None)]
    with open_recording(source) as before, open_recording(Path(report.target)) as after:
        one, two = ([*read_blocks(r)] for r in (before, after))
    np.testing.assert_allclose(np.concatenate(two), np.concatenate(one), atol=2**-14)
    assert len(np.concatenate(two)) == len(voice())


def test_the_pcm_of_a_blu_ray_is_read_again(tmp_path: Path) -> None:
    source = tmp_path / "in.m2ts"
    with av.open(str(source), "w") as out:
        encode(out, out.add_stream("pcm_bluray", rate=48000, layout="stereo"), voice())
    report = denoise_file(source, tmp_path / "out.m2ts", streams=Untouched)
    assert described(Path(report.target)) == described(source) == [("audio", "pcm_bluray", None)]
    with open_recording(Path(report.target)) as recording:
        assert sum(map(len, read_blocks(recording))) == 48000


def test_high_efficiency_aac_becomes_low_complexity_and_is_said(tmp_path: Path) -> None:
    source = tmp_path / "in.m4a"
    with av.open(str(source), "w", format="mp4") as out:
        encode(out, out.add_stream("aac", rate=RATE_HZ, layout="stereo"), voice())
    with av.open(str(source)) as container:
        header = bytes(container.streams.audio[0].codec_context.extradata)
    # ISO 14496-3, 1.6.2.1: object type 5 (SBR), 44.1 kHz, 2 channels, 44.1 kHz, object type 2.
    bits = f"{5:05b}{4:04b}{2:04b}{4:04b}{2:05b}".ljust(8 * len(header), "0")
    changed = int(bits, 2).to_bytes(len(header), "big")
    source.write_bytes(source.read_bytes().replace(header, changed))
    assert (
        "its sound is written as AAC-LC, not HE-AAC"
        in denoise_file(source, streams=Untouched).notes
    )


def test_a_sample_rate_that_a_codec_does_not_take_is_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice()[:, :1], 96000)
    notes = {}
    for suffix in ("m4a", "webm", "wma", "amr"):
        notes[suffix] = denoise_file(
            tmp_path / "in.wav", tmp_path / f"out.{suffix}", streams=Untouched
        ).notes
    assert notes["m4a"] == ()
    for suffix, rate_hz in (("webm", 48000), ("wma", 48000), ("amr", 8000)):
        assert f"its sample rate falls to {rate_hz} Hz" in notes[suffix][0]


@pytest.mark.parametrize("behind", [0, 300, 1024, 1500])  # the last whole frame of 2048
def test_wma_keeps_all_samples_and_says_how_much_silence_follows(
    tmp_path: Path, behind: int
) -> None:
    count = 21 * 2048 + behind
    tone = 0.3 * np.sin(0.06 * np.arange(count))
    soundfile.write(tmp_path / "in.wav", tone, RATE_HZ, "FLOAT")
    report = denoise_file(tmp_path / "in.wav", tmp_path / "out.wma", streams=Untouched)
    with av.open(report.target) as container:
        after = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert np.std(after[:count] - tone) < 0.005
    assert np.std(after[count - 500 : count] - tone[-500:]) < 0.02
    assert np.abs(after[count + 100 :]).max() < 0.03
    added_ms = 1000.0 * (len(after) - count) / RATE_HZ
    assert report.notes == (
        f"{added_ms:.0f} ms of silence follow on its sound, as WMA has whole frames",
    )


def test_a_film_without_sound_is_refused_in_a_sentence(tmp_path: Path) -> None:
    film(tmp_path / "mute.mp4", codecs=())
    with pytest.raises(AudioFileError, match="has no sound track"):
        denoise_file(tmp_path / "mute.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["mute.mp4"]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("m4a", "aac"), ("webm", "opus"), ("wma", "wmav2"), ("aac", "aac"), ("3gp", "aac")],
)
def test_a_suffix_gets_what_it_says(tmp_path: Path, suffix: str, codec: str) -> None:
    soundfile.write(tmp_path / "in.wav", voice(), RATE_HZ)
    target = denoise_file(tmp_path / "in.wav", tmp_path / f"out.{suffix}", streams=Untouched).target
    with av.open(target) as container:
        (stream,) = container.streams
        assert stream.codec_context.codec.canonical_name == codec
        assert sum(frame.samples for frame in container.decode(stream)) / stream.rate > 0.9


def test_a_suffix_that_nothing_writes_is_refused_before_the_work(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(), RATE_HZ)
    with pytest.raises(AudioFileError, match=r"writes no \.xyz files"):
        denoise_file(tmp_path / "in.wav", tmp_path / "out.xyz")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_without_the_package_the_sentence_names_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = film(tmp_path / "in.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"needs the package av: run .*\[av\]"):
        denoise_file(source)
    with pytest.raises(AudioFileError, match=r"there is no file .*typo\.mp4"):
        denoise_file(tmp_path / "typo.mp4")  # the package would not help
    notes = source.rename(tmp_path / "notes.md")
    with pytest.raises(MissingPackageError, match=r"notes\.md has no usual suffix .* package av"):
        denoise_file(notes)
    soundfile.write(tmp_path / "in.wav", voice(), RATE_HZ)
    with pytest.raises(MissingPackageError, match=r"out\.m4a needs the package av"):
        denoise_file(tmp_path / "in.wav", tmp_path / "out.m4a")


@pytest.mark.parametrize(("suffix", "codec"), [("m4a", "aac"), ("avi", "libmp3lame")])
def test_a_truncated_phone_recording_is_refused(tmp_path: Path, suffix: str, codec: str) -> None:
    source = tmp_path / f"in.{suffix}"
    options = {"movflags": "faststart"} if suffix == "m4a" else {}
    with av.open(str(source), "w", options=options) as out:
        encode(out, out.add_stream(codec, rate=RATE_HZ, layout="stereo"), voice(3.0))
    whole = source.read_bytes()
    denoise_file(source, tmp_path / "whole.wav", streams=Untouched)
    source.write_bytes(whole[: len(whole) // 2])
    for target in ("out.wav", f"out.{suffix}"):
        with pytest.raises(AudioFileError, match="truncated"):
            denoise_file(source, tmp_path / target, streams=Untouched)


def test_mp3s_without_a_count_and_joined_ones_are_read_to_their_end(tmp_path: Path) -> None:
    one = tmp_path / "one.mp3"
    with av.open(str(one), "w", options={"write_xing": "0"}) as out:
        encode(out, out.add_stream("libmp3lame", rate=RATE_HZ, layout="stereo"), voice())
    soundfile.write(tmp_path / "two.mp3", voice(), RATE_HZ)
    joined = tmp_path / "joined.mp3"
    joined.write_bytes((tmp_path / "two.mp3").read_bytes() * 2)
    for path in (one, joined):
        with av.open(str(path)) as container:
            frames = sum(frame.samples for frame in container.decode(audio=0))
        report = denoise_file(path, tmp_path / "out.wav", streams=Untouched, force=True)
        assert soundfile.info(report.target).frames == frames
        assert frames >= (1 if path is one else 2) * RATE_HZ


def test_ffmpegs_decoder_and_libsndfiles_agree(tmp_path: Path) -> None:
    for suffix in ("flac", "wav", "mp3", "ogg", "aiff", "caf"):
        path = tmp_path / f"a.{suffix}"
        soundfile.write(path, voice(), RATE_HZ)
        with open_recording(path) as recording:
            ours = np.concatenate([*read_blocks(recording)])
        with open_recording(path, track=1) as recording:
            assert recording.format == ""
            theirs = np.concatenate([*read_blocks(recording)])
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 2e-3


def test_a_film_that_was_cut_off_is_refused_and_one_whose_sound_ends_early_is_not(
    tmp_path: Path,
) -> None:
    source = film(tmp_path / "in.mkv")
    whole = source.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(AudioFileError, match=r"cut\.mkv is truncated"):
        denoise_file(tmp_path / "cut.mkv")
    short = tmp_path / "short.mkv"
    with av.open(str(short), "w") as out:
        picture = out.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        track = out.add_stream("aac", rate=RATE_HZ, layout="stereo")
        for number in range(200):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), "rgb24")
            frame.pts = number
            for packet in picture.encode(frame):
                out.mux(packet)
        encode(out, track, voice())
    assert len(pictures(Path(denoise_file(short, streams=Untouched).target))) == 200
    report = denoise_file(short, tmp_path / "sound.wav", streams=Untouched)
    assert report.seconds == pytest.approx(1.0, abs=0.1)


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def covers(path: str) -> list[bytes]:
    """Return the covers of a file as FFmpeg reads them."""
    with av.open(path) as container:
        return [
            next(bytes(packet) for packet in container.demux(stream))
            for stream in container.streams.video
            if stream.disposition & 0x400
        ]


def test_a_cover_stays_where_the_container_has_a_place_for_it(tmp_path: Path) -> None:
    source = tmp_path / "in.mka"
    with av.open(str(source), "w") as out:
        track = out.add_stream("aac", rate=RATE_HZ, layout="stereo")
        out.add_attachment("front.png", "image/png", PNG)
        encode(out, track, voice())
    first = denoise_file(source, tmp_path / "out.mkv", streams=Untouched)
    second = denoise_file(first.target, tmp_path / "out.m4a", streams=Untouched)
    third = denoise_file(second.target, tmp_path / "again.mkv", streams=Untouched)
    last = denoise_file(third.target, tmp_path / "out.avi", streams=Untouched)
    for report in (first, second, third):
        assert covers(report.target) == [PNG]
        assert report.notes == ()
    first_ms = "its first 23 ms gave way to what the encoder puts before the sound"
    assert last.notes == ("left out: picture", first_ms)


@pytest.mark.parametrize("suffix", ["m4a", "webm", "ac3"])
@pytest.mark.parametrize("channels", [3, 4, 6])
def test_no_channel_without_a_name_is_taken_for_a_low_one(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    soundfile.write(tmp_path / "in.wav", np.tile(voice(0.5)[:, :1], channels), RATE_HZ)
    report = denoise_file(tmp_path / "in.wav", tmp_path / f"out.{suffix}", streams=Untouched)
    with open_recording(Path(report.target)) as recording:
        levels = np.concatenate([*read_blocks(recording)]).std(axis=0)
    named = np.arange(channels) != 3 if channels == 6 else np.ones(channels, bool)  # 5.1
    assert levels[named].min() > 0.5 * levels.max()


def test_a_layout_that_the_encoder_of_opus_does_not_take_gets_another_name(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        track = out.add_stream("flac", rate=48000, layout="5.1(side)")
        frame = av.AudioFrame(format="s16", layout="5.1(side)", samples=4096)
        frame.sample_rate, frame.pts = 48000, 0
        out.mux([*track.encode(frame), *track.encode(None)])
    report = denoise_file(tmp_path / "in.mkv", tmp_path / "out.webm", streams=Untouched)
    assert described(Path(report.target)) == [("audio", "opus", None)]


@pytest.mark.parametrize("suffix", ["m4a", "mkv", "avi"])
def test_tags_that_are_no_utf_8_do_no_harm(tmp_path: Path, suffix: str) -> None:
    source = film(tmp_path / f"in.{suffix}", codecs=("libmp3lame" if suffix == "avi" else "aac",))
    source.write_bytes(source.read_bytes().replace(b"Holiday", b"Caf\xe9 de"))
    for target in ("out.wav", f"out.{suffix}"):
        denoise_file(source, tmp_path / target, streams=Untouched)
    with av.open(str(tmp_path / f"out.{suffix}")) as container:
        assert container.metadata["title"] == "Caf\ufffd de"


def test_channels_that_an_encoder_does_not_take_are_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.zeros((4000, 9)), 48000)
    for suffix in ("m4a", "mkv"):
        with pytest.raises(AudioFileError, match="encoder takes no 9 channels at 48000 Hz"):
            denoise_file(tmp_path / "in.wav", tmp_path / f"out.{suffix}", streams=Untouched)
    assert [*tmp_path.iterdir()] == [tmp_path / "in.wav"]


@pytest.mark.parametrize("channels", [3, 4])
def test_channels_that_a_container_does_not_take_are_said(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "in.wav", voice()[:, [0] * channels], RATE_HZ)
    words = r"a \.flv does not take all of in\.wav \(FLV has one or two channels\)"
    with pytest.raises(AudioFileError, match=words):
        denoise_file(tmp_path / "in.wav", tmp_path / "out.flv", streams=Untouched)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


TAGS = {"title": "T", "artist": "A", "composer": "C", "lyrics": "L", "own": "O"}


@pytest.mark.parametrize("target", ["mka", "m4a", "wma", "flac", "mp3", "aiff", "wav"])
@pytest.mark.parametrize("name", ["in.opus", "in.ogg", "in.m4a", "in.mka", "in.flac", "in.wma"])
def test_each_tag_of_any_format_stays_or_is_named(tmp_path: Path, name: str, target: str) -> None:
    source = tmp_path / name
    codecs = {".m4a": "aac", ".flac": "flac", ".wma": "wmav2"}
    with av.open(str(source), "w") as out:
        codec = codecs.get(source.suffix, "libopus")
        track = out.add_stream(codec, rate=48000, layout="stereo", bit_rate=128000)
        out.metadata.update(TAGS)
        encode(out, track, voice(0.2))
    before = texts_of_file(source)
    assert before == {*TAGS} - ({"own"} if source.suffix == ".m4a" else set())
    report = denoise_file(source, tmp_path / f"out.{target}", streams=Untouched)
    after, said = texts_of_file(Path(report.target)), " ".join(report.notes).lower()
    assert "title" in after
    assert all(tag in after or f" {tag}" in said for tag in before)


def texts_of_file(path: Path) -> set[str]:
    with av.open(str(path)) as container:
        found = {**container.metadata, **container.streams.audio[0].metadata}
    return {name for name, text in TAGS.items() if text in found.values()}
