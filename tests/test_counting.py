"""Models counted from text, and mixtures: probabilities sum to one, and are those of the papers."""

from __future__ import annotations

import numpy as np
import pytest

from asr.decoding.counting import Text, count_ngrams
from asr.decoding.mixing import best_share, interpolate, token_log_probs
from asr.decoding.ngram import BEGIN, UNKNOWN, NGramModel


def sentences(n: int, seed: int = 0, n_words: int = 40) -> list[str]:
    """Random ones, of words of which few are frequent."""
    rng = np.random.default_rng(seed)
    drawn = rng.zipf(1.4, (n, 8)) % n_words
    return [" ".join(f"w{i}" for i in row[: rng.integers(1, 9)]) for row in drawn]


def sums(model: NGramModel) -> np.ndarray:
    """Probabilities of all words but <s>, which nothing is followed by, after every state of a model."""
    words = np.setdiff1d(np.arange(len(model.words)), [BEGIN])
    states = np.array(
        [0, *(i for i in range(1, 1 + sum(model.counts[:-1])) if model.arrays["is_context"][i])]
    )
    return np.array(
        [np.exp(model.score(np.full(len(words), s), words)[0].astype(float)).sum() for s in states]
    )


@pytest.mark.parametrize(
    ("order", "n_words", "count_prune"),
    [(1, None, ()), (3, None, ()), (4, 12, ()), (3, 20, (0, 1, 2)), (3, None, (0, 0, 1))],
)
def test_probabilities_after_every_history_sum_to_one(
    order: int, n_words: int | None, count_prune: tuple[int, ...]
) -> None:
    model = count_ngrams(Text.of(sentences(300), n_words), order, count_prune)
    assert len(model.counts) == order
    np.testing.assert_allclose(sums(model), 1, atol=2e-6)


def test_probabilities_are_those_of_kneser_and_ney() -> None:
    model = count_ngrams(Text.of(["a b", "a b", "a c", "b"]), 2)
    # Bigrams, seen: <s> a 3, a b 2, b </s> 3, <s> b, a c, c </s> once. Of words, what different ones precede:
    # a 1, b 2, c 1, </s> 2. Discounts of so small a text: 0.5, 1, 1.5.
    unigram = {"a": 0.5 / 6, "b": 1 / 6, "c": 0.5 / 6, "</s>": 1 / 6, "<unk>": 0}
    unigram = {word: p + 3 / 6 / 5 for word, p in unigram.items()}
    b_after_a = 1 / 3 + 1.5 / 3 * unigram["b"]
    c_after_b = 1.5 / 3 * unigram["c"]
    scores = np.exp(model.score_sentence(["a", "b", "c"]))
    assert scores[:3] == pytest.approx([1.5 / 4 + 2 / 4 * unigram["a"], b_after_a, c_after_b], rel=1e-5)
    assert np.exp(model.unigrams[UNKNOWN]) == pytest.approx(0.1)


def test_large_texts_get_discounts_of_their_own() -> None:
    text = Text.of(sentences(5000, n_words=3000))
    held_out = Text.of(sentences(500, seed=1, n_words=3000)).sentences()
    ones, threes = (token_log_probs(count_ngrams(text, n), held_out) for n in (1, 3))
    known = np.isfinite(ones)
    # Words are drawn one by one: longer n-grams say nothing, and must not spoil much.
    assert abs(np.exp(-threes[known].mean()) / np.exp(-ones[known].mean()) - 1) < 0.2


def test_a_mixture_has_the_probabilities_of_both() -> None:
    one = count_ngrams(Text.of(sentences(200)), 3)
    other = count_ngrams(Text.of([*sentences(50, seed=1, n_words=20), "new words w1"]), 2)
    mixed = interpolate(one, other, 0.3)
    assert mixed.words[: len(one.words)] == one.words and set(mixed.words) > {"new", "words"}
    np.testing.assert_allclose(sums(mixed), 1, atol=2e-6)
    # Every n-gram that one of them has gets both probabilities by their shares.
    p_one, p_other, p_mixed = (np.exp(m.score_sentence(["w1", "w1"])[:1]) for m in (one, other, mixed))
    assert p_mixed == pytest.approx(0.7 * p_one + 0.3 * p_other, rel=1e-5)
    new = token_log_probs(mixed, [["new", "words"]])
    assert np.exp(new[0]) == pytest.approx(0.3 * np.exp(token_log_probs(other, [["new"]])[0]), rel=1e-5)


def test_the_best_share_is_that_of_the_text() -> None:
    rng = np.random.default_rng(0)
    from_other = rng.random(20_000) < 0.3
    first = np.where(from_other, 0.01, 0.2)
    second = np.where(from_other, 0.2, 0.01)
    assert best_share(np.log(first), np.log(second)) == pytest.approx(0.27, abs=0.02)
