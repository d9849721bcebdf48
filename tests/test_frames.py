"""What searches read of frames: runs of blanks as one map, and blocks of equal length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asr.decoding.frames import Block, Frames
from asr.decoding.graph import BeamConfig

BIAS = np.log([0.6, 0.3, 0.1])
CONFIG = BeamConfig(label_beam=9, certain_blank=0.9)


def posteriors(blanks: list[float]) -> np.ndarray:
    """Log-probabilities of frames with these blanks, the rest shared by two labels."""
    blank = np.array(blanks)
    return np.log(np.stack([blank, 0.75 * (1 - blank), 0.25 * (1 - blank)], axis=1)).astype(np.float32)


def test_a_run_of_blanks_weighs_as_its_frames_one_after_the_other() -> None:
    log_probs = posteriors([0.5, 0.97, 0.99, 0.95, 0.4, 0.96])
    frames = Frames.of(log_probs, BIAS, CONFIG)
    assert len(frames) == 2
    assert [*frames.block.has_run[:, 0].tolist(), frames.ends_in_run] == [False, True, True]
    weights = np.exp(log_probs - BIAS)
    blank, label = np.full(3, 0.2), np.full(3, 0.3)
    for frame in weights[1:4]:
        blank, label = (blank + label) * frame[0], label * frame
    mapped = np.array([0.2 + 0.3 * frames.block.carried[1, 0], 0.3 * frames.block.held[1, 0]])
    left_out = frames.factor + np.log(weights[5, 0]) * -1 - np.log(weights[[0, 4]].max(1)).sum()
    np.testing.assert_allclose(mapped * np.exp(left_out), [blank, label], rtol=1e-5)
    assert frames.best_path_score == pytest.approx(np.log(weights.max(1)).sum(), abs=1e-5)


def test_labels_weigh_by_the_acoustic_scale_and_blanks_are_as_certain() -> None:
    log_probs = posteriors([0.5, 0.97, 0.4])
    whole, half = (Frames.of(log_probs, BIAS, replace(CONFIG, acoustic_scale=s)) for s in (1.0, 0.5))
    assert len(half) == len(whole) == 2
    np.testing.assert_allclose(half.block.scores, whole.block.scores / 2, rtol=1e-6)
    assert half.best_path_score == pytest.approx(whole.best_path_score / 2)


def test_a_long_run_is_looked_into_wherever_it_is_cut() -> None:
    log_probs = posteriors([0.99] * 100)
    whole = Frames.of(log_probs, BIAS, CONFIG)
    assert len(whole) == 3 and whole.n_blanks == 1
    first = Frames.of(log_probs[:50], BIAS, CONFIG)
    second = Frames.of(log_probs[50:], BIAS, CONFIG, first.n_blanks)
    assert len(first) + len(second) == 3 and second.n_blanks == 1
    assert first.factor + second.factor == pytest.approx(whole.factor)


def test_blocks_end_in_silence() -> None:
    frames = Frames.of(posteriors([0.5, 0.4, 0.95, 0.3, 0.6, 0.95]), BIAS, replace(CONFIG, label_beam=1))
    assert len(frames) == 4
    blocks = list(frames.blocks(4))
    assert [block.scores.shape for block in blocks] == [(4, 1, 3)] * 2
    assert blocks[1].has_run[:, 0].tolist() == [True, False, False, False]  # that of the end
    assert (blocks[1].probabilities == [1, 0, 0]).all() and (blocks[1].scores[..., 1:] == -np.inf).all()
    assert [block.scores.shape for block in frames.blocks(3)] == [(3, 1, 3)] * 2
    other = Frames.of(posteriors([]), BIAS, replace(CONFIG, label_beam=1))
    both = Block.beside([blocks[0], *other.blocks(4)])
    assert both.tried.shape == (4, 2, 1) and both.tried.min() >= 1
