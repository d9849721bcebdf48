"""CTC prefix beam search through a lexicon with an n-gram language model, frame by frame.

A hypothesis is a place in the prefix tree of the lexicon and a state of the language model. It keeps two
probabilities, of ending in a blank and of ending in its last label, because the CTC rule for repeated
labels treats them differently. Of hypotheses that meet in the same place and state, those of the same
words are added up, and the likeliest words go on, for the future treats them all alike. All hypotheses of
a frame are advanced together as arrays.

Sources: Graves et al. 2006 and Hannun et al. 2014 (prefix search with a language model), Ortmanns et al.
1996 (look-ahead), Miao et al. 2015 (division by the labels' prior probabilities).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from asr.decoding.lookahead import BigramLookAhead, LookAhead, UnigramLookAhead
from asr.decoding.memo import Memo
from asr.decoding.ngram import END, UNKNOWN, NGramModel
from asr.decoding.prefix_tree import PrefixTree
from asr.decoding.ranges import joined_ranges
from asr.labels import BLANK

_MEMO_BITS = 17  # of the number of scores that are remembered
_MARGIN = 1.25  # by which the gap between best and worst hypothesis may grow from frame to frame
_DEEPEST = 6  # words that agreement() looks back
_HASH_FACTOR = np.int64(0x5851F42D4C957F2D)  # of a linear congruential generator (Knuth, MMIX)


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
        """(n,) the last word of each state's context, for look-ahead; -1 for none."""


@dataclass(frozen=True)
class BeamConfig:
    """What a search weighs and how much it keeps; all scores are natural logarithms."""

    beam_size: int = 400  # hypotheses kept from frame to frame
    label_beam: int = 10  # likeliest labels of a frame that are tried
    threshold: float = 14.0  # hypotheses this much worse than the best are dropped
    lm_weight: float = 0.92
    word_score: float = -0.75  # added for each word
    prior_weight: float = 0.6  # of the labels' log prior, which is subtracted
    certain_blank: float = 0.98  # frames with a blank at least as probable bring no new label


@dataclass(frozen=True)
class Hypothesis:
    """words: ids in the language model; nodes: where in the prefix tree each was found."""

    words: tuple[int, ...]
    nodes: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class _Beam:
    """Rows are hypotheses, the arrays columns: log-probability of ending in a blank and in a label, hash of
    the words, language model state and its last word, tree node, look-ahead in both scores, and the last
    word's place in the search's history."""

    blank: np.ndarray
    label: np.ndarray
    texts: np.ndarray
    states: np.ndarray
    last_words: np.ndarray
    nodes: np.ndarray
    ahead: np.ndarray
    history: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Log-probability of each hypothesis, however it ends."""
        return np.logaddexp(self.blank, self.label)

    def take(self, rows: np.ndarray) -> _Beam:
        return _Beam(*(column[rows] for column in vars(self).values()))


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
    ) -> None:
        self.tree, self.lm, self.config = tree, lm, config
        self._n_words = int(tree.words.max(initial=0)) + 1 if lm is None else len(lm.words)
        self._phrases = tuple(phrases)
        unigrams = np.zeros(self._n_words, np.float32) if lm is None else lm.unigrams
        alone = config.lm_weight * unigrams + np.float32(config.word_score)
        joined = [sum(alone[i] for i in phrase.ids) + phrase.bonus for phrase in phrases]
        self.alone = np.concatenate([alone, np.array(joined, np.float32)])  # score without any context
        self.most_gained = max(0.0, float(self.alone.max(initial=0)))
        self.look_ahead: LookAhead
        if isinstance(lm, NGramModel) and config.lm_weight > 0:
            self.look_ahead = BigramLookAhead(tree, lm, self.alone, config.lm_weight, config.word_score)
        else:
            self.look_ahead = UnigramLookAhead(tree, self.alone)
        self._memo = Memo(
            _MEMO_BITS, [("score", np.float32), ("state", np.int64), ("last_word", np.int64)]
        )

    def text(self, word: int) -> str:
        """The spelling of a word or phrase."""
        assert self.lm is not None
        return self.lm.words[word] if word < self._n_words else self._phrases[word - self._n_words].text

    def score(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weighted scores of words after states, the states after them, and these states' last words."""
        if self.lm is None:
            return self.alone[words], states, words
        remembered = self._memo.get(
            states * len(self.alone) + words, lambda rows: self._compute(states[rows], words[rows])
        )
        return remembered["score"], remembered["state"], remembered["last_word"]

    def _compute(self, states: np.ndarray, words: np.ndarray) -> np.ndarray:
        assert self.lm is not None
        is_phrase = words >= self._n_words
        log_probs, following = self.lm.score(states, np.where(is_phrase, UNKNOWN, words))
        scores = self.config.lm_weight * log_probs + np.float32(self.config.word_score)
        for row in np.flatnonzero(is_phrase):
            phrase = self._phrases[words[row] - self._n_words]
            scores[row], state = phrase.bonus, states[row : row + 1]
            for word in phrase.ids:
                log_prob, state = self.lm.score(state, np.array([word]))
                scores[row] += self.config.lm_weight * log_prob[0] + self.config.word_score
            following[row] = state[0]
        result = np.empty(len(states), self._memo.dtype)
        result["score"], result["state"] = scores, following
        result["last_word"] = self.lm.last_words(following)
        return result


