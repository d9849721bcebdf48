"""The recurrent language model: its training, its file, and what it does in a search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from test_beam import EVERYTHING, complete_model, random_log_probs, same, word_scores

from asr import cli, pretrained
from asr.decoding import language, recurrent
from asr.decoding.beam import BeamSearch, search_all
from asr.decoding.decoder import DecoderOptions, find_language
from asr.decoding.graph import BeamConfig, Graph, Phrase
from asr.decoding.lanes import Lanes
from asr.decoding.ngram import UNKNOWN, NGramModel, Order
from asr.decoding.prefix_tree import PrefixTree, Pronunciations
from asr.decoding.recurrent import (
    CELLS,
    CONTEXT,
    EMBEDDED,
    HIDDEN,
    NEXT_CELLS,
    NEXT_HIDDEN,
    Mixture,
    RecurrentModel,
    Rescoring,
)
from asr.errors import LanguageModelError, TrainingError, UsageError
from asr.labels import Labels
from asr.lm import perplexity
from asr.training import recurrent_lm
from asr.training.recurrent_lm import RecurrentOptions, train

pytestmark = pytest.mark.usefixtures("each_way_of_searching")

TINY = RecurrentOptions(
    vocabulary=8,
    width=8,
    n_cells=16,
    dropout=0.0,
    epochs=30,
    learning_rate=0.01,
    n_rows=4,
    n_words=10,
    n_sampled=64,
)
# What follows "w2" and "w3" is decided by the word before them: no bigram tells.
SENTENCES = ["w0 w2 w0 w3", "w1 w2 w1 w3"] * 100


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> RecurrentModel:
    return train(SENTENCES, TINY, tmp_path_factory.mktemp("rnn") / "unfinished")


def unigrams(*words: str) -> NGramModel:
    """All as likely as each other, after "<unk>", "<s>" and "</s>"."""
    n = len(words) + 3
    log_probs = np.full(n, -np.log(n - 2), np.float32)
    log_probs[:2] = -2, -99
    zeros = np.zeros(n, np.int32)
    order = Order(zeros, np.arange(n, dtype=np.int32), log_probs, np.zeros(n, np.float32))
    return NGramModel(["<unk>", "<s>", "</s>", *words], [order])


def states_of(model: RecurrentModel, text: str) -> np.ndarray:
    states = model.start
    for word in text.split():
        states = model.step(states, np.array([model.words.index(word)]))
    return states


def test_it_remembers_what_came_before_and_its_probabilities_sum_to_one(learned: RecurrentModel) -> None:
    for text, expected in {"": "w0 w1", "w0 w2": "w0", "w1 w2": "w1", "w1 w2 w1 w3": "</s>"}.items():
        rows = np.arange(len(learned.words))
        states = np.repeat(states_of(learned, text), len(rows), axis=0)
        probabilities = np.exp(learned.score(states, rows))
        assert probabilities.sum() == pytest.approx(1, abs=0.3)  # held near one, not at it
        likely = {learned.words[i] for i in np.flatnonzero(probabilities > 0.3)}
        assert likely == set(expected.split())


def test_a_text_has_the_same_state_in_whatever_company(learned: RecurrentModel) -> None:
    texts = ["w0 w2", "w1 w2 w1", "w3 w0 w0 w1", "w2"]
    states = np.concatenate([states_of(learned, text) for text in texts])
    words = np.array([2, 3, 4, 5])
    together = learned.step(states, words)
    alone = [learned.step(states[i : i + 1], words[i : i + 1]) for i in range(len(texts))]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_its_graph_computes_what_was_learned() -> None:
    torch.manual_seed(0)
    network = recurrent_lm.RecurrentNetwork(TINY, torch.zeros(8))
    with torch.no_grad():
        for weight in network.parameters():
            weight.uniform_(-1, 1)
    state = (torch.rand(1, 5, 16) - 0.5, torch.randn(1, 5, 16))
    words = torch.tensor([[2], [7], [0], [1], [3]])
    with torch.no_grad():
        network.eval()
        expected, (hidden, cells) = network(words, state)
        embedded = network.embedding(words).transpose(0, 1).numpy()
    session = onnxruntime.InferenceSession(recurrent_lm._graph(network))
    inputs = dict(zip((EMBEDDED, HIDDEN, CELLS), (embedded, *(part.numpy() for part in state)), strict=True))
    found = session.run([CONTEXT, NEXT_HIDDEN, NEXT_CELLS], inputs)
    for ours, theirs in zip(found, (expected.transpose(0, 1), hidden, cells), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=0.02)
        assert np.abs(ours).max() > 0.5


def test_a_mixture_expects_what_both_expect_and_shares_out_the_unknown(learned: RecurrentModel) -> None:
    lm = unigrams("w0", "w1", "w2", "w3", "never", "heard")
    alone, _ = perplexity(lm, SENTENCES[:2])
    mixture = Mixture(learned, 0.5, lm.words, lm.unigrams)
    mixed, _ = perplexity(lm, SENTENCES[:2], mixture)
    assert alone == pytest.approx(7) and mixed < 3
    words = np.array([*range(2, 9)])
    states = np.repeat(states_of(learned, "w0 w2"), len(words), axis=0)
    log_probs = lm.unigrams[words]
    total = np.exp(log_probs + mixture.gain(states, words, log_probs)).sum()
    assert total == pytest.approx(1, abs=0.1)
    nothing = Mixture(learned, 0.0, lm.words, lm.unigrams).gain(states, words, log_probs)
    np.testing.assert_allclose(nothing, 0, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 8])
@pytest.mark.parametrize("seed", range(3))
def test_a_search_with_it_equals_brute_force(
    learned: RecurrentModel, monkeypatch: pytest.MonkeyPatch, seed: int, frames: int
) -> None:
    """Whenever it looks at the words: no hypothesis is pruned, and none of other words is in its place."""
    monkeypatch.setattr(Lanes, "period", frames)
    spelled = [([1, 2], 3), ([2], 3), ([1], 4), ([1], 5), ([1, 1], 6), ([2, 1], 7)]
    log_probs, lm = random_log_probs(4, 3, seed), complete_model(5, 4, seed)
    config = BeamConfig(lm_weight=0.7, word_score=-0.4, recurrent_share=0.4, **EVERYTHING)
    search = BeamSearch(Graph(PrefixTree(Pronunciations.of(spelled), 3), lm, config, recurrent=learned))
    search.step(log_probs[:1])
    search.step(log_probs[1:])
    mixture = Mixture(learned, 0.4, lm.words, lm.unigrams)

    def weigh(words: tuple[int, ...]) -> float:
        by_ngrams = lm.score_sentence([lm.words[w] for w in words])
        return 0.7 * (sum(by_ngrams) + mixture.sentence_gain(words, by_ngrams)) - 0.4 * len(words)

    scores = word_scores(log_probs, spelled, weigh)
    found = search.end(n_best=3).hypotheses
    assert found[0].words == max(scores, key=lambda words: scores[words])
    # The graph rounds to 8 bits.
    np.testing.assert_allclose([h.score for h in found], [scores[h.words] for h in found], atol=0.02)


def test_side_by_side_searches_find_what_each_finds_alone(
    learned: RecurrentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although texts that no hypothesis needs are forgotten again and again."""
    monkeypatch.setattr(recurrent, "_FEWEST_STATES", 8)
    kept: list[int] = []
    keep = Rescoring.keep
    monkeypatch.setattr(Rescoring, "keep", lambda self, texts: (kept.append(len(texts)), keep(self, texts)))
    spelled = [([1, 2], 3), ([2], 3), ([1], 4), ([1], 5), ([1, 1], 6), ([2, 1], 7)]
    tree, config = PrefixTree(Pronunciations.of(spelled), 3), BeamConfig(beam_size=30)
    graph = Graph(tree, complete_model(5, 4, 0), config, recurrent=learned)
    utterances = [random_log_probs(n, 3, n) for n in (30, 3, 50, 9, 21)]
    for log_probs, together in zip(utterances, search_all(graph, utterances, n_best=3), strict=True):
        alone = BeamSearch(graph)
        alone.step(log_probs)
        same(together, alone.end(3))
    assert kept
    without = search_all(Graph(tree, complete_model(5, 4, 0), config), utterances)
    assert search_all(graph, utterances) != without


