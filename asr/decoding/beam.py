"""CTC prefix beam search through a lexicon with an n-gram language model, frame by frame.

A hypothesis is a place in the prefix tree of the lexicon and a state of the language model. It keeps two
probabilities, of ending in a blank and of ending in its last label, because the CTC rule for repeated
labels treats them differently. Of hypotheses that meet in the same place and state, those of the same
words are added up, and the likeliest words go on, for the future treats them all alike. All hypotheses of
a frame are advanced together as arrays. A recurrent language model sees the words that have lived for some
frames, many at once, and corrects their hypotheses' scores.

Sources: Graves et al. 2006 and Hannun et al. 2014 (prefix search with a language model), Ortmanns et al.
1996 (look-ahead), Miao et al. 2015 (division by the labels' prior probabilities).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Protocol

import numpy as np

from asr.decoding.lookahead import BigramLookAhead, LookAhead, UnigramLookAhead
from asr.decoding.ngram import END, UNKNOWN, NGramModel
from asr.decoding.prefix_tree import MAX_LABELS, PrefixTree
from asr.decoding.ranges import joined_ranges
from asr.decoding.recurrent import Mixture, RecurrentModel, Rescoring
from asr.labels import BLANK

_MARGIN = 1.1  # by which the gap between best and worst hypothesis may grow from frame to frame
_BITS = np.uint64(1) << np.arange(MAX_LABELS, dtype=np.uint64)  # of each label among a node's children
_ONE = np.uint64(1)
_LEEWAY = 1.0  # for hypotheses that a context may make better than they look without it
_DEEPEST = 6  # words that agreement() looks back
_HASH_FACTOR = np.int64(0x5851F42D4C957F2D)  # of a linear congruential generator (Knuth, MMIX)
_RESCORED_FRAMES = 4  # from one correction by the recurrent model to the next
_NEAR = 6.0  # to the best, in logarithms: hypotheses whose end the recurrent model sees
_TEXT_BITS = np.uint64(24)  # of a hash that tells hypotheses apart; the others tell their places


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
    threshold: float = 11.0  # hypotheses this much worse than the best are dropped
    lm_weight: float = 0.92
    word_score: float = 0.0  # added for each word
    recurrent_share: float = 0.5  # of a recurrent language model, in the mixture of its probabilities
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
    """Hypotheses, columns of arrays: probability of ending in a blank and in a label, by a common factor;
    look-ahead in both, a logarithm; and ids, (5, n) integers whose rows have names below."""

    blank: np.ndarray
    label: np.ndarray
    ahead: np.ndarray
    ids: np.ndarray

    @property
    def texts(self) -> np.ndarray:
        """Hashes of the words so far."""
        return self.ids[0]

    @property
    def states(self) -> np.ndarray:
        """Of the language model."""
        return self.ids[1]

    @property
    def last_words(self) -> np.ndarray:
        """Those of the states."""
        return self.ids[2]

    @property
    def nodes(self) -> np.ndarray:
        """Of the prefix tree."""
        return self.ids[3]

    @property
    def history(self) -> np.ndarray:
        """The last words' places in the search's history."""
        return self.ids[4]

    @property
    def total(self) -> np.ndarray:
        """Probability of each hypothesis, however it ends."""
        return self.blank + self.label

    def take(self, columns: np.ndarray) -> _Beam:
        return _Beam(
            self.blank[columns], self.label[columns], self.ahead[columns], self.ids.take(columns, axis=1)
        )


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
            following[row] = state[0]
        return scores, following, self.lm.last_words(following)


class BeamSearch:
    """One search: step() with consecutive frames, best() at any time, end() for the result."""

    def __init__(self, graph: Graph, log_priors: np.ndarray | None = None) -> None:
        """log_priors: (labels,) natural logs, subtracted with the configured weight."""
        self._graph = graph
        self._bias = np.zeros(graph.tree.n_labels, np.float32)
        if log_priors is not None:
            self._bias += graph.config.prior_weight * log_priors
        start = np.full(1, 0 if graph.lm is None else graph.lm.start)
        last_word = -1 if graph.lm is None else graph.lm.last_words(start)[0]
        self._beam = _Beam(
            blank=np.ones(1),
            label=np.zeros(1),
            ahead=np.zeros(1, np.float32),
            ids=np.array([[0], [start[0]], [last_word], [BLANK], [-1]]),
        )
        self._factor = 0.0  # common to the beam's probabilities, its logarithm
        self.best_path_score = 0.0  # of the likeliest labels so far, allowed by the graph or not
        self._words = np.zeros((4, 1024), np.int64)  # the history: words, nodes, previous entries, hashes
        self._scores = np.zeros((2, 1024), np.float32)  # theirs as Graph.score() has it, and what is gained
        self._n_words = 0  # entries that there are
        self._rescoring = None if graph.mixture is None else Rescoring(graph.mixture)
        self._n_rescored = 0  # entries that it has seen
        self._n_since = 0  # frames since then
        self._gap = np.inf  # between the best hypothesis and the worst kept

    @np.errstate(divide="ignore")  # the logarithm of probability 0
    def step(self, log_probs: np.ndarray) -> None:
        """Advance over (frames, labels) natural log posteriors."""
        config = self._graph.config
        skipped = log_probs[:, BLANK] >= np.log(config.certain_blank)
        scores = log_probs.astype(np.float32) - self._bias
        best = scores.max(-1)
        self.best_path_score += float(best.sum())
        n_tried = min(config.label_beam, scores.shape[1] - 1)
        tried = np.sort(np.argpartition(-scores[:, 1:], n_tried - 1)[:, :n_tried] + 1)
        scores -= best[:, None]
        probabilities = np.exp(scores.astype(np.float64))
        columns = zip(probabilities, scores, tried, skipped, best.tolist(), strict=True)
        for frame, of_labels, labels, skip, factor in columns:
            self._factor += factor
            if skip:
                self._stay(frame)
            else:
                self._advance(frame, of_labels, labels)
            self._n_since += 1
            if self._n_since >= _RESCORED_FRAMES:
                self._rescore()

    def _stay(self, frame: np.ndarray) -> None:
        """By one frame that brings no new label."""
        blank, label = self._staying(frame)
        best = float((blank + label).max())
        self._factor += log(best)
        self._beam = _Beam(blank / best, label / best, self._beam.ahead, self._beam.ids)

    def _staying(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of ending in a blank and in a label after a frame without a new label."""
        beam = self._beam
        return beam.total * frame[BLANK], beam.label * frame[self._graph.tree.labels[beam.nodes]]

    def _advance(self, frame: np.ndarray, scores: np.ndarray, tried: np.ndarray) -> None:
        """By one frame, (labels,) probabilities and their logarithms; tried: the labels that may follow."""
        beam, tree, config = self._beam, self._graph.tree, self._graph.config
        blank, label = self._staying(frame)
        total, staying = np.log(beam.total), np.log(blank + label)
        rows, new, nodes = self._extensions(total, staying, scores, tried)
        ahead = self._graph.look_ahead(beam.last_words[rows], nodes)
        extended = total[rows]
        repeated = (new == tree.labels[beam.nodes[rows]]).nonzero()[0]
        extended[repeated] = np.log(beam.blank[rows[repeated]])
        extended += scores[new] + (ahead - beam.ahead[rows])
        scored = np.concatenate([staying, extended])
        floor = _floor(scored, config)
        self._gap = scored.max() - floor
        kept = (extended > floor).nonzero()[0]
        rows, nodes, extended, ahead = rows[kept], nodes[kept], extended[kept], ahead[kept]
        before = extended - ahead
        ended, words = self._word_ends(nodes, extended, floor)
        word_scores, states, last_words = self._graph.score(beam.states[rows[ended]], words)
        texts = beam.texts[rows[ended]] * _HASH_FACTOR + words + 1
        gained = np.zeros(len(texts), np.float32) if self._rescoring is None else self._rescoring.known(texts)
        if self._graph.lm is None:
            states = texts  # nothing else tells the hypotheses apart
        # What stays, what goes on by a label, and from where words end back to a root, once for each word.
        n_staying, n = len(staying), len(staying) + len(rows)
        candidates = _Beam(
            blank=np.concatenate([blank, np.zeros(len(rows) + len(ended))]),
            label=np.concatenate([label, np.exp(extended), np.exp(before[ended] + word_scores + gained)]),
            ahead=np.concatenate([beam.ahead, ahead, np.zeros(len(ended), np.float32)]),
            ids=np.concatenate(
                [beam.ids, beam.ids.take(rows, axis=1), beam.ids.take(rows[ended], axis=1)], axis=1
            ),
        )
        candidates.nodes[n_staying:n] = nodes
        candidates.nodes[n:] = tree.labels[nodes[ended]]
        candidates.texts[n:], candidates.states[n:], candidates.last_words[n:] = texts, states, last_words
        survivors, chosen, best = _merge(candidates, len(tree), config)
        self._factor += log(best)
        # Only words that survive enter the history.
        with_word = (chosen >= n).nonzero()[0]
        entries = chosen[with_word] - n
        previous, texts = survivors.history[with_word], survivors.texts[with_word]
        survivors.history[with_word] = self._remember(
            (words[entries], nodes[ended[entries]], previous, texts), (word_scores[entries], gained[entries])
        )
        self._beam = survivors

    def _remember(self, columns: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> np.ndarray:
        """Add words to the history, as _words and _scores have them; the entries they get."""
        end = self._n_words + len(columns[0])
        while end > self._words.shape[1]:
            self._words = np.concatenate([self._words, np.zeros_like(self._words)], axis=1)
            self._scores = np.concatenate([self._scores, np.zeros_like(self._scores)], axis=1)
        entries = np.arange(self._n_words, end)
        self._words[:, self._n_words : end] = columns
        self._scores[:, self._n_words : end] = scores
        self._n_words = end
        return entries

    def _rescore(self) -> None:
        """Let the recurrent model see the new words of all hypotheses."""
        if self._rescoring is None:
            return
        first, self._n_rescored, self._n_since = self._n_rescored, self._n_words, 0
        # What was known when the words were found is in the scores of the hypotheses.
        known = self._scores[1, first : self._n_words] != 0
        if known.all():
            return
        history, previous = self._beam.history, self._words[2]
        recent = (history >= first).nonzero()[0]
        generations = [np.unique(history[recent])]
        while (older := previous[generations[-1]]).max(initial=-1) >= first:
            generations.append(np.unique(older[older >= first]))
        gains = np.zeros(self._n_words - first + 1, np.float32)  # in all; the last stays 0
        for entries in reversed(generations):
            own = np.zeros(len(entries), np.float32)
            unknown = (~known[entries - first]).nonzero()[0]
            own[unknown] = self._gain(entries[unknown])
            gains[entries - first] = own + gains[np.maximum(previous[entries], first - 1) - first]
        factors = np.ones(len(history))
        factors[recent] = np.exp(gains[history[recent] - first])
        blank, label = self._beam.blank * factors, self._beam.label * factors
        best = float((blank + label).max())
        self._factor += log(best)
        self._beam = _Beam(blank / best, label / best, self._beam.ahead, self._beam.ids)

    def _gain(self, entries: np.ndarray) -> np.ndarray:
        """(n,) what the recurrent model adds to the scores of words of the history."""
        assert self._rescoring is not None
        graph = self._graph
        words, _, previous, texts = self._words[:, entries]
        log_probs = (self._scores[0, entries] - graph.config.word_score) / graph.config.lm_weight
        in_model = graph.in_model(words)
        before = self._texts_until(previous)
        gain = graph.config.lm_weight * self._rescoring.gain(before, in_model, log_probs)
        gain[in_model != words] = 0  # phrases have bonuses instead
        self._rescoring.remember(texts, gain)
        return gain

    def _texts_until(self, entries: np.ndarray) -> np.ndarray:
        """Hashes of the texts that end in entries of the history, whose states are then there."""
        assert self._rescoring is not None
        words, _, previous, texts = np.where(entries >= 0, self._words[:, entries], 0)
        before = np.where(previous >= 0, self._words[3, previous], 0)
        self._rescoring.extend(texts, before, self._graph.in_model(words))
        return texts

    def _extensions(
        self, total: np.ndarray, staying: np.ndarray, scores: np.ndarray, tried: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hypotheses, by which label each goes on, and the nodes there: what may be worth scoring.

        total, staying: (hypotheses,) logarithms, before the frame and after it without a new label.
        """
        beam, tree, config = self._beam, self._graph.tree, self._graph.config
        # Look-ahead makes a hypothesis worse, but for words with a bonus, so many need not be looked at.
        hopeless = staying.max() - min(config.threshold, _MARGIN * self._gap + 0.5) - self._graph.most_gained
        children, bits = tree.children[beam.nodes], _BITS[tried]
        is_child = children[:, None] & bits != 0
        is_child &= total[:, None] > hopeless - scores[tried]
        places = is_child.ravel().nonzero()[0]
        rows = places // len(tried)
        columns = places - rows * len(tried)
        new = tried[columns]
        below = children[rows] & (bits[columns] - _ONE)
        nodes = tree.first_child[beam.nodes][rows] + np.bitwise_count(below)
        # Looking ahead without context costs little, and tells most of those that will not be kept.
        without_context = self._graph.look_ahead.without_context
        expected = (total - without_context[beam.nodes])[rows] + scores[new] + without_context[nodes]
        floor = _floor(np.concatenate([staying, expected]), config)
        kept = (expected > floor - _LEEWAY).nonzero()[0]
        return rows[kept], new[kept], nodes[kept]

    def _word_ends(
        self, nodes: np.ndarray, extended: np.ndarray, floor: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which of the nodes end words that may score above the floor, and these words.

        extended: (nodes,) scores with look-ahead, of which each word is expected to have the share that it
        has without context.
        """
        tree = self._graph.tree
        first_word = tree.first_word[nodes]
        n_words = tree.first_word[nodes + 1] - first_word
        ended = np.arange(len(nodes)).repeat(n_words)
        words = tree.words[joined_ranges(first_word, n_words)]
        shared = extended - self._graph.look_ahead.without_context[nodes]
        kept = (shared[ended] + self._graph.alone[words] > floor).nonzero()[0]
        return ended[kept], words[kept]

    def best(self) -> Hypothesis:
        """The likeliest words so far; a word that has only begun is not among them."""
        row = self._best_row()
        return self._hypothesis(int(self._beam.history[row]), log(self._beam.total[row]) + self._factor)

    def _best_row(self) -> int:
        """The likeliest hypothesis; of equally likely ones that with the latest word."""
        return int(np.lexsort((self._beam.history, self._beam.total))[-1])

    def agreement(self) -> list[float]:
        """Of each word of best(), the share of all probability whose hypotheses have the same words up to it.

        A hypothesis that is still inside a word does not have it. Older words than the last few count as
        agreed on.
        """
        total = self._beam.total
        share = total / total.sum()
        entries = self._entries(int(self._beam.history[self._best_row()]))
        agreed = [1.0] * len(entries)
        if not entries:
            return agreed
        _, _, previous, texts = self._words
        recent = range(max(0, len(entries) - _DEEPEST), len(entries))
        for i in recent:
            agreed[i] = 0.0
        history = self._beam.history
        while history.max() >= entries[recent[0]]:  # an entry's number is larger than that of any before it
            passed = np.where(history >= 0, texts[history], 0)
            for i in recent:
                agreed[i] += float(share[passed == texts[entries[i]]].sum())
            history = np.where(history >= 0, previous[history], -1)
        return [min(share, 1.0) for share in agreed]

    def end(self, n_best: int = 1) -> list[Hypothesis]:
        """The likeliest word sequences, the best first; the search is then over."""
        self._rescore()
        beam = self._beam
        at_word_end = np.flatnonzero(beam.nodes < self._graph.tree.n_labels)
        if len(at_word_end):  # else every hypothesis is inside a word: its beginning is dropped
            beam = beam.take(at_word_end)
        with np.errstate(divide="ignore"):
            total = np.log(beam.total) + self._factor
        if self._graph.lm is not None:
            end = np.full(len(total), END)
            log_probs, _ = self._graph.lm.score(beam.states, end)
            total = total + self._graph.config.lm_weight * log_probs
            if self._rescoring is not None:
                near = (total > total.max() - _NEAR).nonzero()[0]
                texts = self._texts_until(beam.history[near])
                gain = self._rescoring.gain(texts, end[near], log_probs[near])
                total[near] += self._graph.config.lm_weight * gain
        found: dict[tuple[int, ...], Hypothesis] = {}
        for row in np.argsort(-total, kind="stable"):
            hypothesis = self._hypothesis(int(beam.history[row]), float(total[row]))
            found.setdefault(hypothesis.words, hypothesis)
            if len(found) == n_best:
                break
        return list(found.values())

    def _hypothesis(self, entry: int, score: float) -> Hypothesis:
        entries = self._entries(entry)
        words, nodes = self._words[:2, entries].tolist()
        return Hypothesis(tuple(words), tuple(nodes), score)

    def _entries(self, entry: int) -> list[int]:
        """The history that ends in an entry, in order."""
        entries = []
        while entry >= 0:
            entries.append(entry)
            entry = int(self._words[2, entry])
        return entries[::-1]


def _merge(candidates: _Beam, n_nodes: int, config: BeamConfig) -> tuple[_Beam, np.ndarray, float]:
    """The best hypotheses in relation to the best of them, of each the candidate whose history it takes,
    and the best one's probability."""
    # One sort for both: hypotheses of one place share their upper bits, and those of the same words all.
    places = (candidates.states * n_nodes + candidates.nodes) * _HASH_FACTOR
    texts = (candidates.texts * _HASH_FACTOR).view(np.uint64) >> (np.uint64(64) - _TEXT_BITS)
    keys = places.view(np.uint64) ^ texts
    order = keys.argsort()
    keys = keys[order]
    firsts = _starts(keys)
    blank = np.add.reduceat(candidates.blank[order], firsts)
    label = np.add.reduceat(candidates.label[order], firsts)
    total = blank + label
    best = float(total.max())
    kept = (total > best * exp(-config.threshold)).nonzero()[0]
    groups = _starts(keys[firsts[kept]] >> _TEXT_BITS)
    if len(groups) < len(kept):
        scores = total[kept]
        sizes = np.append(groups[1:], len(kept)) - groups
        kept = kept[scores == np.maximum.reduceat(scores, groups).repeat(sizes)]
    if len(kept) > config.beam_size:
        kept = kept[total[kept].argpartition(-config.beam_size)[-config.beam_size :]]
    chosen = order[firsts[kept]]
    survivors = _Beam(
        blank[kept] / best,
        label[kept] / best,
        candidates.ahead[chosen],
        candidates.ids.take(chosen, axis=1),
    )
    return survivors, chosen, best


def _floor(scores: np.ndarray, config: BeamConfig) -> float:
    """What the scores of hypotheses worth keeping exceed; it changes the order of the scores."""
    floor = scores.max() - config.threshold
    if len(scores) > config.beam_size:
        scores.partition(-config.beam_size)
        floor = max(floor, scores[-config.beam_size])
    return float(floor)


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    differs = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=differs[1:])
    return differs.nonzero()[0]
