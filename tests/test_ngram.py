"""n-gram models: ARPA files, probabilities after words, pruning, and the file they are kept in."""

from __future__ import annotations

import gzip
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from asr.decoding import language, ngram
from asr.decoding.arpa import read_arpa
from asr.decoding.language import Language
from asr.decoding.ngram import SPECIAL_WORDS, NGramModel
from asr.decoding.prefix_tree import Pronunciations
from asr.decoding.prune import prune
from asr.errors import LanguageModelError

LN_10 = np.log(10)

# A trigram model over the words a and b. Some n-grams are there, some must be backed off to.
ARPA = """
\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-0.6\t</s>
-0.4\ta\t-0.2
-0.5\tb\t-0.1

\\2-grams:
-0.2\t<s> a\t-0.15
-0.7\ta b\t-0.25
-0.3\tb a
-0.9\ta </s>

\\3-grams:
-0.1\t<s> a b
-0.35\ta b a

\\end\\
"""


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    return path


def log10_scores(model: NGramModel, sentence: str) -> list[float]:
    return [score / LN_10 for score in model.score_sentence(sentence.split())]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("a b a", [-0.2, -0.1, -0.35, -0.9]),  # bigram, two trigrams, and "b a" has no weight of its own
        ("b", [-0.3 - 0.5, -0.1 - 0.6]),  # neither "<s> b" nor "b </s>" is there
        ("a a", [-0.2, -0.15 - 0.2 - 0.4, -0.9]),  # back off twice, through "<s> a" and "a"
        ("a c a", [-0.2, -0.15 - 0.2 - 1.0, -0.4, -0.9]),  # an unknown word starts a new context
        ("", [-0.3 - 0.6]),
    ],
)
def test_words_score_by_their_longest_known_context(arpa: Path, sentence: str, expected: list[float]) -> None:
    assert log10_scores(read_arpa(arpa), sentence) == pytest.approx(expected, abs=1e-5)


def test_many_words_at_once_score_as_one_by_one(arpa: Path) -> None:
    model = read_arpa(arpa)
    states, words = (np.array(column) for column in zip(*product(range(9), range(5)), strict=True))
    scores, following = model.score(states, words)
    for i, (state, word) in enumerate(zip(states, words, strict=True)):
        score, state_after = model.score(np.array([state]), np.array([word]))
        assert score[0] == scores[i] and state_after[0] == following[i]


def test_few_and_many_words_are_looked_up_alike(arpa: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_arpa(arpa)
    states, words = (
        grid.ravel() for grid in np.meshgrid(range(1 + sum(model.counts[:-1])), range(model.counts[0]))
    )
    few = model.score(states, words)
    monkeypatch.setattr(ngram, "_MANY", 0)
    np.testing.assert_array_equal(model.score(states, words), few)


def test_compressed_and_upper_case_files_read_the_same(arpa: Path, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "lm.arpa.gz", "wt") as file:
        file.write(ARPA.replace("\ta", "\tA").replace(" a", " A").replace("b", "B"))
    assert log10_scores(read_arpa(tmp_path / "lm.arpa.gz"), "a b a") == log10_scores(read_arpa(arpa), "a b a")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "\\dota\\", r"\\dat?a\\|ends too early"),
        ("ngram 2=4", "ngram 3=4", "expected 'ngram 2=COUNT'"),
        ("ngram 2=4", "ngram 2=5", "not an n-gram of order 2"),
        ("ngram 3=2", "ngram 3=1", r"expected \\end\\"),
        ("-0.3\tb a", "-0.3\tb z", "the word 'z' has no unigram"),
        ("-0.35\ta b a", "-0.35\tb b a", "the context of 'b b a' is not in the file"),
        ("-0.5\tb", "x\tb", "not a number"),
        ("-0.5\tb", "-0.5\tA", "there twice"),
        ("\\2-grams:", "\\3-grams:", "expected .2-grams:"),
        ("\\end\\", "", "ends too early"),
    ],
)
def test_a_damaged_arpa_file_is_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(LanguageModelError, match=message) as caught:
        read_arpa(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_or_binary_arpa_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match="No such file"):
        read_arpa(tmp_path / "none.arpa")
    (tmp_path / "x.arpa").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\xff\xfe\x00")
    with pytest.raises(LanguageModelError, match="not a readable ARPA file"):
        read_arpa(tmp_path / "x.arpa")


def normalized_model(seed: int) -> NGramModel:
    """A trigram model over eight words whose probabilities sum to one after every context."""
    from asr.decoding.ngram import Order, sort_orders

    random = np.random.default_rng(seed)
    words = ["<unk>", "<s>", "</s>", *"abcdefgh"]
    n = len(words)
    unigrams = random.dirichlet(np.ones(n))
    unigrams[1] = 1e-9
    log_unigrams = np.log(unigrams / unigrams.sum()).astype(np.float32)
    orders = [Order(np.zeros(n, "i4"), np.arange(n, dtype="i4"), log_unigrams, np.zeros(n, "f4"))]
    for _ in range(2):
        below = orders[-1]
        rows = [(c, w) for c in range(len(below)) for w in range(2, n) if random.random() < 0.3]
        contexts, last = (np.array(column, np.int32) for column in zip(*rows, strict=True))
        log_probs = np.log(random.uniform(0.02, 0.2, len(rows))).astype(np.float32)
        orders.append(Order(contexts, last, log_probs, np.zeros(len(rows), np.float32)))
        orders = sort_orders(orders)
        orders = list(prune(NGramModel(words, orders), 0.0).orders)  # makes the back-off weights
    return NGramModel(words, orders)


