"""Beam searches side by side: all their hypotheses advance together, frame by frame, as arrays.

A frame takes nearly as long for few hypotheses as for many, so that several utterances, a lane each, take
little more time than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from asr.decoding.frames import Block
from asr.decoding.graph import Graph
from asr.decoding.hypotheses import Hypotheses, index_of, lane_starts, merged, text_after
from asr.decoding.ngram import END
from asr.decoding.prefix_tree import MAX_LABELS
from asr.decoding.ranges import distinct, joined_ranges
from asr.decoding.recurrent import Rescoring
from asr.labels import BLANK

_MARGIN = 1.1  # by which the gap between best and worst hypothesis may grow from frame to frame
_BITS = np.int64(1) << np.arange(MAX_LABELS)  # of each label among a node's children
_DEEPEST = 6  # words that agreement() looks back
_NEAR = 6.0  # to the best, in logarithms: hypotheses whose end the recurrent model sees


@dataclass(frozen=True)
class Hypothesis:
    """words: ids in the language model; nodes: where in the prefix tree each was found."""

    words: tuple[int, ...]
    nodes: tuple[int, ...]
    score: float


class Lanes:
    """Hypotheses of searches side by side, and the history of their words."""

    period = 4  # frames from one correction by the recurrent model to the next

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._beam = Hypotheses(np.zeros(0), np.zeros(0), np.zeros(0, np.float32), np.zeros((9, 0), np.int64))
        self._n = 0  # lanes
        self._starts = np.zeros(1, np.int64)  # where each lane begins in the beam, and its end
        self._factors = np.zeros(0)  # of each lane, common to its probabilities, their logarithms
        self._gaps = np.zeros(0)  # of each lane, between the best hypothesis and the worst kept
        # The history: words, nodes, previous entries, and hashes of the texts so far, which utterances do not
        # share. A lane's first entry, which is no word, precedes itself.
        self._words = np.zeros((4, 1024), np.int64)
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
        text = text_after(zero + number, zero)
        if self._rescoring is not None:
            self._rescoring.begin(text)
        entry = self._remember((zero, zero + BLANK, zero + self._n_words, text), (zero, zero))
        self._n_rescored = self._n_words
        branches = self._graph.tree.branches[BLANK, :, None]
        ids = np.stack(
            [text, state, last_word, zero + BLANK, *branches, zero + BLANK, entry, zero + self._n]
        )
        first = Hypotheses(np.ones(1), np.zeros(1), np.zeros(1, np.float32), ids)
        self._set(Hypotheses.joined([self._beam, first]), self._n + 1)
        self._factors = np.append(self._factors, 0.0)
        self._gaps = np.append(self._gaps, np.inf)

    def drop(self, over: Sequence[int]) -> None:
        """Forget lanes; those after them move up."""
        kept = np.setdiff1d(np.arange(self._n), over)
        beam = self._beam.take(np.isin(self._beam.lanes, kept).nonzero()[0])
        beam.lanes[:] = kept.searchsorted(beam.lanes)
        self._factors, self._gaps = self._factors[kept], self._gaps[kept]
        self._set(beam, len(kept))

    def _set(self, beam: Hypotheses, n_lanes: int) -> None:
        self._beam, self._n, self._starts = beam, n_lanes, lane_starts(beam.lanes, n_lanes)

    def weigh(self, factor: float) -> None:
        """Multiply all probabilities of the last lane; a logarithm."""
        self._factors[-1] += factor

    def stay(self, held: np.ndarray, carried: np.ndarray) -> None:
        """By frames that bring no new label, as Block has them, (lanes, labels)."""
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
        return self._at(self._beam.lanes, self._beam.labels)

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
        """By one frame a lane as Block has them: (lanes, labels), (lanes * labels,) and twice (lanes, k)."""
        beam, tree, graph, config = self._beam, self._graph.tree, self._graph, self._graph.config
        total = beam.total
        blank = total * probabilities[self._index(beam.lanes), BLANK]
        label = beam.label * probabilities.ravel()[self._last_labels()]
        total, staying = np.log(total), np.log(blank + label)
        rows, lanes, new, nodes = self._extensions(total, staying, tried, tried_scores)
        ahead = graph.look_ahead(beam.last_words[rows], nodes)
        extended = total[rows]
        repeated = (new == beam.labels[rows]).nonzero()[0]
        extended[repeated] = np.log(beam.blank[rows[repeated]])
        extended += scores[self._at(lanes, new)] + (ahead - beam.ahead[rows])
        best, floors = self._floors(staying, extended, lanes)
        self._gaps = best - floors
        kept = (extended > floors[self._index(lanes)]).nonzero()[0]
        rows, lanes, new, nodes = rows[kept], lanes[kept], new[kept], nodes[kept]
        extended, ahead = extended[kept], ahead[kept]
        ended, words = self._word_ends(nodes, extended, floors[self._index(lanes)])
        parents = rows[ended]
        word_scores, states, last_words = graph.score(beam.states[parents], words)
        texts = text_after(beam.texts[parents], words)
        gained = np.zeros(len(words), np.float32) if self._rescoring is None else self._rescoring.known(texts)
        if graph.lm is None:
            states = texts  # nothing else tells the hypotheses apart
        # What stays, what goes on by a label, and from where words end back to a root, once for each word.
        n_staying, n = len(staying), len(staying) + len(rows)
        going_on = np.exp(np.concatenate([extended, (extended - ahead)[ended] + word_scores + gained]))
        candidates = Hypotheses(
            blank=np.concatenate([blank, np.zeros(len(going_on))]),
            label=np.concatenate([label, going_on]),
            ahead=np.concatenate([beam.ahead, ahead, np.zeros(len(ended), np.float32)]),
            ids=beam.ids.take(np.concatenate([np.arange(n_staying), rows, parents]), axis=1),
        )
        candidates.nodes[n_staying:n] = nodes
        candidates.nodes[n:] = candidates.labels[n:] = new[ended]
        candidates.branches[:, n_staying:n] = tree.branches.take(nodes, axis=0).T
        candidates.branches[:, n:] = tree.branches[BLANK, :, None]
        candidates.labels[n_staying:n] = new
        candidates.texts[n:], candidates.states[n:], candidates.last_words[n:] = texts, states, last_words
        survivors, chosen, best = merged(
            candidates, len(tree), self._n, exp(-config.threshold), config.beam_size
        )
        self._factors += np.log(best)
        # Only words that survive enter the history.
        with_word = (chosen >= n).nonzero()[0]
        entries = chosen[with_word] - n
        survivors.history[with_word] = self._remember(
            (words[entries], nodes[ended[entries]], survivors.history[with_word], texts[entries]),
            (word_scores[entries], gained[entries]),
        )
        self._set(survivors, self._n)
        self._n_since += 1
        if self._n_since >= self.period:
            self.rescore()

    def _remember(self, columns: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> np.ndarray:
        """Add words to the history, as _words and _scores have them; the entries they get."""
        end = self._n_words + len(columns[0])
        self._make_history_room(end)
        entries = np.arange(self._n_words, end)
        for row, column in zip((*self._words, *self._scores), (*columns, *scores), strict=True):
            row[self._n_words : end] = column
        self._n_words = end
        return entries

    def _make_history_room(self, n_words: int) -> None:
        while n_words > self._words.shape[1]:
            self._words = np.concatenate([self._words, np.zeros_like(self._words)], axis=1)
            self._scores = np.concatenate([self._scores, np.zeros_like(self._scores)], axis=1)

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
        generations = [distinct(history[recent])]
        while (older := previous[generations[-1]]).max(initial=-1) >= first:
            generations.append(distinct(older[older >= first]))
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
            needed = distinct(self._beam.history)
            self._rescoring.keep(self._words[3, np.concatenate([needed, previous[needed]])])

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
        words, _, previous, texts = self._words[:, entries]
        self._rescoring.extend(texts, self._words[3, previous], self._graph.in_model(words))
        return texts

    def _extensions(
        self,
        total: np.ndarray,
        staying: np.ndarray,
        tried: np.ndarray,
        tried_scores: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Hypotheses, their lanes, by which label each goes on, and the nodes there: what may be worth
        scoring.

        total, staying: (hypotheses,) logarithms, before the frame and after it without a new label.
        """
        beam = self._beam
        # Look-ahead makes a hypothesis worse, but for words with a bonus, so many need not be looked at.
        best = np.maximum.reduceat(staying, self._starts[:-1])
        gaps = np.minimum(self._graph.config.threshold, _MARGIN * self._gaps + 0.5)
        least = (best - gaps - self._graph.most_gained)[:, None] - tried_scores
        bits, index = _BITS[tried], self._index(beam.lanes)
        children, first_child = beam.branches
        is_child = (children[:, None] & bits[index]) != 0
        is_child &= total[:, None] > least[index]
        rows, columns = is_child.nonzero()
        lanes = beam.lanes[rows]
        at = columns if self._n == 1 else lanes * tried.shape[1] + columns
        below = children[rows] & (bits.ravel()[at] - 1)
        return rows, lanes, tried.ravel()[at], first_child[rows] + np.bitwise_count(below.view(np.uint64))

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
        total = self._beam.total
        rows = (total == total.max()).nonzero()[0]
        return int(rows[self._beam.history[rows].argmax()])

    def agreement(self, n_words: int) -> list[float]:
        """Of the only lane, as BeamSearch has it."""
        n_recent = min(n_words, _DEEPEST)
        if not n_recent:
            return []
        share = self._beam.total / self._beam.total.sum()
        history = self._beam.history
        recent = self._entries(int(history[self._best_row()]), n_recent)
        _, _, previous, texts = self._words
        agreed = np.zeros(n_recent)
        while history.max() >= recent[0]:  # an entry's number is larger than that of any before it
            agreed += (texts[history] == texts[recent, None]) @ share
            history = previous[history]
        return [1.0] * (n_words - n_recent) + np.minimum(agreed, 1.0).tolist()

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

    def _entries(self, entry: int, most: int | None = None) -> list[int]:
        """The words of a history that ends in an entry, in order, or the last of them."""
        entries: list[int] = []
        while (before := int(self._words[2, entry])) != entry and len(entries) != most:
            entries.append(entry)
            entry = before
        return entries[::-1]
