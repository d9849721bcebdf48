"""CTC prefix beam search through a lexicon with an n-gram language model, frame by frame.

A hypothesis is a place in the prefix tree of the lexicon and a state of the language model. It keeps two
probabilities, of ending in a blank and of ending in its last label, because the CTC rule for repeated
labels treats them differently. Of hypotheses that meet in the same place and state, those of the same
words are added up, and the likeliest words go on, for the future treats them all alike. All hypotheses of
a frame are advanced together as arrays, those of several utterances too: few hypotheses take as long as
many. A recurrent language model sees the words that have lived for some frames, many at once, and corrects
their hypotheses' scores.

Sources: Graves et al. 2006 and Hannun et al. 2014 (prefix search with a language model), Ortmanns et al.
1996 (look-ahead), Miao et al. 2015 (division by the labels' prior probabilities).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import NamedTuple, Protocol

import numpy as np

from asr.decoding.frames import Block, Frames
from asr.decoding.hypotheses import Hypotheses, index_of, lane_starts, merged, text_after
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
_RESCORED_FRAMES = 4  # that may bring a label, from one correction by the recurrent model to the next
_NEAR = 6.0  # to the best, in logarithms: hypotheses whose end the recurrent model sees
_N_LANES = 16  # utterances searched side by side; twice as many gain a fifth of the time and take 20 MB more


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


class Found(NamedTuple):
    """What a search found: the likeliest word sequences, the best first, and the score of the likeliest
    labels, allowed by the graph or not."""

    hypotheses: list[Hypothesis]
    best_path_score: float


class BeamSearch:
    """One search: step() with consecutive frames, best() at any time, end() for the result."""

    def __init__(self, graph: Graph, log_priors: np.ndarray | None = None) -> None:
        """log_priors: (labels,) natural logs, subtracted with the configured weight."""
        self._config = graph.config
        self._bias = _bias(graph, log_priors)
        self._lanes = _Lanes(graph)
        self._lanes.begin(0)
        self._n_blanks = 0
        self._best_path_score = 0.0

    @np.errstate(divide="ignore")  # the logarithm of probability 0
    def step(self, log_probs: np.ndarray) -> None:
        """Advance over (frames, labels) natural log posteriors."""
        config = self._config
        frames = Frames.of(log_probs, self._bias, config.label_beam, config.certain_blank, self._n_blanks)
        self._n_blanks = frames.n_blanks
        self._best_path_score += frames.best_path_score
        self._lanes.weigh(frames.factor)
        self._lanes.go_on(frames.block())
        if frames.has_run[-1]:
            self._lanes.stay(frames.held[-1:], frames.carried[-1:])

    def best(self) -> Hypothesis:
        """The likeliest words so far; a word that has only begun is not among them."""
        return self._lanes.best()

    def agreement(self) -> list[float]:
        """Of each word of best(), the share of all probability whose hypotheses have the same words up to it.

        A hypothesis that is still inside a word does not have it. Older words than the last few count as
        agreed on.
        """
        return self._lanes.agreement()

    def end(self, n_best: int = 1) -> Found:
        """The search is then over."""
        self._lanes.rescore()
        return Found(self._lanes.end(0, n_best), self._best_path_score)


@np.errstate(divide="ignore")
def search_all(
    graph: Graph,
    utterances: Sequence[np.ndarray],
    log_priors: np.ndarray | None = None,
    n_best: int = 1,
) -> list[Found]:
    """What a search of each utterance, (frames, labels) natural log posteriors, finds.

    They are searched side by side, yet each as it would be alone: another begins in the place of one that is
    over when the recurrent model sees the words of all.
    """
    config, bias = graph.config, _bias(graph, log_priors)
    found: dict[int, Found] = {}
    lanes = _Lanes(graph)
    under_way: list[tuple[int, float, deque[Block]]] = []  # utterance, its best path's score, what is to come
    waiting = deque(enumerate(utterances))
    while waiting or under_way:
        while waiting and len(under_way) < _N_LANES:
            number, log_probs = waiting.popleft()
            frames = Frames.of(log_probs, bias, config.label_beam, config.certain_blank)
            under_way.append((number, frames.best_path_score, deque(frames.blocks(_RESCORED_FRAMES))))
            lanes.begin(number)
            lanes.weigh(frames.factor)
        lanes.go_on(Block.beside([blocks.popleft() for _, _, blocks in under_way]))
        if over := [lane for lane, (_, _, blocks) in enumerate(under_way) if not blocks]:
            for lane in over:
                number, best_path_score, _ = under_way[lane]
                found[number] = Found(lanes.end(lane, n_best), best_path_score)
            lanes.drop(over)
            under_way = [each for each in under_way if each[2]]
    return [found[number] for number in range(len(utterances))]


def _bias(graph: Graph, log_priors: np.ndarray | None) -> np.ndarray:
    """(labels,) what is subtracted from the labels' log-probabilities."""
    bias = np.zeros(graph.tree.n_labels, np.float32)
    return bias if log_priors is None else bias + np.float32(graph.config.prior_weight) * log_priors


