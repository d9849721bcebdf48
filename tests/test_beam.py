"""The beam search against brute force, step by step, and as a decoder of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise, product
from pathlib import Path

import jiwer
import numpy as np
import pytest

from asr import align
from asr.decoding import beam, language, lookahead
from asr.decoding.beam import BeamSearch, Found, search_all
from asr.decoding.decoder import BeamDecoder, DecoderFactory, DecoderOptions, find_language
from asr.decoding.graph import BeamConfig, Graph
from asr.decoding.language import Language
from asr.decoding.ngram import NGramModel, Order
from asr.decoding.prefix_tree import PrefixTree, Pronunciations
from asr.errors import LanguageModelError, UsageError
from asr.labels import Labels
from asr.recognizer import Recognizer

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.usefixtures("each_way_of_searching")

EVERYTHING = {"beam_size": 10**6, "label_beam": 99, "threshold": np.inf, "certain_blank": 2.0}


def random_log_probs(n_frames: int, n_labels: int, seed: int) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(n_labels), size=n_frames)).astype(np.float32)


def complete_model(n_words: int, order: int, seed: int) -> NGramModel:
    """Words 3, 4, ... and an n-gram of each order for all of their sequences, so that no state is shared."""
    random = np.random.default_rng(seed)
    n = n_words + 3
    orders = [Order(np.zeros(n, "i4"), np.arange(n, dtype="i4"), *random.normal(-3, 1, (2, n)).astype("f4"))]
    for _ in range(order - 1):
        pairs = np.array([(a, b) for a in range(len(orders[-1])) for b in range(2, n)], np.int32)
        log_probs = random.normal(-2, 1, len(pairs)).astype("f4")
        orders.append(Order(pairs[:, 0], pairs[:, 1], log_probs, np.zeros_like(log_probs)))
    return NGramModel(["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(n_words))], orders)


def acoustic_scores(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Log-probability of every label sequence, by summing over all paths."""
    total: dict[tuple[int, ...], float] = {}
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        labels = tuple(label for label, _ in groupby(path) if label)
        score = float(sum(log_probs[t, label] for t, label in enumerate(path)))
        total[labels] = np.logaddexp(total.get(labels, -np.inf), score)
    return total