def test_it_leaves_phrases_their_bonus(learned: RecurrentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lanes, "period", 1)
    lm = unigrams("w0", "w1")
    phrases = [Phrase("w0 w1", (3, 4), 2.0), Phrase("nobody", (UNKNOWN,), 3.0)]
    spelled = [([1], 3), ([2], 4), ([1, 2], 5), ([3], 6)]
    log_probs = np.log(np.full((3, 4), 0.05) + 0.8 * np.eye(4)[1:])
    found = []
    for model in (None, learned):
        graph = Graph(
            PrefixTree(Pronunciations.of(spelled), 4), lm, BeamConfig(**EVERYTHING), phrases, recurrent=model
        )
        search = BeamSearch(graph)
        search.step(log_probs.astype(np.float32))
        found.append(search.best())
    assert found[0].words == found[1].words == (5, 6)
    assert found[0].score == pytest.approx(found[1].score)


def test_a_training_that_is_interrupted_goes_on_to_the_same_model(
    learned: RecurrentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurrent_lm, "_REPORT_UPDATES", 10)
    monkeypatch.setattr(recurrent_lm, "_CHECKPOINT_SECONDS", 0)
    unfinished = tmp_path / "unfinished"

    def stop(progress: recurrent_lm.Progress) -> None:
        assert 0 < progress.done < 1 and progress.perplexity > 1
        if progress.done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SENTENCES, TINY, unfinished, stop)
    done: list[float] = []
    resumed = train(SENTENCES, TINY, unfinished, lambda progress: done.append(progress.done))
    assert done[0] > 0.5 and not unfinished.exists()
    np.testing.assert_array_equal(resumed.weights["embedding"], learned.weights["embedding"])
    np.testing.assert_allclose(resumed.start, learned.start, atol=1e-6)
    unfinished.write_bytes(b"torn")
    with pytest.raises(TrainingError, match="unfinished: cannot be gone on from; delete it"):
        train(SENTENCES, TINY, unfinished)


