from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from properties import given, st
from test_scores import RATE_HZ, write_pair

from rtden.errors import InputError
from rtden.measure import scores as scoring
from rtden.measure.recognition import read_transcripts, recognise, word_errors, words_of
from rtden.measure.scores import score_pairs
from rtden.measure.tables import tables

WORDS = st.lists(st.sampled_from("abc"), max_size=7)


@functools.lru_cache
def edits(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Levenshtein's distance by its definition."""
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return edits(one[1:], other[1:])
    rest = ((one[1:], other), (one, other[1:]), (one[1:], other[1:]))
    return 1 + min(edits(*pair) for pair in rest)


@given(one=WORDS, other=WORDS)
def test_word_errors_are_levenshteins_distance(one: list[str], other: list[str]) -> None:
    assert word_errors(one, other) == edits(tuple(one), tuple(other)) == word_errors(other, one)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Six, four. TWO-nine!", "six four two nine"),
        ("4729", "four seven two nine"),
        ("It’s O'Neill's café", "it's o'neill's café"),
        (" - … ' ", ""),
    ],
)
def test_texts_are_compared_word_by_word(text: str, words: str) -> None:
    assert words_of(text) == words.split()


def test_transcripts_are_read_as_librispeech_has_them(tmp_path: Path) -> None:
    path = tmp_path / "a.trans.txt"
    path.write_text("84-121123-0000 GO DO YOU HEAR\n\nb.flac\tsix 2\nsilent\n", encoding="utf-8")
    assert read_transcripts(path) == {
        "84-121123-0000": ["go", "do", "you", "hear"],
        "b": ["six", "two"],
        "silent": [],
    }
    path.write_text("silent\n", encoding="utf-8")
    for wrong in (path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=str(wrong)):
            read_transcripts(wrong)


def test_word_errors_are_scored_against_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faster_whisper")
    monkeypatch.setattr(scoring, "METERS", scoring.METERS[2:3])
    names = ("a_fan_+5dB.wav", "b_fan_+5dB.wav")
    for name in names:
        write_pair(tmp_path, name, seconds=2.0, level=0.0)
    clean, _ = soundfile.read(tmp_path / "clean" / names[0], dtype="float32")
    words = recognise(clean, RATE_HZ)
    assert len(words) >= 3
    said = tmp_path / "said.txt"
    said.write_text(f"a_fan_+5dB {'so ' * 30}\nb_fan_+5dB {' '.join(words)}\n", encoding="utf-8")
    found = score_pairs(tmp_path, {}, transcripts=said, processes=1)
    assert found.systems == ("noisy", "clean")
    assert found.metrics == ("SI-SDR (dB)", "WER (%)")
    np.testing.assert_array_equal(found.scores[:, 0, 1], [100.0, 0.0])
    assert found.words is not None
    np.testing.assert_array_equal(found.words, [30, len(words)])
    # Of all words, not the mean over files: who says more counts more.
    assert found.figures()["mean"][0, 1] == pytest.approx(100.0 * 30 / (30 + len(words)))
    assert len(tables(found)) == 3
    said.write_text("a_fan_+5dB so\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no words for b_fan_\+5dB\.wav"):
        score_pairs(tmp_path, {}, transcripts=said)


def test_without_transcripts_the_clean_files_say_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faster_whisper")
    monkeypatch.setattr(scoring, "METERS", scoring.METERS[2:3])
    write_pair(tmp_path, "a.wav", seconds=2.0)
    soundfile.write(tmp_path / "noisy" / "a.wav", np.zeros(2 * RATE_HZ), RATE_HZ)
    found = score_pairs(tmp_path, {}, transcripts="clean", processes=1)
    assert found.scores[0, 0, 1] >= 50.0
    assert found.scores[0, 1, 1] == 0.0
