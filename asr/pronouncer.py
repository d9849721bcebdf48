"""Words -> phones for words that no dictionary has, by a joint n-gram model of letters and phones.

Source: Bisani and Ney 2008 (joint-sequence models for grapheme-to-phoneme conversion).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asr.decoding import language
from asr.decoding.ngram import END, SPECIAL_WORDS, NGramModel
from asr.errors import LanguageModelError

NOTHING = "_"  # the phones of silent letters
_BEAM = 30  # partial pronunciations kept at each letter


def pair_name(letters: str, phones: tuple[str, ...]) -> str:
    """How a pair is written in the n-gram model: "ph:F", "e:_", "x:K+S"."""
    return f"{letters}:{'+'.join(phones) or NOTHING}".lower()


class Pronouncer:
    """A model whose n-grams are of pairs: some letters and the phones that they stand for."""

    def __init__(self, model: NGramModel) -> None:
        self._model = model
        self._pairs: dict[str, list[tuple[int, tuple[str, ...]]]] = {}  # letters -> (id, phones)
        for i, name in enumerate(model.words):
            if name in SPECIAL_WORDS:
                continue
            letters, colon, phones = name.partition(":")
            if not colon:
                raise LanguageModelError(f"{name!r} is not a pair of letters and phones")
            units = () if phones == NOTHING else tuple(phones.upper().split("+"))
            self._pairs.setdefault(letters, []).append((i, units))
        self._longest = max(map(len, self._pairs))

    @classmethod
    def load(cls, path: str | Path) -> Pronouncer:
        """Read what recipes/english/pronouncer.py made; LanguageModelError when it is something else."""
        return cls(language.load(path).lm)

    def pronounce(self, word: str, n_best: int = 1) -> list[tuple[str, ...]]:
        """The likeliest pronunciations of a normalised word, the best first; letters it lacks are silent."""
        beams: list[dict[tuple[int, tuple[str, ...]], float]] = [{} for _ in range(len(word) + 1)]
        beams[0] = {(self._model.start, ()): 0.0}
        for i in range(len(word)):
            kept = sorted(beams[i].items(), key=lambda item: -item[1])[:_BEAM]
            for n in range(1, min(self._longest, len(word) - i) + 1):
                choices = self._pairs.get(word[i : i + n], [(0, ())] if n == 1 else [])
                if choices:
                    self._extend(beams[i + n], kept, choices)
        return self._finish(beams[-1], n_best)

    def _extend(
        self,
        beam: dict[tuple[int, tuple[str, ...]], float],
        kept: list[tuple[tuple[int, tuple[str, ...]], float]],
        choices: list[tuple[int, tuple[str, ...]]],
    ) -> None:
        states = np.repeat([state for (state, _), _ in kept], len(choices))
        pairs = np.tile([pair for pair, _ in choices], len(kept))
        scores, following = self._model.score(states, pairs)
        ways = ((phones, score) for (_, phones), score in kept for _ in choices)
        units = [units for _ in kept for _, units in choices]
        for (phones, score), new, gain, state in zip(
            ways, units, scores.tolist(), following.tolist(), strict=True
        ):
            key = (state, phones + new)
            beam[key] = max(beam.get(key, -np.inf), score + gain)

    def _finish(self, beam: dict[tuple[int, tuple[str, ...]], float], n_best: int) -> list[tuple[str, ...]]:
        best: dict[tuple[str, ...], float] = {}
        if beam:
            ends, _ = self._model.score(np.array([state for state, _ in beam]), np.full(len(beam), END))
            for ((_, phones), score), end in zip(beam.items(), ends.tolist(), strict=True):
                best[phones] = max(best.get(phones, -np.inf), score + end)
        return sorted((phones for phones in best if phones), key=lambda phones: -best[phones])[:n_best]