def sums(model: NGramModel) -> list[float]:
    """Total probability of all words after each context of the model."""
    n_nodes = 1 + sum(model.counts[:-1])
    words = np.arange(len(model.words))
    return [float(np.exp(model.score(np.full(len(words), node), words)[0]).sum()) for node in range(n_nodes)]


@pytest.mark.parametrize("threshold", [0.0, 1e-4, 1e-3, 1e-2, 1.0])
def test_probabilities_still_sum_to_one_after_pruning(threshold: float) -> None:
    np.testing.assert_allclose(sums(prune(normalized_model(1), threshold)), 1.0, atol=1e-4)


def test_pruning_drops_more_the_higher_the_threshold_and_the_least_telling_first() -> None:
    model = normalized_model(2)
    sizes = [sum(prune(model, threshold).counts) for threshold in (0.0, 1e-4, 1e-3, 1e-2, 1.0)]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == len(model.words) < sizes[0]
    random = np.random.default_rng(1)
    texts = [random.choice(list("abcdefgh"), 12).tolist() for _ in range(200)]
    loss = [
        -sum(sum(prune(model, threshold).score_sentence(text)) for text in texts)
        for threshold in (0.0, 1e-5, 1.0)
    ]
    assert abs(loss[1] - loss[0]) < abs(loss[2] - loss[0])


def test_a_saved_language_scores_as_before(arpa: Path, tmp_path: Path) -> None:
    model = normalized_model(3)
    pronunciations = Pronunciations.of([([1, 2], 3), ([1, 2, 2], 4), ([1, 2], 5)])
    language.save(Language(model, pronunciations, {"sources": ["x"]}), tmp_path / "x.lm")
    loaded = language.load(tmp_path / "x.lm")
    assert loaded.info == {"sources": ["x"]} and loaded.lm.words == model.words
    assert loaded.pronunciations is not None
    np.testing.assert_array_equal(loaded.pronunciations.labels, pronunciations.labels)
    np.testing.assert_array_equal(loaded.pronunciations.words, pronunciations.words)
    for text in ("a b c d", "h h h", "x a", ""):
        before, after = (m.score_sentence(text.split()) for m in (model, loaded.lm))
        np.testing.assert_allclose(before, after, atol=1e-4)


def test_many_n_grams_keep_their_words_and_nearly_their_weights(tmp_path: Path) -> None:
    from asr.decoding.ngram import Order

    n_words, n = 140_000, 300_000  # word ids of more than 16 bits, contexts with more than 255 words
    random = np.random.default_rng(0)
    pairs = np.unique(np.stack([random.zipf(1.3, n) % n_words, random.integers(0, n_words, n)], 1), axis=0)
    log_probs = -abs(random.normal(-5, 2, n_words)).astype(np.float32)
    unigrams = Order(np.zeros(n_words, "i4"), np.arange(n_words, dtype="i4"), log_probs, log_probs / 9)
    some = -abs(random.normal(-3, 1, len(pairs))).astype(np.float32)
    bigrams = Order(pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32), some, np.zeros_like(some))
    words = [*SPECIAL_WORDS, *(f"w{i}" for i in range(n_words - 3))]
    model = NGramModel(words, [unigrams, bigrams])
    language.save(Language(model), tmp_path / "x.lm")
    loaded = language.load(tmp_path / "x.lm").lm
    for before, after in zip(model.orders, loaded.orders, strict=True):
        np.testing.assert_array_equal(before.contexts, after.contexts)
        np.testing.assert_array_equal(before.words, after.words)
        assert np.abs(before.log_probs - after.log_probs).mean() < 0.02
    assert (tmp_path / "x.lm").stat().st_size < 4 * len(pairs) + 16 * n_words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such language model"),
        (b"", "not a language model of asr"),
        (b"mmap lm http://kheafield.com/code format version 5\n", "asr lm build makes one from text or ARPA"),
        ("truncated", "not a language model"),
        ("model", "a safetensors file, but not a language model"),
    ],
)
def test_a_foreign_or_damaged_language_is_one_clear_line(
    tmp_path: Path, tiny_checkpoint: Path, content: bytes | str | None, message: str
) -> None:
    path = tmp_path / "x.lm"
    if content == "truncated":
        language.save(Language(normalized_model(3)), path)
        path.write_bytes(path.read_bytes()[:-500])
    elif content == "model":
        path.write_bytes(tiny_checkpoint.read_bytes())
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(LanguageModelError, match=message) as caught:
        language.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(("step", "message"), [(-1, "make it anew with asr lm build"), (1, "update asr")])
def test_a_language_of_another_format_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, message: str
) -> None:
    language.save(Language(normalized_model(2)), tmp_path / "x.lm")
    monkeypatch.setattr(language, "FORMAT", language.FORMAT - step)
    with pytest.raises(LanguageModelError, match=message):
        language.load(tmp_path / "x.lm")