class BeamSearch:
    """One search: step() with consecutive frames, best() at any time, end() for the result."""

    def __init__(self, graph: Graph, log_priors: np.ndarray | None = None) -> None:
        """log_priors: (labels,) natural logs, subtracted with the configured weight."""
        self._graph = graph
        self._bias = np.zeros(graph.tree.n_labels, np.float32)
        if log_priors is not None:
            self._bias += graph.config.prior_weight * log_priors
        states = np.full(1, 0 if graph.lm is None else graph.lm.start)
        self._beam = _Beam(
            blank=np.zeros(1, np.float32),
            label=np.full(1, -np.inf, np.float32),
            texts=np.zeros(1, np.int64),
            states=states,
            last_words=np.full(1, -1) if graph.lm is None else graph.lm.last_words(states),
            nodes=np.full(1, BLANK),
            ahead=np.zeros(1, np.float32),
            history=np.full(1, -1),
        )
        self.best_path_score = 0.0  # of the likeliest labels so far, allowed by the graph or not
        self._words: list[np.ndarray] = []  # columns (word, node, previous column, hash) of the history
        self._n_words = 0
        self._gap = np.inf  # between the best hypothesis and the worst kept

    def step(self, log_probs: np.ndarray) -> None:
        """Advance over (frames, labels) natural log posteriors."""
        config = self._graph.config
        skipped = log_probs[:, BLANK] >= np.log(config.certain_blank)
        scores = log_probs.astype(np.float32) - self._bias
        self.best_path_score += float(scores.max(-1).sum())
        n_tried = min(config.label_beam, scores.shape[1] - 1)
        tried = np.sort(np.argpartition(-scores[:, 1:], n_tried - 1)[:, :n_tried] + 1)
        for frame, labels, skip in zip(scores, tried, skipped, strict=True):
            self._advance(frame, labels[:0] if skip else labels)

    def _advance(self, scores: np.ndarray, tried: np.ndarray) -> None:
        beam, tree, config = self._beam, self._graph.tree, self._graph.config
        total = beam.total
        last = tree.labels[beam.nodes]
        blank, label = total + scores[BLANK], beam.label + scores[last]
        if not len(tried):
            self._beam = replace(beam, blank=blank, label=label)
            return
        staying = np.logaddexp(blank, label)
        # By one more label: every child of every hypothesis' node among the labels tried. Look-ahead makes
        # a hypothesis worse, but for words with a bonus, so many need not be looked at.
        hopeless = staying.max() - min(config.threshold, _MARGIN * self._gap + 1) - self._graph.most_gained
        bits = tried.astype(np.uint64)
        children = tree.children[beam.nodes]
        is_child = (children[:, None] >> bits) & np.uint64(1) > 0
        rows, columns = (is_child & (total[:, None] + scores[tried] > hopeless)).nonzero()
        new, bits = tried[columns], bits[columns]
        below = children[rows] & ((np.uint64(1) << bits) - np.uint64(1))
        nodes = tree.first_child[beam.nodes[rows]] + np.bitwise_count(below)
        ahead = self._graph.look_ahead(beam.last_words[rows], nodes)
        extended = np.where(new == last[rows], beam.blank[rows], total[rows])
        extended += scores[new] + (ahead - beam.ahead[rows])
        scored = np.concatenate([staying, extended])
        best = scored.max()
        floor = best - config.threshold
        if len(scored) > config.beam_size:
            scored.partition(-config.beam_size)
            floor = max(floor, scored[-config.beam_size])
        self._gap = best - floor
        kept = extended > floor
        rows, nodes, extended, ahead = rows[kept], nodes[kept], extended[kept], ahead[kept]
        # A node where words end also leads back to a root, once for each of them.
        first_word = tree.first_word[nodes]
        n_words = tree.first_word[nodes + 1] - first_word
        ended = np.arange(len(nodes)).repeat(n_words)
        words = tree.words[joined_ranges(first_word, n_words)]
        before = extended[ended] - ahead[ended]
        kept = before + self._graph.alone[words] > floor
        ended, words, before = ended[kept], words[kept], before[kept]
        word_scores, states, last_words = self._graph.score(beam.states[rows[ended]], words)
        word_scores = before + word_scores
        texts = beam.texts[rows[ended]] * _HASH_FACTOR + words + 1
        if self._graph.lm is None:
            states = texts  # nothing else tells the hypotheses apart
        never = np.full(len(rows) + len(ended), -np.inf, np.float32)
        candidates = _Beam(
            blank=np.concatenate([blank, never]),
            label=np.concatenate([label, extended, word_scores]),
            texts=np.concatenate([beam.texts, beam.texts[rows], texts]),
            states=np.concatenate([beam.states, beam.states[rows], states]),
            last_words=np.concatenate([beam.last_words, beam.last_words[rows], last_words]),
            nodes=np.concatenate([beam.nodes, nodes, tree.labels[nodes[ended]]]),
            ahead=np.concatenate([beam.ahead, ahead, np.zeros(len(ended), np.float32)]),
            history=np.concatenate([beam.history, beam.history[rows], beam.history[rows[ended]]]),
        )
        survivors, chosen = _merge(candidates, len(tree), config)
        # Only words that survive enter the history.
        with_word = (chosen >= len(blank) + len(rows)).nonzero()[0]
        entries = chosen[with_word] - len(blank) - len(rows)
        previous, texts = survivors.history[with_word], survivors.texts[with_word]
        self._words.append(np.stack([words[entries], nodes[ended[entries]], previous, texts]))
        survivors.history[with_word] = self._n_words + np.arange(len(with_word))
        self._n_words += len(with_word)
        self._beam = survivors

    def best(self) -> Hypothesis:
        """The likeliest words so far; a word that has only begun is not among them."""
        total = self._beam.total
        row = int(total.argmax())
        return self._hypothesis(int(self._beam.history[row]), float(total[row]))

    def agreement(self) -> list[float]:
        """Of each word of best(), the share of all probability whose hypotheses have the same words up to it.

        A hypothesis that is still inside a word does not have it. Older words than the last few count as
        agreed on.
        """
        total = self._beam.total
        share = np.exp(total - total.max())
        share /= share.sum()
        columns = self._columns(int(self._beam.history[total.argmax()]))
        agreed = [1.0] * len(columns)
        if not columns:
            return agreed
        _, _, previous, texts = self._words[0]
        recent = range(max(0, len(columns) - _DEEPEST), len(columns))
        for i in recent:
            agreed[i] = 0.0
        history = self._beam.history
        for _ in range(2 * _DEEPEST):  # hypotheses may be ahead of the best by some words
            passed = np.where(history >= 0, texts[history], 0)
            for i in recent:
                agreed[i] += float(share[passed == texts[columns[i]]].sum())
            history = np.where(history >= 0, previous[history], -1)
        return agreed

    def end(self, n_best: int = 1) -> list[Hypothesis]:
        """The likeliest word sequences, the best first; the search is then over."""
        beam = self._beam
        at_word_end = np.flatnonzero(beam.nodes < self._graph.tree.n_labels)
        if len(at_word_end):  # else every hypothesis is inside a word: its beginning is dropped
            beam = beam.take(at_word_end)
        total = beam.total
        if self._graph.lm is not None:
            log_probs, _ = self._graph.lm.score(beam.states, np.full(len(total), END))
            total = total + self._graph.config.lm_weight * log_probs
        found: dict[tuple[int, ...], Hypothesis] = {}
        for row in np.argsort(-total, kind="stable"):
            hypothesis = self._hypothesis(int(beam.history[row]), float(total[row]))
            found.setdefault(hypothesis.words, hypothesis)
            if len(found) == n_best:
                break
        return list(found.values())

    def _hypothesis(self, column: int, score: float) -> Hypothesis:
        columns = self._columns(column)
        words, nodes = self._words[0][:2, columns].tolist() if columns else ([], [])
        return Hypothesis(tuple(words), tuple(nodes), score)

    def _columns(self, column: int) -> list[int]:
        """The history that ends in a column, in order."""
        if len(self._words) > 1:
            self._words = [np.concatenate(self._words, axis=1)]
        columns = []
        while column >= 0:
            columns.append(column)
            column = int(self._words[0][2, column])
        return columns[::-1]


