"""What searches share: the lexicon as a prefix tree, its language models, and how these are weighed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asr.decoding.lookahead import BigramLookAhead, LookAhead, UnigramLookAhead
from asr.decoding.ngram import UNKNOWN, NGramModel
from asr.decoding.prefix_tree import PrefixTree
from asr.decoding.recurrent import Mixture, RecurrentModel


class LanguageModel(Protocol):
    """What a search asks of a language model; -inf is the logarithm of what it does not allow."""

    @property
    def words(self) -> tuple[str, ...]:
        """The spelling of each id."""

    @property
    def ids(self) -> dict[str, int]: ...

    @property
    def start(self) -> int:
        """The state at the beginning of a sentence."""

    @property
    def unigrams(self) -> np.ndarray:
        """(words,) log-probabilities without any context."""

    def score(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) natural log-probabilities of words after states, and (n,) the states that follow."""

    def last_words(self, states: np.ndarray) -> np.ndarray:
        """(n,) the last word of each state's context, for look-ahead; -1 for none, which state 0 has."""


@dataclass(frozen=True)
class BeamConfig:
    """What a search weighs and how much it keeps; all scores are natural logarithms."""

    beam_size: int = 800  # hypotheses kept from frame to frame
    label_beam: int = 14  # likeliest labels of a frame that are tried
    threshold: float = 13.0  # hypotheses this much worse than the best are dropped
    acoustic_scale: float = 1.0  # of the labels' logarithms, beside those of the language model
    lm_weight: float = 0.92
    word_score: float = 0.0  # added for each word
    recurrent_share: float = 0.5  # of a recurrent language model, in the mixture of its probabilities
    prior_weight: float = 0.6  # of the labels' log prior, which is subtracted
    certain_blank: float = 0.99  # frames with a blank at least as probable bring no new label


@dataclass(frozen=True)
class Phrase:
    """One or more words that the search treats as one: ids of the language model, and a score gained."""

    text: str
    ids: tuple[int, ...]
    bonus: float


class Graph:
    """A prefix tree with its language model: all that searches share.

    Word ids after those of the language model are the phrases, in their order.
    """

    def __init__(
        self,
        tree: PrefixTree,
        lm: LanguageModel | None,
        config: BeamConfig,
        phrases: Sequence[Phrase] = (),
        recurrent: RecurrentModel | None = None,
    ) -> None:
        """recurrent: what is mixed with the n-grams of lm; it goes unused without them or their weight."""
        self.tree, self.lm, self.config = tree, lm, config
        self._n_words = int(tree.words.max(initial=0)) + 1 if lm is None else len(lm.words)
        self._phrases = tuple(phrases)
        unigrams = np.zeros(self._n_words, np.float32) if lm is None else lm.unigrams
        alone = config.lm_weight * unigrams + np.float32(config.word_score)
        joined = [sum(alone[i] for i in phrase.ids) + phrase.bonus for phrase in phrases]
        self.alone = np.concatenate([alone, np.array(joined, np.float32)])  # score without any context
        self.most_gained = max(0.0, float(self.alone.max(initial=0)))
        self.look_ahead: LookAhead
        self.mixture: Mixture | None = None
        if isinstance(lm, NGramModel) and config.lm_weight > 0:
            if recurrent is not None:
                self.mixture = Mixture(recurrent, config.recurrent_share, lm.words, lm.unigrams)
            self.look_ahead = BigramLookAhead(tree, lm, self.alone, config.lm_weight, config.word_score)
        else:
            self.look_ahead = UnigramLookAhead(tree, self.alone)

    @property
    def has_phrases(self) -> bool:
        return bool(self._phrases)

    def in_model(self, words: np.ndarray) -> np.ndarray:
        """Ids of words in the language model, to which phrases are unknown."""
        return np.where(words < self._n_words, words, UNKNOWN)

    def text(self, word: int) -> str:
        """The spelling of a word or phrase."""
        assert self.lm is not None
        return self.lm.words[word] if word < self._n_words else self._phrases[word - self._n_words].text

    def score(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weighted scores of words after states, the states after them, and these states' last words."""
        if self.lm is None:
            return self.alone[words], states, words
        phrases = (words >= self._n_words).nonzero()[0] if self._phrases else np.zeros(0, np.intp)
        in_model = self.in_model(words) if len(phrases) else words
        log_probs, following = self.lm.score(states, in_model)
        scores = self.config.lm_weight * log_probs + np.float32(self.config.word_score)
        for row in phrases:
            phrase = self._phrases[words[row] - self._n_words]
            scores[row], state = phrase.bonus, states[row : row + 1]
            for word in phrase.ids:
                log_prob, state = self.lm.score(state, np.array([word]))
                scores[row] += self.config.lm_weight * log_prob[0] + self.config.word_score
            following[row], in_model[row] = state[0], phrase.ids[-1]
        return scores, following, np.where(following > 0, in_model, -1)