def test_another_text_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_lm, "_CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(recurrent_lm, "_REPORT_UPDATES", 1)
    done: list[float] = []

    def stop(progress: recurrent_lm.Progress) -> None:
        done.append(progress.done)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SENTENCES, TINY, tmp_path / "unfinished", stop)
    train(SENTENCES[:-1], TINY, tmp_path / "unfinished", lambda progress: done.append(progress.done))
    assert done[3] < done[2]


def test_its_file_gives_it_back(learned: RecurrentModel, tmp_path: Path) -> None:
    learned.info["sources"] = ["x"]
    recurrent.save(learned, tmp_path / "x.rnn")
    again = recurrent.load(tmp_path / "x.rnn")
    assert again.words == learned.words and again.info == {"sources": ["x"]}
    np.testing.assert_array_equal(again.start, learned.start)


def test_what_is_no_such_file_is_said_in_one_line(learned: RecurrentModel, tmp_path: Path) -> None:
    whole, other = tmp_path / "whole.rnn", tmp_path / "other.rnn"
    recurrent.save(learned, whole)
    with pytest.raises(LanguageModelError, match="none.rnn: no such recurrent language model"):
        recurrent.load(tmp_path / "none.rnn")
    torn = {**learned.weights, "graph": learned.weights["graph"][:100]}
    damages = {
        "text": lambda: other.write_bytes(b"text"),
        "half": lambda: other.write_bytes(whole.read_bytes()[:1000]),
        "language": lambda: other.write_bytes(pretrained.PRONOUNCER_FILE.read_bytes()),
        "graph": lambda: recurrent.save(_With(learned, torn), other),
        "words": lambda: recurrent.save(_With(learned, learned.weights, learned.words[:-1]), other),
    }
    for damage in damages.values():
        damage()
        with pytest.raises(LanguageModelError, match="not a recurrent language model .*lm train") as error:
            recurrent.load(other)
        assert "\n" not in str(error.value)


