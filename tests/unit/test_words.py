from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from hypothesis import given
from hypothesis import strategies as st
from test_scores import RATE_HZ, write_pair
from typer.testing import CliRunner
from words import (
    count_errors,
    error_rates,
    main,
    read_transcripts,
    recognise,
    word_errors,
    words_of,
)

from rtden.errors import InputError
from rtden.measure.pairs import find_pairs

program = typer.Typer()
program.command()(main)
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


def test_errors_are_counted_against_what_is_said(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    for name in ("a.wav", "b.wav"):
        write_pair(tmp_path, name, seconds=2.0, level=0.0)
    clean, _ = soundfile.read(tmp_path / "clean" / "b.wav", dtype="float32")
    words = recognise(clean, RATE_HZ)
    assert len(words) >= 3
    said, (one, other) = {"a": ["so"] * 30}, find_pairs(tmp_path)
    assert count_errors([math.inf], "seed", said, one)[:3] == [30, 30, 30]
    # Without a transcript the clean file says what is said; here noisy is the same.
    assert count_errors([], None, said, other) == [len(words), 0, 0]


def test_a_file_with_more_words_counts_more() -> None:
    counts = np.array([[30, 0, 30, 15], [10, 0, 0, 0]])  # words; errors in clean, noisy, denoised
    rates, changes, halves = error_rates(counts)
    np.testing.assert_allclose(rates, [0.0, 75.0, 37.5])
    np.testing.assert_allclose(changes, [-75.0, 0.0, -37.5])
    assert halves[1] == 0.0
    assert 25.0 <= halves[2] <= 50.0


def test_a_pair_without_words_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.wav", seconds=0.5)
    said = tmp_path / "said.txt"
    said.write_text("b so\n", encoding="utf-8")
    ended = CliRunner().invoke(program, ["--pairs", str(tmp_path), "--transcripts", str(said)])
    assert ended.exit_code == 2