class _Lanes:
    """Hypotheses of searches side by side, advanced together, and the history of their words."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._beam = Hypotheses(np.zeros(0), np.zeros(0), np.zeros(0, np.float32), np.zeros((6, 0), np.int64))
        self._n = 0  # lanes
        self._starts = np.zeros(1, np.int64)  # where each lane begins in the beam, and its end
        self._factors = np.zeros(0)  # of each lane, common to its probabilities, their logarithms
        self._gaps = np.zeros(0)  # of each lane, between the best hypothesis and the worst kept
        self._salts = np.zeros(0, np.int64)  # of each lane, what makes hashes its own
        # The history: words, nodes, previous entries, hashes of the texts so far, and others that utterances
        # do not share. A lane's first entry, which is no word, precedes itself.
        self._words = np.zeros((5, 1024), np.int64)
        self._scores = np.zeros((2, 1024), np.float32)  # theirs as Graph.score() has it, and what is gained
        self._n_words = 0  # entries that there are
        self._rescoring = None if graph.mixture is None else Rescoring(graph.mixture)
        self._n_rescored = 0  # entries that it has seen
        self._n_since = 0  # frames since then

    def begin(self, number: int) -> None:
        """A new lane, when there is none or the recurrent model has just seen all words. number: its own."""
        lm = self._graph.lm
        state = np.full(1, 0 if lm is None else lm.start)
        last_word = np.full(1, -1) if lm is None else lm.last_words(state)
        zero = np.zeros(1, np.int64)
        text, salt = zero, text_after(zero + number, zero)
        entry = self._remember((zero, zero + BLANK, zero + self._n_words, text, text ^ salt), (zero, zero))
        self._n_rescored = self._n_words
        ids = np.stack([text, state, last_word, zero + BLANK, entry, zero + self._n])
        first = Hypotheses(np.ones(1), np.zeros(1), np.zeros(1, np.float32), ids)
        self._set(Hypotheses.joined([self._beam, first]), self._n + 1)
        self._factors = np.append(self._factors, 0.0)
        self._gaps = np.append(self._gaps, np.inf)
        self._salts = np.append(self._salts, salt)

    def drop(self, over: Sequence[int]) -> None:
        """Forget lanes; those after them move up."""
        kept = np.setdiff1d(np.arange(self._n), over)
        beam = self._beam.take(np.isin(self._beam.lanes, kept).nonzero()[0])
        beam.lanes[:] = kept.searchsorted(beam.lanes)
        self._factors, self._gaps, self._salts = self._factors[kept], self._gaps[kept], self._salts[kept]
        self._set(beam, len(kept))

    def _set(self, beam: Hypotheses, n_lanes: int) -> None:
        self._beam, self._n, self._starts = beam, n_lanes, lane_starts(beam.lanes, n_lanes)

    def weigh(self, factor: float) -> None:
        """Multiply all probabilities of the last lane; a logarithm."""
        self._factors[-1] += factor

    def stay(self, held: np.ndarray, carried: np.ndarray) -> None:
        """By frames that bring no new label, as Frames has them, (lanes, labels)."""
        beam = self._beam
        at = self._last_labels()
        self._reweigh(beam.blank + beam.label * carried.ravel()[at], beam.label * held.ravel()[at])

    def _reweigh(self, blank: np.ndarray, label: np.ndarray) -> None:
        """Other probabilities for the same hypotheses."""
        beam = self._beam
        best = np.maximum.reduceat(blank + label, self._starts[:-1])
        self._factors += np.log(best)
        factors = best[self._index(beam.lanes)]
        self._beam = Hypotheses(blank / factors, label / factors, beam.ahead, beam.ids)

    def _index(self, lanes: np.ndarray) -> np.ndarray | slice:
        return index_of(lanes, self._n)

    def _at(self, lanes: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Where labels of lanes are in (lanes * labels,)."""
        return labels if self._n == 1 else lanes * self._graph.tree.n_labels + labels

    def _last_labels(self) -> np.ndarray:
        """Where each hypothesis finds its last label in (lanes * labels,)."""
        return self._at(self._beam.lanes, self._graph.tree.labels[self._beam.nodes])

    def go_on(self, block: Block) -> None:
        """Over its frames, one a lane at a time."""
        for i in range(len(block.scores)):
            if block.has_run[i].any():
                self.stay(block.held[i], block.carried[i])
            self._advance(
                block.probabilities[i], block.scores[i].ravel(), block.tried[i], block.tried_scores[i]
            )

    def _advance(
        self, probabilities: np.ndarray, scores: np.ndarray, tried: np.ndarray, tried_scores: np.ndarray
    ) -> None:
        """By one frame a lane as Frames has them: (lanes, labels), (lanes * labels,) and twice (lanes, k)."""
        beam, tree, graph = self._beam, self._graph.tree, self._graph
        total = beam.total
        blank = total * probabilities[self._index(beam.lanes), BLANK]
        label = beam.label * probabilities.ravel()[self._last_labels()]
        total, staying = np.log(total), np.log(blank + label)
        rows, lanes, new, nodes = self._extensions(total, staying, scores, tried, tried_scores)
        ahead = graph.look_ahead(beam.last_words[rows], nodes)
        extended = total[rows]
        repeated = (new == tree.labels[beam.nodes[rows]]).nonzero()[0]
        extended[repeated] = np.log(beam.blank[rows[repeated]])
        extended += scores[self._at(lanes, new)] + (ahead - beam.ahead[rows])
        best, floors = self._floors(staying, extended, lanes)
        self._gaps = best - floors
        kept = (extended > floors[self._index(lanes)]).nonzero()[0]
        rows, lanes, nodes = rows[kept], lanes[kept], nodes[kept]
        extended, ahead = extended[kept], ahead[kept]
        before = extended - ahead
        ended, words = self._word_ends(nodes, extended, floors[self._index(lanes)])
        word_scores, states, last_words = graph.score(beam.states[rows[ended]], words)
        texts = text_after(beam.texts[rows[ended]], words)
        own = texts ^ self._salts[lanes[ended]]
        gained = np.zeros(len(own), np.float32) if self._rescoring is None else self._rescoring.known(own)
        if graph.lm is None:
            states = texts  # nothing else tells the hypotheses apart
        # What stays, what goes on by a label, and from where words end back to a root, once for each word.
        n_staying, n = len(staying), len(staying) + len(rows)
        candidates = Hypotheses(
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
        config = graph.config
        survivors, chosen, best = merged(
            candidates, len(tree), self._n, exp(-config.threshold), config.beam_size
        )
        self._factors += np.log(best)
        # Only words that survive enter the history.
        with_word = (chosen >= n).nonzero()[0]
        entries = chosen[with_word] - n
        previous, texts, own = survivors.history[with_word], texts[entries], own[entries]
        survivors.history[with_word] = self._remember(
            (words[entries], nodes[ended[entries]], previous, texts, own),
            (word_scores[entries], gained[entries]),
        )
        self._set(survivors, self._n)
        self._n_since += 1
        if self._n_since >= _RESCORED_FRAMES:
            self.rescore()

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

    def rescore(self) -> None:
        """Let the recurrent model see the new words of all hypotheses."""
        first, self._n_rescored, self._n_since = self._n_rescored, self._n_words, 0
        if self._rescoring is None:
            return
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
        self._reweigh(self._beam.blank * factors, self._beam.label * factors)
        if self._rescoring.is_full:
            needed = np.unique(self._beam.history)
            self._rescoring.keep(self._words[3, np.concatenate([needed, previous[needed]])])

    def _gain(self, entries: np.ndarray) -> np.ndarray:
        """(n,) what the recurrent model adds to the scores of words of the history."""
        assert self._rescoring is not None
        graph = self._graph
        words, _, previous, _, own = self._words[:, entries]
        log_probs = (self._scores[0, entries] - graph.config.word_score) / graph.config.lm_weight
        in_model = graph.in_model(words)
        before = self._texts_until(previous)
        gain = graph.config.lm_weight * self._rescoring.gain(before, in_model, log_probs)
        gain[in_model != words] = 0  # phrases have bonuses instead
        self._rescoring.remember(own, gain)
        return gain

    def _texts_until(self, entries: np.ndarray) -> np.ndarray:
        """Hashes of the texts that end in entries of the history, whose states are then there."""
        assert self._rescoring is not None
        words, _, previous, texts, _ = self._words[:, entries]
        self._rescoring.extend(texts, self._words[3, previous], self._graph.in_model(words))
        return texts

    def _extensions(
        self,
        total: np.ndarray,
        staying: np.ndarray,
        scores: np.ndarray,
        tried: np.ndarray,
        tried_scores: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Hypotheses, their lanes, by which label each goes on, and the nodes there: what may be worth
        scoring.

        total, staying: (hypotheses,) logarithms, before the frame and after it without a new label.
        """
        beam, tree, config = self._beam, self._graph.tree, self._graph.config
        # Look-ahead makes a hypothesis worse, but for words with a bonus, so many need not be looked at.
        best = np.maximum.reduceat(staying, self._starts[:-1])
        gaps = np.minimum(config.threshold, _MARGIN * self._gaps + 0.5)
        least = (best - gaps - self._graph.most_gained)[:, None] - tried_scores
        children, bits, index = tree.children[beam.nodes], _BITS[tried], self._index(beam.lanes)
        is_child = (children[:, None] & bits[index]) != 0
        is_child &= total[:, None] > least[index]
        places = is_child.ravel().nonzero()[0]
        rows = places // tried.shape[1]
        lanes = beam.lanes[rows]
        columns = places + (lanes - rows) * tried.shape[1]
        new = tried.ravel()[columns]
        below = children[rows] & (bits.ravel()[columns] - _ONE)
        nodes = tree.first_child[beam.nodes][rows] + np.bitwise_count(below)
        # Looking ahead without context costs little, and tells most of those that will not be kept.
        without_context = self._graph.look_ahead.without_context
        expected = (total - without_context[beam.nodes])[rows]
        expected += scores[self._at(lanes, new)] + without_context[nodes]
        _, floors = self._floors(staying, expected, lanes)
        kept = (expected > (floors - _LEEWAY)[self._index(lanes)]).nonzero()[0]
        return rows[kept], lanes[kept], new[kept], nodes[kept]

    def _floors(
        self, staying: np.ndarray, extended: np.ndarray, lanes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of each lane, the best of the scores of hypotheses and what those worth keeping exceed.

        staying: (hypotheses,); extended: (n,) with their lanes, in order.
        """
        config = self._graph.config
        if self._n == 1:
            scores = np.concatenate([staying, extended])
            best = scores.max(keepdims=True)
            if len(scores) <= config.beam_size:
                return best, best - config.threshold
            scores.partition(-config.beam_size)
            return best, np.maximum(best - config.threshold, scores[-config.beam_size])
        best = np.maximum.reduceat(staying, self._starts[:-1])
        np.maximum.at(best, lanes, extended)
        floors = best - config.threshold
        first, ends = self._starts, lane_starts(lanes, self._n)
        counts = first[1:] - first[:-1] + ends[1:] - ends[:-1]
        for lane in (counts > config.beam_size).nonzero()[0]:
            here = slice(lane, lane + 2)
            scores = np.concatenate([staying[slice(*first[here])], extended[slice(*ends[here])]])
            scores.partition(-config.beam_size)
            floors[lane] = max(floors[lane], scores[-config.beam_size])
        return best, floors

    def _word_ends(
        self, nodes: np.ndarray, extended: np.ndarray, floors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which of the nodes end words that may score above the floors, and these words.

        extended: (nodes,) scores with look-ahead, of which each word is expected to have the share that it
        has without context.
        """
        tree = self._graph.tree
        first_word = tree.first_word[nodes]
        n_words = tree.first_word[nodes + 1] - first_word
        ended = np.arange(len(nodes)).repeat(n_words)
        words = tree.words[joined_ranges(first_word, n_words)]
        lacking = floors - extended + self._graph.look_ahead.without_context[nodes]
        kept = (self._graph.alone[words] > lacking[ended]).nonzero()[0]
        return ended[kept], words[kept]

    def best(self) -> Hypothesis:
        """Of the only lane, the likeliest words so far; a word that has only begun is not among them."""
        row = self._best_row()
        score = log(self._beam.total[row]) + float(self._factors[0])
        return self._hypothesis(int(self._beam.history[row]), score)

    def _best_row(self) -> int:
        """The likeliest hypothesis; of equally likely ones that with the latest word."""
        return int(np.lexsort((self._beam.history, self._beam.total))[-1])

    def agreement(self) -> list[float]:
        """Of the only lane, as BeamSearch has it."""
        total = self._beam.total
        share = total / total.sum()
        entries = self._entries(int(self._beam.history[self._best_row()]))
        agreed = [1.0] * len(entries)
        if not entries:
            return agreed
        _, _, previous, texts, _ = self._words
        recent = range(max(0, len(entries) - _DEEPEST), len(entries))
        for i in recent:
            agreed[i] = 0.0
        history = self._beam.history
        while history.max() >= entries[recent[0]]:  # an entry's number is larger than that of any before it
            passed = texts[history]
            for i in recent:
                agreed[i] += float(share[passed == texts[entries[i]]].sum())
            history = previous[history]
        return [min(share, 1.0) for share in agreed]

    def end(self, lane: int, n_best: int) -> list[Hypothesis]:
        """The likeliest word sequences of a lane that is over, the best first."""
        beam = self._beam.take(slice(*self._starts[lane : lane + 2]))
        at_word_end = (beam.nodes < self._graph.tree.n_labels).nonzero()[0]
        if len(at_word_end):  # else every hypothesis is inside a word: its beginning is dropped
            beam = beam.take(at_word_end)
        total = np.log(beam.total) + self._factors[lane]
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
        """The words of a history that ends in an entry, in order."""
        entries = []
        while (before := int(self._words[2, entry])) != entry:
            entries.append(entry)
            entry = before
        return entries[::-1]