class _With(RecurrentModel):
    """A model to be saved, with other contents."""

    def __init__(
        self, model: RecurrentModel, weights: dict[str, np.ndarray], words: tuple[str, ...] | None = None
    ) -> None:
        self.words, self.weights, self.info = words or model.words, weights, model.info


def test_it_goes_with_the_shipped_language_or_with_the_one_it_is_asked_for(
    learned: RecurrentModel, tmp_path: Path
) -> None:
    ours, lm = tmp_path / "x.rnn", tmp_path / "x.lm"
    recurrent.save(learned, ours)
    language.save(language.Language(unigrams("w0"), Pronunciations.of([([1], 3)])), lm)
    labels = {kind: Labels.of_kind(kind) for kind in ("characters", "phones")}

    def found(**options: str | int) -> bool:
        choice = find_language(DecoderOptions(**options), labels, lm, ours)  # type: ignore[arg-type]
        assert choice is not None
        return choice.recurrent is not None

    assert found() and not found(recurrent="none")
    assert not found(lm=str(lm)) and found(lm=str(lm), recurrent=str(ours))
    assert find_language(DecoderOptions(), labels, lm) is not None
    for options in (DecoderOptions(lm="none", recurrent="x"), DecoderOptions(beam_size=1, recurrent="x")):
        with pytest.raises(UsageError, match="goes with one of n-grams"):
            find_language(options, labels, lm, ours)


def test_the_command_trains_and_describes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("He was a man of the world!\n" * 400)
    row = {"audio": "none.wav", "text": "She was not.", "duration": 1}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    options = ["--words", "20", "--cells", "16", "--epochs", "1.5", "-t", "1"]
    assert cli.main(["lm", "train", "text", "rows.jsonl", "-o", "x.rnn", *options]) == 0
    assert capsys.readouterr().out == "x.rnn\n" and not Path("x.rnn.unfinished").exists()
    words = "</s> <unk> he was a man of the world she not".split()
    assert set(recurrent.load("x.rnn").words) == set(words)
    assert cli.main(["lm", "info", "--rnn-lm", "x.rnn", "--rnn-share", "0.25", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["recurrent"]
    assert facts["words"] == 11 and facts["share"] == 0.25 and facts["sources"] == ["text", "rows.jsonl"]
    Path("text").write_text("Too short.\n")
    for arguments, message in {
        ("text", "-o", "y.rnn"): "3 words are too few for a recurrent model",
        ("none", "-o", "y.rnn"): "none: not a readable text",
        ("text",): "asr lm train: needs texts, and -o FILE",
    }.items():
        assert cli.main(["lm", "train", *arguments]) != 0
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not Path("y.rnn").exists()


def test_the_shipped_one_is_small_and_expects_english() -> None:
    path, path_of_language = pretrained.shipped_recurrent(), pretrained.shipped_language()
    assert path is not None and path.stat().st_size <= 11e6 and path_of_language is not None
    lm = language.load(path_of_language).lm
    mixture = Mixture(recurrent.load(path), BeamConfig.recurrent_share, lm.words, lm.unigrams)
    text = [
        "the old man who had lived there for so many years was no longer to be seen",
        "she asked him whether he had ever been to the sea but he did not answer her",
    ]
    assert perplexity(lm, text, mixture)[0] < 0.95 * perplexity(lm, text)[0]
