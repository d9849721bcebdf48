"""Words, times and confidences from hand-typed paths."""

import math

import pytest
import torch

from asr.align import FRAME_SECONDS, best_spans, words
from asr.labels import Labels

CHARACTERS = Labels.of_kind("characters")


def log_probs_of(path: str, probability: float = 0.9) -> torch.Tensor:
    """(frames, labels) in which the path is the likeliest; _ is the blank, | the space."""
    rest = (1 - probability) / (len(CHARACTERS) - 1)
    matrix = torch.full((len(path), len(CHARACTERS)), math.log(rest))
    for frame, symbol in enumerate(path):
        matrix[frame, 0 if symbol == "_" else CHARACTERS.symbols.index(symbol)] = math.log(probability)
    return matrix


def words_of(path: str, offset: float = 0.0, probability: float = 0.9):  # type: ignore[no-untyped-def]
    return words(best_spans(log_probs_of(path, probability)), CHARACTERS, offset)


def test_repeats_merge_and_blanks_part_them() -> None:
    assert [word.text for word in words_of("_hh_e_l_l_o_||_y_oo_")] == ["hello", "yo"]


def test_spans_know_their_frames() -> None:
    spans = best_spans(log_probs_of("__aa_b"))
    assert [(span.start, span.end) for span in spans] == [(2, 4), (5, 6)]


def test_a_word_surrounds_its_spikes_and_counts_from_the_offset() -> None:
    (word,) = words_of("_" * 10 + "a_b" + "_" * 10, offset=60.0)
    assert 60 + 9 * FRAME_SECONDS - 0.06 < word.start <= 60 + 10 * FRAME_SECONDS
    assert 60 + 13 * FRAME_SECONDS <= word.end < 60 + 16 * FRAME_SECONDS


def test_words_follow_each_other_without_overlap() -> None:
    found = words_of("_a|b|cc|_d__|e")
    assert len(found) == 5
    for before, after in zip(found, found[1:], strict=False):
        assert before.start <= before.end <= after.start <= after.end


def test_the_probability_is_the_geometric_mean_of_the_peaks() -> None:
    assert words_of("ab", probability=0.81)[0].probability == pytest.approx(0.81, abs=1e-5)


def test_nothing_but_blanks_and_spaces_is_no_word() -> None:
    assert words_of("__||__|_") == ()
    assert best_spans(torch.zeros(0, len(CHARACTERS))) == []