def _merge(candidates: _Beam, n_nodes: int, config: BeamConfig) -> tuple[_Beam, np.ndarray]:
    """The best hypotheses, and of each the candidate whose history it takes."""
    keys = candidates.states * n_nodes + candidates.nodes
    same_words = keys * _HASH_FACTOR ^ candidates.texts
    order = same_words.argsort()
    firsts = _starts(same_words[order])
    blank = np.logaddexp.reduceat(candidates.blank[order], firsts)
    label = np.logaddexp.reduceat(candidates.label[order], firsts)
    total = np.logaddexp(blank, label)
    kept = (total > total.max() - config.threshold).nonzero()[0]
    keys = keys[order[firsts[kept]]]
    by_key = keys.argsort()
    kept = kept[by_key]
    groups = _starts(keys[by_key])
    scores = total[kept]
    sizes = np.append(groups[1:], len(kept)) - groups
    kept = kept[scores == np.maximum.reduceat(scores, groups).repeat(sizes)]
    if len(kept) > config.beam_size:
        kept = kept[total[kept].argpartition(-config.beam_size)[-config.beam_size :]]
    chosen = order[firsts[kept]]
    return replace(candidates.take(chosen), blank=blank[kept], label=label[kept]), chosen


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    differs = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=differs[1:])
    return differs.nonzero()[0]
