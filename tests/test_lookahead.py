"""Look-ahead of the language model inside words, against sums over all words below a node."""

from __future__ import annotations

import numpy as np
import pytest

from asr.decoding import lookahead
from asr.decoding.graph import BeamConfig, Graph, Phrase
from asr.decoding.lookahead import BigramLookAhead
from asr.decoding.ngram import SPECIAL_WORDS, NGramModel, Order
from asr.decoding.prefix_tree import PrefixTree, Pronunciations

N_LABELS, N_WORDS = 5, 30


def sparse_trigrams(seed: int) -> NGramModel:
    """Proper probabilities with back-off; each word has seen some others after it, some pairs a third."""
    random = np.random.default_rng(seed)
    n = N_WORDS + len(SPECIAL_WORDS)
    unigrams = np.log(random.dirichlet(np.ones(n)))
    orders = [Order(np.zeros(n, "i4"), np.arange(n, dtype="i4"), unigrams.astype("f4"), np.zeros(n, "f4"))]
    for share in (0.2, 0.05):
        below = orders[-1]
        pairs = np.argwhere(random.random((len(below), n)) < share).astype("i4")
        log_probs = np.log(random.uniform(0.001, 0.1, len(pairs))).astype("f4")
        below.back_offs[np.unique(pairs[:, 0])] = -random.uniform(0.1, 1)
        orders.append(Order(pairs[:, 0], pairs[:, 1], log_probs, np.zeros(len(pairs), "f4")))
    return NGramModel([*SPECIAL_WORDS, *(f"w{i}" for i in range(N_WORDS))], orders)


def random_tree(seed: int) -> PrefixTree:
    """Some words have several pronunciations, some pronunciations several words."""
    random = np.random.default_rng(seed)
    entries = [
        (random.integers(1, N_LABELS, random.integers(1, 5)).tolist(), word)
        for word in [*range(3, 3 + N_WORDS), *range(3, 13)]
    ]
    return PrefixTree(Pronunciations.of(entries), N_LABELS)


def rows_below(tree: PrefixTree, node: int) -> list[int]:
    """The words at a node and below it, once for each pronunciation."""
    words = tree.words[tree.first_word[node] : tree.first_word[node + 1]].tolist()
    for child in np.flatnonzero(tree.parents == node).tolist():
        if child >= tree.n_labels:
            words += rows_below(tree, child)
    return words


def near_root(tree: PrefixTree, node: int) -> int:
    """The node itself, or its ancestor two labels into the word."""
    while len(tree.pronunciation(node)) > 2:
        node = int(tree.parents[node])
    return node


@pytest.mark.parametrize(
    ("seed", "most_words", "fewest_bigrams"), [(0, 4096, 0), (1, 4096, 7), (2, 1, 0), (3, 20, 0), (4, 9, 7)]
)
def test_it_is_the_probability_of_all_words_below_after_the_last_word(
    seed: int, most_words: int, fewest_bigrams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two labels deep; what is deeper has the share of it that unigrams give, as has all after words that
    have few bigrams."""
    monkeypatch.setattr(lookahead, "_MOST_WORDS", most_words)  # few: sums are made again and again
    monkeypatch.setattr(lookahead, "_FEWEST_BIGRAMS", fewest_bigrams)
    lm, tree = sparse_trigrams(seed), random_tree(seed)
    look_ahead = BigramLookAhead(tree, lm, 0.8 * lm.unigrams - 0.5, lm_weight=0.8, word_score=-0.5)
    random = np.random.default_rng(seed)
    n_deep = 0
    for _ in range(5):
        last_words = random.integers(-1, lm.counts[0], 100)
        nodes = random.integers(N_LABELS, len(tree), 100)
        expected = []
        for last_word, node in zip(last_words.tolist(), nodes.tolist(), strict=True):
            shallow = near_root(tree, node)
            n_deep += shallow != node
            words, deeper = np.array(rows_below(tree, shallow)), np.array(rows_below(tree, node))
            if last_word >= 0 and lm.n_bigrams(np.array([last_word]))[0] < fewest_bigrams:
                log_probs = lm.unigrams[words] + lm.unigram_back_offs[last_word]
            else:  # the state of a word alone is the node that its unigram leads to
                log_probs, _ = lm.score(np.full(len(words), last_word + 1), words)
            share = np.exp(lm.unigrams[deeper]).sum() / np.exp(lm.unigrams[words]).sum()
            expected.append(0.8 * (np.logaddexp.reduce(log_probs) + np.log(share)) - 0.5)
        np.testing.assert_allclose(look_ahead(last_words, nodes), expected, rtol=1e-4, atol=1e-4)
    assert n_deep > 50
    assert not look_ahead.without_context[:N_LABELS].any()


def test_the_last_word_of_a_state_is_that_of_its_context() -> None:
    lm = sparse_trigrams(0)
    states = np.array([lm.start])
    assert lm.last_words(np.array([0])).tolist() == [-1]
    for word in [5, 9, 4, 7, 7, 12, 3] * 5:
        _, states = lm.score(states, np.array([word]))
        assert lm.last_words(states).tolist() == ([word] if states[0] else [-1])


def test_bigrams_are_listed_with_the_probabilities_that_scoring_gives() -> None:
    lm = sparse_trigrams(1)
    counts, words, log_probs = lm.bigrams(np.array([4, 20, 8]))
    assert counts.sum() == len(words) == len(log_probs) > 3
    contexts = np.repeat([4, 20, 8], counts)
    np.testing.assert_array_equal(lm.score(contexts + 1, words)[0], log_probs)


def test_a_bonus_on_a_phrase_is_seen_from_its_first_label() -> None:
    lm = sparse_trigrams(2)
    spelled = Pronunciations.of([([1, 1], 5), ([2, 2, 2], len(lm.words))])
    config = BeamConfig(lm_weight=1.0, word_score=0.0)
    scores = []
    for bonus in (0.0, 3.0):
        phrases = [Phrase("w4 w5", (7, 8), bonus)]
        graph = Graph(PrefixTree(spelled, 3), lm, config, phrases)
        first_of_the_phrase = graph.tree.branches[0, 1] + 1
        scores.append(graph.look_ahead(np.array([-1]), np.array([first_of_the_phrase]))[0])
    assert scores[1] == pytest.approx(scores[0] + 3.0, abs=1e-4)