def word_scores(
    log_probs: np.ndarray,
    spelled: Sequence[tuple[list[int], int]],
    weigh: Callable[[tuple[int, ...]], float],
) -> dict[tuple[int, ...], float]:
    """Of every sequence of up to four words, by all of its spellings and what it weighs itself."""
    acoustic = acoustic_scores(log_probs)
    scores: dict[tuple[int, ...], float] = {}
    for n in range(5):
        for pronounced in product(spelled, repeat=n):
            words = tuple(word for _, word in pronounced)
            labels = tuple(label for spelling, _ in pronounced for label in spelling)
            if labels in acoustic:
                score = acoustic[labels] + weigh(words)
                scores[words] = np.logaddexp(scores.get(words, -np.inf), score)
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_without_lexicon_it_finds_the_likeliest_label_sequences(seed: int) -> None:
    log_probs = random_log_probs(5, 4, seed)
    tree = PrefixTree(Pronunciations.of(([label], label) for label in (1, 2, 3)), 4)
    search = BeamSearch(Graph(tree, None, BeamConfig(word_score=0.0, **EVERYTHING)))
    search.step(log_probs)
    expected = sorted(acoustic_scores(log_probs).items(), key=lambda item: -item[1])[:10]
    found = search.end(n_best=10).hypotheses
    assert [hypothesis.words for hypothesis in found] == [labels for labels, _ in expected]
    np.testing.assert_allclose([h.score for h in found], [score for _, score in expected], atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_with_lexicon_and_language_model_it_equals_brute_force(seed: int) -> None:
    """Word 3 is spelled in two ways, words 4 and 5 alike, and 6 goes on from 4."""
    spelled = [([1, 2], 3), ([2], 3), ([1], 4), ([1], 5), ([1, 1], 6), ([2, 1], 7)]
    log_probs, lm = random_log_probs(4, 3, seed), complete_model(5, 4, seed)
    config = BeamConfig(lm_weight=0.7, word_score=-0.4, **EVERYTHING)
    search = BeamSearch(Graph(PrefixTree(Pronunciations.of(spelled), 3), lm, config))
    search.step(log_probs)

    def weigh(words: tuple[int, ...]) -> float:
        return 0.7 * sum(lm.score_sentence([lm.words[w] for w in words])) - 0.4 * len(words)

    scores = word_scores(log_probs, spelled, weigh)
    expected = sorted(scores.items(), key=lambda item: -item[1])[:5]
    found = search.end(n_best=5).hypotheses
    assert [hypothesis.words for hypothesis in found] == [words for words, _ in expected]
    np.testing.assert_allclose([h.score for h in found], [score for _, score in expected], atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_step_by_step_it_finds_the_same(seed: int) -> None:
    random = np.random.default_rng(seed)
    log_probs = random_log_probs(60, 5, seed)
    spelled = [(random.integers(1, 5, random.integers(1, 4)).tolist(), word) for word in range(3, 20)]
    tree = PrefixTree(Pronunciations.of(spelled), 5)
    graph = Graph(tree, complete_model(17, 2, seed), BeamConfig(beam_size=20))
    whole, parts = BeamSearch(graph), BeamSearch(graph)
    whole.step(log_probs)
    for start, end in pairwise([0, 0, *sorted(random.choice(60, 9).tolist()), 60]):
        parts.step(log_probs[start:end])
        parts.best()
    same(parts.end(3), whole.end(3))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("certain_blank", [0.5, 0.98])
def test_side_by_side_each_search_finds_what_it_finds_alone(
    seed: int, certain_blank: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beam, "_N_LANES", 3)
    random = np.random.default_rng(seed)
    utterances = [random_log_probs(n, 5, seed + n) for n in (7, 0, 60, 4, 3, 25, 1, 40)]
    for log_probs in utterances:
        log_probs[random.random(len(log_probs)) < 0.3] = np.log([0.99, 0.0025, 0.0025, 0.0025, 0.0025])
    spelled = [(random.integers(1, 5, random.integers(1, 4)).tolist(), word) for word in range(3, 20)]
    config = BeamConfig(beam_size=20, certain_blank=certain_blank)
    graph = Graph(PrefixTree(Pronunciations.of(spelled), 5), complete_model(17, 2, seed), config)
    priors = np.log(random.dirichlet(np.ones(5)))
    found = search_all(graph, utterances, priors, n_best=3)
    for log_probs, together in zip(utterances, found, strict=True):
        alone = BeamSearch(graph, priors)
        alone.step(log_probs)
        same(together, alone.end(3))
    assert len(found[2].hypotheses[0].words) > 5 and found[1].hypotheses[0].words == ()
    assert search_all(graph, []) == []


def same(one: Found, other: Found) -> None:
    """But for the rounding of sums made in another order."""
    assert [(h.words, h.nodes) for h in one.hypotheses] == [(h.words, h.nodes) for h in other.hypotheses]
    scores = [[*(h.score for h in found.hypotheses), found.best_path_score] for found in (one, other)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-9)


def test_the_prior_makes_rare_labels_likelier() -> None:
    log_probs = np.log(np.array([[0.8, 0.05, 0.15]] * 3, np.float32))
    tree = PrefixTree(Pronunciations.of([([1], 1), ([2], 2)]), 3)
    graph = Graph(tree, None, BeamConfig(word_score=0.0, prior_weight=1.0, threshold=99.0))

    def best(priors: list[float] | None) -> tuple[int, ...]:
        search = BeamSearch(graph, None if priors is None else np.log(priors))
        search.step(log_probs)
        return search.end().hypotheses[0].words

    assert best(None) == ()
    assert best([0.9, 0.09, 0.01]) == (2,)
    assert best([0.9, 0.005, 0.095])[:1] == (1,)


def test_agreement_is_the_share_of_the_hypotheses_that_have_the_same_words_so_far() -> None:
    """Words 3 and 4 of one label each; no language model tells them apart."""
    tree = PrefixTree(Pronunciations.of([([1], 3), ([2], 4)]), 3)
    lm = complete_model(2, 1, 0)
    search = BeamSearch(Graph(tree, lm, BeamConfig(lm_weight=0.0, word_score=0.0, **EVERYTHING)))
    assert search.agreement(0) == []
    clear, blank = [0.001, 0.998, 0.001], [0.998, 0.001, 0.001]
    search.step(np.log(np.array([clear, blank], np.float32)))
    # Another hypothesis, as likely, is still inside the word: a longer one could follow.
    assert search.best().words == (3,) and search.agreement(1) == pytest.approx([0.5], abs=0.005)
    search.step(np.log(np.array([[0.001, 0.3, 0.699], blank], np.float32)))
    assert search.best().words == (3, 4)
    first, second = search.agreement(2)
    assert search.agreement(1) == [second]
    assert first > 0.99 and second == pytest.approx(0.7 / 2, abs=0.01)
    for _ in range(6):
        search.step(np.log(np.array([clear, blank], np.float32)))
    assert len(search.best().words) == 8
    agreement = search.agreement(8)
    assert agreement[:2] == [1.0, 1.0]  # too long ago to doubt
    assert agreement == sorted(agreement, reverse=True)


@pytest.mark.parametrize("prior", [0.3, 0.001])
def test_scores_stay_in_range_over_thousands_of_blank_frames(prior: float) -> None:
    """However little a blank weighs against a label that is rare."""
    tree = PrefixTree(Pronunciations.of([([1], 3), ([2], 4)]), 3)
    graph = Graph(tree, complete_model(2, 2, 0), BeamConfig(certain_blank=0.9, prior_weight=1.0))
    search = BeamSearch(graph, np.log(np.array([0.5, prior, 0.5])))
    search.step(np.log(np.array([[0.1, 0.8, 0.1], [0.95, 0.04, 0.01], [0.2, 0.1, 0.7]], np.float32)))
    first = search.best().score
    search.step(np.log(np.array([[0.95, 0.04, 0.01]] * 3000, np.float32)))
    # Each frame weighs by its likeliest label, divided by its prior.
    expected = first + 3000 * np.log(max(0.95 / 0.5, 0.04 / prior))
    assert search.best().score == pytest.approx(expected, abs=20)


def test_a_rare_word_is_found_where_its_context_makes_it_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "_FEWEST_BIGRAMS", 1)
    words = ["<unk>", "<s>", "</s>", "hong", "kong", "on"]
    rare, common = -14.0, -2.0
    log_probs = np.array([common, common, common, common, rare, common], np.float32)
    unigrams = Order(np.zeros(6, "i4"), np.arange(6, dtype="i4"), log_probs, np.zeros(6, "f4"))
    bigrams = Order(*(np.array(x, np.int32) for x in ([3], [4])), np.float32([-1.0]), np.zeros(1, "f4"))
    lm = NGramModel(words, [unigrams, bigrams])
    tree = PrefixTree(Pronunciations.of([([1, 2], 3), ([3, 2], 4), ([2], 5)]), 4)
    heard = np.log(np.full((6, 4), 1e-3, np.float32))
    heard[range(6), [1, 2, 0, 3, 2, 0]] = 0
    search = BeamSearch(Graph(tree, lm, BeamConfig()))
    search.step(heard)
    assert [words[i] for i in search.end().hypotheses[0].words] == ["hong", "kong"]


def test_a_word_that_has_only_begun_is_left_out_at_the_end() -> None:
    tree = PrefixTree(Pronunciations.of([([1], 3), ([2, 2, 1], 4)]), 3)
    search = BeamSearch(Graph(tree, complete_model(2, 2, 0), BeamConfig(word_score=0.0)))
    search.step(np.log(np.array([[0.01, 0.98, 0.01], [0.98, 0.01, 0.01], [0.01, 0.01, 0.98]], np.float32)))
    assert search.end().hypotheses[0].words == (3,)
    assert BeamSearch(Graph(tree, None, BeamConfig())).end().hypotheses[0].words == ()


def test_the_tree_knows_its_words_and_the_best_below_each_node() -> None:
    spelled = [([1, 2], 0), ([1, 2], 1), ([1, 2, 3], 2), ([3], 3), ([1], 4)]
    tree = PrefixTree(Pronunciations.of(spelled), 4)
    assert len(tree) == 4 + 4
    found = {
        (tuple(tree.pronunciation(node)), word)
        for node in range(len(tree))
        for word in tree.words[tree.first_word[node] : tree.first_word[node + 1]].tolist()
    }
    assert found == {(tuple(labels), word) for labels, word in spelled}
    best = tree.best_below(np.array([-5.0, -4.0, -1.0, -2.0, -9.0]))
    below = {tuple(tree.pronunciation(node)): best[node] for node in range(4, len(tree))}
    assert below == {(1,): -1, (1, 2): -1, (1, 2, 3): -1, (3,): -2}
    assert set(best[:4]) == {-1}


# --- as a decoder ---------------------------------------------------------------------------------

LABELS = {kind: Labels.of_kind(kind) for kind in ("characters", "phones")}


def spoken(labels: Labels, units: list[str], probability: float = 0.9) -> np.ndarray:
    """Log-probabilities of one unit after another, with a blank frame after each."""
    path = [index for unit in units for index in (labels.symbols.index(unit), 0)]
    matrix = np.full((len(path), len(labels)), (1 - probability) / (len(labels) - 1))
    matrix[np.arange(len(path)), path] = probability
    return np.log(matrix).astype(np.float32)


def little_language(pronounced: bool) -> Language:
    words = ["<unk>", "<s>", "</s>", "two", "to", "cats", "cat"]
    log_probs = np.log(np.array([0.01, 1e-9, 0.19, 0.1, 0.4, 0.15, 0.15], np.float32))
    zeros = np.zeros(7, np.int32)
    unigrams = Order(zeros, np.arange(7, dtype=np.int32), log_probs, np.zeros(7, np.float32))
    # "two cats" is likelier than "to cats".
    pair = Order(np.array([3], "i4"), np.array([5], "i4"), np.log([0.9]).astype("f4"), np.zeros(1, "f4"))
    phones = {"two": "T UW", "to": "T UW", "cats": "K AE T S", "cat": "K AE T"}
    lm = NGramModel(words, [unigrams, pair])
    if not pronounced:
        return Language(lm)
    entries = ((LABELS["phones"].encode(phones[w].split()), i) for i, w in enumerate(words) if w in phones)
    return Language(lm, Pronunciations.of(entries))


def decode(language: Language | None, log_probs: np.ndarray, **options: float) -> list[str]:
    decoder = DecoderFactory(LABELS, {}, DecoderOptions(**options), language)()  # type: ignore[arg-type]
    decoder.begin(10.0)
    decoder.step(log_probs)
    words = decoder.end()
    for word in words:
        assert 9.9 < word.start < word.end < 10.2 + 0.04 * len(log_probs) and 0.5 < word.probability <= 1
    return [word.text for word in words]


def test_phones_become_the_words_that_belong_together() -> None:
    sound = spoken(LABELS["phones"], "T UW K AE T S".split())
    assert decode(little_language(True), sound, lm_weight=1.0, word_score=0.0) == ["two", "cats"]
    sound = spoken(LABELS["phones"], "T UW K AE T".split())
    assert decode(little_language(True), sound, lm_weight=1.0, word_score=0.0) == ["to", "cat"]


def test_a_language_without_pronunciations_is_spelled() -> None:
    sound = spoken(LABELS["characters"], [*"two", "|", *"cats"])
    assert decode(little_language(False), sound, lm_weight=1.0, word_score=0.0) == ["two", "cats"]


def test_without_a_language_any_letters_may_come() -> None:
    sound = spoken(LABELS["characters"], [*"zyx", "|", *"cats"])
    assert decode(None, sound, beam_size=10) == decode(None, sound, beam_size=1) == ["zyx", "cats"]


def test_the_likeliest_texts_are_told_when_asked_for() -> None:
    sound = spoken(LABELS["phones"], "T UW K AE T S".split(), probability=0.3)
    options = DecoderOptions(lm_weight=1.0, word_score=0.0, n_best=3)
    decoder = DecoderFactory(LABELS, {}, options, little_language(True))()
    decoder.step(sound)
    words = decoder.end()
    texts = [alternative.text for alternative in decoder.alternatives]
    assert texts[0] == " ".join(word.text for word in words) == "two cats"
    assert len(set(texts)) == 3 and "to cat" in texts
    scores = [alternative.score for alternative in decoder.alternatives]
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(UsageError, match="need a beam search"):
        DecoderFactory(LABELS, {}, DecoderOptions(beam_size=1, n_best=2), None)


def test_partial_results_grow_into_the_final_one() -> None:
    options = DecoderOptions(lm_weight=1.0, word_score=0.0)
    decoder = DecoderFactory(LABELS, {}, options, little_language(True))()
    assert isinstance(decoder, BeamDecoder) and decoder.partial() == ()
    seen = []
    for frame in spoken(LABELS["phones"], "T UW K AE T S".split()):
        decoder.step(frame[None])
        seen.append(" ".join(word.text for word in decoder.partial()))
    assert seen[0] == "" and "to" in seen and seen[-1] == "two cats"
    assert [word.text for word in decoder.end()] == ["two", "cats"]
    decoder.begin()
    assert decoder.partial() == () == decoder.end()


def test_a_narrower_search_leaves_the_others_and_what_was_asked_for_as_they_are() -> None:
    factory = DecoderFactory(LABELS, {}, DecoderOptions(), little_language(True))
    chosen = DecoderFactory(LABELS, {}, DecoderOptions(beam_size=50), little_language(True))
    sound = spoken(LABELS["phones"], "T UW K AE T S".split(), probability=0.3)
    kept = []
    for decoder in (factory.narrowed(3, 9.0)(), factory(), chosen.narrowed(3, 1.0)()):
        assert isinstance(decoder, BeamDecoder)
        decoder.step(sound)
        kept.append(len(decoder._search._lanes._beam))
    assert kept[0] <= 3 < kept[1] == kept[2]
    narrow = factory.narrowed(1000, 9.0).config
    assert narrow is not None and narrow.threshold == 9.0 and narrow.beam_size == BeamConfig.beam_size
    closed = DecoderFactory(LABELS, {}, DecoderOptions(grammar=(("two", "cats"),)), little_language(True))
    assert closed.narrowed(3, 9.0).config == closed.config
    greedy = DecoderFactory(LABELS, {}, DecoderOptions(), None)
    assert greedy.narrowed(3, 9.0).config is None


def test_a_model_has_an_acoustic_scale_of_its_own_beside_others_with_the_same_graph() -> None:
    language, info = little_language(True), {"acoustic_scale": 0.7}
    first = DecoderFactory(LABELS, {}, DecoderOptions(), language)
    second = DecoderFactory(LABELS, {}, DecoderOptions(), language, None, info, first)
    chosen = DecoderFactory(LABELS, {}, DecoderOptions(acoustic_scale=0.9), language, None, info)
    closed = DecoderFactory(LABELS, {}, DecoderOptions(grammar=(("two", "cats"),)), language, None, info)
    scales = [factory.config.acoustic_scale for factory in (first, second, chosen, closed) if factory.config]
    assert scales == [1.0, 0.7, 0.9, 1.0]
    assert first._graph is not None and second._graph is not None
    assert second._graph.tree is first._graph.tree


@pytest.mark.parametrize(
    ("spelled", "kind", "word"),
    [
        (little_language(True), "phones", "K AE T S".split()),
        (little_language(False), "characters", [*"cats", "|"]),
        (None, "characters", [*"cats", "|"]),
    ],
)
def test_partial_results_are_aligned_where_they_are_new_and_sit_where_the_final_ones_do(
    spelled: Language | None, kind: str, word: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_aligned: list[int] = []
    forced_spans = align.forced_spans

    def counted(log_probs: np.ndarray, labels: list[int], first: int) -> list[align.Span]:
        n_aligned.append(len(log_probs))
        return forced_spans(log_probs, labels, first)

    monkeypatch.setattr(align, "forced_spans", counted)
    options = DecoderOptions(lm_weight=1.0, word_score=0.0, beam_size=20)
    decoder = DecoderFactory(LABELS, {}, options, spelled)()
    for frame in spoken(LABELS[kind], 20 * word):
        decoder.step(frame[None])
        partial = decoder.partial()
    assert max(n_aligned) <= 3 * 2 * len(word)  # frames: those of two words, and of what follows them
    final = decoder.end()
    assert n_aligned[-1] >= 20 * 2 * len(word)  # in the end, all
    assert [word.text for word in final] == 20 * ["cats"]
    assert len(partial) >= 19  # of spelled words, the last may not have ended
    for ours, theirs in zip(partial, final, strict=False):
        assert ours.text == theirs.text
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end), abs=0.081)


