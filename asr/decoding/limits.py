"""Which values the settings of a search may have. It imports nothing, so the command line can ask too."""

from __future__ import annotations

# Field of DecoderOptions, or boost of a hot word -> the smallest and the largest value.
LIMITS: dict[str, tuple[float, float]] = {
    "beam_size": (1, 100_000),
    "n_best": (1, 1_000),
    "lm_weight": (0.0, 100.0),
    "recurrent_share": (0.0, 0.999_999),
    "word_score": (-100.0, 100.0),
    "acoustic_scale": (0.001, 100.0),
    "prior_weight": (0.0, 10.0),
    "boost": (-1_000.0, 1_000.0),
}


def is_allowed(name: str, value: float) -> bool:
    """Whether a setting may have this value; NaN is never allowed."""
    smallest, largest = LIMITS[name]
    return smallest <= value <= largest
