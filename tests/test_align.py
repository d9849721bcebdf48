"""Words, times and confidences from hand-typed paths."""

import math
from itertools import product

import numpy as np
import pytest

from asr.align import FRAME_SECONDS, best_spans, forced_spans, spelled, words
from asr.labels import Labels

CHARACTERS = Labels.of_kind("characters")


def log_probs_of(path: str, probability: float = 0.9) -> np.ndarray:
    """(frames, labels) in which the path is the likeliest; _ is the blank, | the space."""
    rest = (1 - probability) / (len(CHARACTERS) - 1)
    matrix = np.full((len(path), len(CHARACTERS)), math.log(rest))
    for frame, symbol in enumerate(path):
        matrix[frame, 0 if symbol == "_" else CHARACTERS.symbols.index(symbol)] = math.log(probability)
    return matrix


def words_of(path: str, offset: float = 0.0, probability: float = 0.9):  # type: ignore[no-untyped-def]
    return words(spelled(best_spans(log_probs_of(path, probability)), CHARACTERS), offset)


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


def test_the_probability_is_the_mean_of_the_peaks() -> None:
    assert words_of("ab", probability=0.81)[0].probability == pytest.approx(0.81, abs=1e-5)


def test_nothing_but_blanks_and_spaces_is_no_word() -> None:
    assert words_of("__||__|_") == ()
    assert best_spans(np.zeros((0, len(CHARACTERS)))) == []


def test_forced_labels_take_the_likeliest_of_all_alignments() -> None:
    random = np.random.default_rng(3)
    log_probs = np.log(random.dirichlet(np.ones(4), size=6))
    for labels in ([1], [1, 1], [2, 3], [1, 2, 1], [3, 3, 3]):
        best = max(
            (path for path in product(range(4), repeat=6) if collapsed(path) == labels),
            key=lambda path: sum(log_probs[t, label] for t, label in enumerate(path)),
        )
        frames = [t for t, label in enumerate(best) if label]
        spans = forced_spans(log_probs, labels)
        assert [span.label for span in spans] == labels
        assert [t for span in spans for t in range(span.start, span.end)] == frames


def collapsed(path: tuple[int, ...]) -> list[int]:
    merged = [label for i, label in enumerate(path) if i == 0 or label != path[i - 1]]
    return [label for label in merged if label]


def test_labels_that_need_more_frames_than_there_are_do_not_fit() -> None:
    assert len(forced_spans(log_probs_of("a_a"), [3, 3])) == 2
    with pytest.raises(ValueError, match="3 labels do not fit in 4 frames"):
        forced_spans(log_probs_of("a_a_"), [3, 3, 3])
    assert forced_spans(log_probs_of("ab"), []) == []
