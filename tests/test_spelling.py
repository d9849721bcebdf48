"""Spelled letters in a language model: likelier after a letter, and everything still sums to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr import cli
from asr.decoding import language
from asr.decoding.ngram import NGramModel, Order
from asr.decoding.prune import renormalize
from asr.decoding.spelling import with_spelling

WORDS = ("<unk>", "<s>", "</s>", "the", "a", "i", "b", "c", "one", "see")
A, B, C, ONE, SEE = (WORDS.index(word) for word in ("a", "b", "c", "one", "see"))


def model(order: int = 3) -> NGramModel:
    """Some n-grams of each order, with probabilities that sum to one after every context."""
    random = np.random.default_rng(0)
    n = len(WORDS)
    unigrams = np.log(random.dirichlet(np.ones(n))).astype("f4")
    orders = [Order(np.zeros(n, "i4"), np.arange(n, dtype="i4"), unigrams, np.zeros(n, "f4"))]
    for _ in range(order - 1):
        pairs = np.argwhere(random.random((len(orders[-1]), n)) < 0.2).astype("i4")
        log_probs = np.log(random.uniform(0.001, 0.1, len(pairs))).astype("f4")
        orders.append(Order(pairs[:, 0], pairs[:, 1], log_probs, np.zeros(len(pairs), "f4")))
    made = NGramModel(WORDS, orders)
    for n in range(2, order + 1):
        made = renormalize(made, n)
    return made


def after(lm: NGramModel, *history: int) -> np.ndarray:
    """(words,) probabilities after some words."""
    state = np.array([0])
    for word in history:
        _, state = lm.score(state, np.array([word]))
    words = np.arange(len(lm.words))
    return np.exp(lm.score(np.repeat(state, len(words)), words)[0].astype(np.float64))


HISTORIES = [(), (B,), (SEE,), (A,), (B, A), (SEE, A), (B, C), (C, A, B), (ONE, B)]


@pytest.mark.parametrize("order", [2, 3, 4])
def test_probabilities_after_every_history_still_sum_to_one_but_for_the_share_of_first_letters(
    order: int,
) -> None:
    before, spelled = model(order), with_spelling(model(order), 0.6)
    for history in HISTORIES:
        assert after(before, *history).sum() == pytest.approx(1, abs=1e-4)
        assert after(spelled, *history).sum() == pytest.approx(1, abs=0.005)


def test_after_a_letter_letters_and_numbers_take_the_given_share() -> None:
    before, spelled = model(), with_spelling(model(), 0.6)
    for history in [(B,), (C,), (B, A)]:
        # First letters have become a little likelier, too, which back-off carries on.
        expected = 0.4 * after(before, *history)
        expected[[A, WORDS.index("i"), B, C]] += 0.6 * 0.8 / 4
        expected[ONE] += 0.6 * 0.2
        np.testing.assert_allclose(after(spelled, *history), expected, atol=0.005)


def test_after_other_words_hardly_anything_changes() -> None:
    before, spelled = model(), with_spelling(model(), 0.6)
    for history in [(SEE,), (A,), (SEE, A)]:
        np.testing.assert_allclose(after(spelled, *history), after(before, *history), atol=0.005)


def test_no_weight_or_no_letters_leave_the_model_alone() -> None:
    plain = model()
    assert with_spelling(plain, 0.0) is plain
    renamed = NGramModel([f"w{word}" for word in WORDS], plain.orders)
    assert with_spelling(renamed, 0.6) is renamed


def test_lm_build_makes_spelled_letters_likelier(tmp_path: Path) -> None:
    words = "\n".join(f"-1.0\t{word}\t-0.1" for word in ["<unk>", "<s>", "</s>", "b", "c", "see"])
    bigrams = "-0.1\tb see\n-0.5\tsee c"
    text = f"\\data\\\nngram 1=6\nngram 2=2\n\n\\1-grams:\n{words}\n\n\\2-grams:\n{bigrams}\n\n\\end\\\n"
    (tmp_path / "lm.arpa").write_text(text)
    found = {}
    for share in ("0", "0.7"):
        source, target = (str(tmp_path / name) for name in ("lm.arpa", f"{share}.lm"))
        assert cli.main(["lm", "build", source, "-o", target, "-q", "--spelling", share]) == 0
        lm = language.load(target).lm
        found[share] = after(lm, lm.ids["b"])[lm.ids["c"]]
    assert found["0"] < 0.1 and found["0.7"] > 0.3


@pytest.mark.parametrize("value", ["1", "-0.1", "much"])
def test_what_is_no_probability_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lm", "build", "x.arpa", "-o", "x.lm", "--spelling", value]) == 2
    assert "not a probability" in capsys.readouterr().err