def test_a_language_of_other_words_is_refused() -> None:
    lm = little_language(False).lm
    upper = NGramModel([word.upper() for word in lm.words], lm.orders)
    with pytest.raises(LanguageModelError, match="no word of the language model is made of the model's"):
        DecoderFactory({"characters": LABELS["characters"]}, {}, DecoderOptions(), Language(upper))
    unknown = Language(lm, None, {"decoding": {"magic": 1.0}})
    with pytest.raises(LanguageModelError, match="unknown settings: magic"):
        DecoderFactory(LABELS, {}, DecoderOptions(), unknown)


def test_the_options_choose_the_language(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped.lm"
    language.save(little_language(True), shipped)
    characters = {"characters": LABELS["characters"]}
    assert find_language(DecoderOptions(), LABELS, shipped) is not None
    assert find_language(DecoderOptions(), characters, shipped) is None
    assert find_language(DecoderOptions(lm="none"), LABELS, shipped) is None
    assert find_language(DecoderOptions(beam_size=1), LABELS, shipped) is None
    assert find_language(DecoderOptions(lm=str(shipped)), characters, None) is not None
    with pytest.raises(LanguageModelError, match="no such language model"):
        find_language(DecoderOptions(lm=str(tmp_path / "none.lm")), LABELS, shipped)


def test_a_model_of_phones_alone_needs_a_language() -> None:
    phones = {"phones": LABELS["phones"]}
    with pytest.raises(UsageError, match="no characters"):
        DecoderFactory(phones, {}, DecoderOptions(), None)
    assert DecoderFactory(phones, {}, DecoderOptions(), little_language(True)).output == "phones"


def test_the_shipped_language_makes_words_of_real_speech() -> None:
    references = {
        "2803-161169-0006.flac": "look a little closer while our guide lets the light of his lamp fall upon "
        "the black wall at your side",
        "1462-170142-0003.flac": "the room was empty when he entered",
    }
    beam = Recognizer.load("english")
    greedy = beam.with_decoding(DecoderOptions(beam_size=1))
    heard, spelled = (
        [recognizer.transcribe(DATA / name).text for name in references] for recognizer in (beam, greedy)
    )
    truth = list(references.values())
    assert jiwer.wer(truth, heard) <= 0.5
    assert jiwer.wer(truth, heard) < jiwer.wer(truth, spelled)
