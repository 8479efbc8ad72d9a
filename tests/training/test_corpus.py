from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Folders

from rtden.errors import AudioFileError
from rtden.training.corpus import load_clips

RATE_HZ = 22050


def test_it_is_decoded_once_and_split_by_talker_and_recording(
    folders: Folders, tmp_path: Path
) -> None:
    speech = load_clips(folders.speech, tmp_path, rate_hz=RATE_HZ, group_depth=2)
    noise = load_clips(folders.noise, tmp_path, rate_hz=RATE_HZ, group_depth=None)
    assert len(speech.length) == 8
    assert set(speech.group) == {f"made/talker{n}" for n in range(4)}
    assert len(set(noise.group)) == 5
    assert abs(speech.length.sum() / RATE_HZ - 20.0) < 0.1
    for part in (speech, noise):
        training, validation = part.split()
        assert not set(training.group) & set(validation.group)
        assert len(training.length) + len(validation.length) == len(part.length)
        assert len(validation.length) > 0
    (cached,) = tmp_path.glob("speech-*.npy")
    changed = cached.stat().st_mtime_ns
    again = load_clips(folders.speech, tmp_path, rate_hz=RATE_HZ, group_depth=2)
    assert cached.stat().st_mtime_ns == changed
    assert np.array_equal(again.start, speech.start)


def test_copies_have_other_speeds_and_wider_or_narrower_bands(
    folders: Folders, tmp_path: Path
) -> None:
    clips = load_clips(folders.speech, tmp_path, rate_hz=RATE_HZ, group_depth=2, copies=3, seed=1)
    originals, copies = clips.bandwidth_hz[::4], np.delete(clips.bandwidth_hz, np.s_[::4])
    assert (originals == 8000).all()
    assert copies.min() < 7900
    assert copies.max() > 9600
    np.testing.assert_allclose(
        clips.length[1], clips.length[0] * 8000 / clips.bandwidth_hz[1], rtol=1e-3
    )
    assert len(set(clips.group)) == 4


def test_copies_of_a_talker_stay_on_his_side(folders: Folders, tmp_path: Path) -> None:
    training, validation = load_clips(
        folders.speech, tmp_path, rate_hz=RATE_HZ, group_depth=2, copies=2
    ).split()
    assert not set(training.group) & set(validation.group)


def test_recordings_without_folders_are_groups_of_their_own(
    folders: Folders, tmp_path: Path
) -> None:
    clips = load_clips(folders.noise, tmp_path, rate_hz=RATE_HZ, group_depth=2)
    assert len(set(clips.group)) == 5


def test_another_process_maps_the_file_rather_than_getting_its_content(
    folders: Folders, tmp_path: Path
) -> None:
    clips = load_clips(folders.noise, tmp_path, rate_hz=RATE_HZ, group_depth=None)
    sent = pickle.dumps(clips)
    assert len(sent) < 0.01 * clips.samples.nbytes
    received = pickle.loads(sent)
    assert np.array_equal(received.samples, clips.samples)
    assert np.array_equal(received.length, clips.length)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no audio files"):
        load_clips(tmp_path, tmp_path, rate_hz=RATE_HZ, group_depth=None)


def test_a_broken_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF, and then nothing")
    with pytest.raises(AudioFileError, match=r"broken\.wav is not sound that can be read"):
        load_clips(tmp_path, tmp_path / "cache", rate_hz=RATE_HZ, group_depth=None)


def test_one_recording_cannot_be_split(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", np.zeros(16000), 16000)
    with pytest.raises(AudioFileError, match="add another"):
        load_clips(tmp_path, tmp_path / "cache", rate_hz=RATE_HZ, group_depth=None).split()
