"""Greedy decoding of matrices typed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from asr.decoding.greedy import best_path


def likeliest(labels: list[int], n_labels: int = 4) -> np.ndarray:
    """Log-probabilities whose likeliest label at each frame is the given one."""
    probabilities = np.full((len(labels), n_labels), 0.1)
    probabilities[np.arange(len(labels)), np.array(labels, int)] = 0.7
    return np.log(probabilities)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([1, 1, 2, 2, 2], [1, 2]),
        ([1, 0, 1], [1, 1]),
        ([1, 1, 0, 0, 1, 3], [1, 1, 3]),
        ([0, 0, 0], []),
        ([2], [2]),
        ([], []),
    ],
)
def test_repeats_are_merged_and_blanks_dropped(path: list[int], expected: list[int]) -> None:
    assert best_path(likeliest(path)) == expected


def test_the_likeliest_label_counts_however_narrow_its_lead() -> None:
    matrix = np.log([[0.34, 0.33, 0.33], [0.30, 0.34, 0.36], [0.30, 0.36, 0.34]])
    assert best_path(matrix) == [2, 1]
