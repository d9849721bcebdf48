"""The compiled frames of a search find what those by NumPy find, and nobody needs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_beam import random_log_probs
from test_lookahead import N_LABELS, N_WORDS, random_tree, sparse_trigrams

from asr import align
from asr.audio import read_audio
from asr.decoding import beam, compiled
from asr.decoding import kernel as kernels
from asr.decoding.beam import BeamSearch, Found, search_all
from asr.decoding.compiled import CompiledLanes, kernel, new_lanes
from asr.decoding.frames import Block, Frames
from asr.decoding.grammar import Grammar, GrammarModel
from asr.decoding.graph import BeamConfig, Graph, Phrase
from asr.decoding.lanes import Lanes
from asr.decoding.ngram import NGramModel
from asr.decoding.prefix_tree import PrefixTree, Pronunciations
from asr.recognizer import Recognizer

ROOT = Path(__file__).parent.parent
needs_kernel = pytest.mark.skipif(kernel() is None, reason="nothing is compiled here")


def test_it_is_compiled_where_there_is_a_compiler() -> None:
    assert (kernel() is not None) == (shutil.which("cc") is not None)


def same(one: Found, other: Found) -> None:
    """But for rounding; of several pronunciations of a word both take the likeliest."""
    assert [h.words for h in one.hypotheses] == [h.words for h in other.hypotheses]
    assert [h.nodes for h in one.hypotheses] == [h.nodes for h in other.hypotheses]
    for ours, theirs in zip(one.hypotheses, other.hypotheses, strict=True):
        assert ours.score == pytest.approx(theirs.score, rel=1e-9)


def graph_of(kind: str, seed: int) -> Graph:
    lm, tree = sparse_trigrams(seed), random_tree(seed)
    # No limit to their number: of equally likely ones any could be kept.
    config = BeamConfig(beam_size=10**6, threshold=5.0, lm_weight=0.8, word_score=-0.3)
    if kind == "unigrams":
        return Graph(tree, NGramModel(lm.words, lm.orders[:1]), config)
    if kind == "phrases":
        phrases = [Phrase("w3 w4", (6, 7), 1.0), Phrase("w5", (8,), 2.0)]
        spelled = [([1, 2, 3], 3 + N_WORDS), ([4, 4], 4 + N_WORDS), ([1], 3), ([2, 1], 4), ([3], 5)]
        return Graph(PrefixTree(Pronunciations.of(spelled), N_LABELS), lm, config, phrases)
    if kind == "grammar":
        grammar = GrammarModel(Grammar.of([("a", "b"), ("b", "b", "a")]))
        spelled = [([1, 2], grammar.ids["a"]), ([3], grammar.ids["b"])]
        return Graph(PrefixTree(Pronunciations.of(spelled), N_LABELS), grammar, config)
    if kind == "no language":
        singles = Pronunciations.of(([label], label) for label in range(1, N_LABELS))
        return Graph(PrefixTree(singles, N_LABELS), None, config)
    return Graph(tree, lm, config)


@needs_kernel
@pytest.mark.parametrize("kind", ["trigrams", "unigrams", "phrases", "grammar", "no language"])
@pytest.mark.parametrize("seed", range(4))
def test_frame_by_frame_it_keeps_the_same_hypotheses(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_LEAST_ROOM", 2)  # it grows on the way
    graph = graph_of(kind, seed)
    # Without a language nothing bounds the number of texts.
    log_probs = random_log_probs(8 if kind == "no language" else 50, N_LABELS, seed)
    log_probs[3:5] = log_probs[20:25] = np.log([0.996, 0.001, 0.001, 0.001, 0.001])
    searches = [BeamSearch(graph), BeamSearch(graph)]
    searches[0]._lanes = Lanes(graph)
    searches[0]._lanes.begin(0)
    assert isinstance(searches[1]._lanes, CompiledLanes)
    n_hypotheses = 0
    for frame in log_probs:
        seen = []
        for search in searches:
            search.step(frame[None])
            hypotheses = search._lanes._beam
            order = np.lexsort([hypotheses.nodes, hypotheses.texts])
            seen.append(hypotheses.take(order))
        ours, theirs = seen
        # All but where the words are in the history; the lanes' factors make up for rounding.
        np.testing.assert_array_equal(np.delete(ours.ids, 7, 0), np.delete(theirs.ids, 7, 0))
        for name in ("blank", "label", "ahead"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-12)
        n_hypotheses += len(ours)
    same(searches[0].end(3), searches[1].end(3))
    assert n_hypotheses > 300


@needs_kernel
def test_the_recurrent_model_is_asked_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every four frames, also when there are no new words."""
    asked: list[int] = []
    rescore = Lanes.rescore
    monkeypatch.setattr(Lanes, "rescore", lambda self: (asked.append(1), rescore(self)))
    whole = Recognizer.load().new_decoder
    graph = whole.narrowed(100, 3.0)._graph
    assert graph is not None and whole._graph is not None
    graph.mixture = whole._graph.mixture
    log_probs = np.full((42, 40), np.log(0.0005), np.float32)
    log_probs[:, 0] = np.log(1 - 39 * 0.0005)  # not certain, but no other label is worth trying
    search = BeamSearch(graph)
    search.step(log_probs)
    assert isinstance(search._lanes, CompiledLanes) and len(asked) == 10


@needs_kernel
def test_the_shipped_language_finds_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """With both language models, several recordings side by side."""
    recognizer = Recognizer.load()
    factory = recognizer.new_decoder
    assert factory._graph is not None and factory._graph.mixture is not None
    samples = [read_audio(path) for path in sorted((ROOT / "tests/data").glob("*.flac"))[:6]]
    heard = [outputs["phones"] for outputs in recognizer._engine.log_probs(samples)]
    by_kernel = search_all(factory._graph, heard, factory._log_priors, n_best=2)
    monkeypatch.setattr(beam, "new_lanes", Lanes)
    by_numpy = search_all(factory._graph, heard, factory._log_priors, n_best=2)
    for one, other in zip(by_kernel, by_numpy, strict=True):
        same(one, other)
    assert sum(len(found.hypotheses[0].words) for found in by_kernel) > 20


@needs_kernel
def test_words_have_the_same_times_and_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = Recognizer.load()
    outputs = recognizer._engine.log_probs(
        [read_audio(path) for path in sorted((ROOT / "tests/data").glob("*.flac"))[:6]]
    )
    heard = [(each["phones"], 0.0) for each in outputs]
    by_kernel = recognizer.new_decoder.decode_all(heard)
    monkeypatch.setattr(beam, "new_lanes", Lanes)
    by_numpy = recognizer.new_decoder.decode_all(heard)
    assert by_kernel == by_numpy and any(by_kernel)


@pytest.mark.parametrize("lanes", [Lanes, new_lanes])
def test_silence_of_any_length_gives_nothing(lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame that is looked at among blanks made arrays that are not contiguous."""
    monkeypatch.setattr(beam, "new_lanes", lanes)
    graph = graph_of("trigrams", 0)
    silence = np.log(np.array([0.996, 0.001, 0.001, 0.001, 0.001], np.float32))
    for n_frames in range(140):
        (found,) = search_all(graph, [np.tile(silence, (n_frames, 1))])
        assert found.hypotheses[0].words == ()


@needs_kernel
@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
        lambda array: np.flip(np.flip(array, 0).copy(), 0),
        lambda array: array.astype(array.dtype.newbyteorder()),
    ],
)
def test_the_layout_of_arrays_means_nothing(layout) -> None:
    graph = graph_of("trigrams", 1)
    log_probs = random_log_probs(30, N_LABELS, 1)
    log_probs[5:12] = log_probs[-4:] = np.log([0.996, 0.001, 0.001, 0.001, 0.001])
    scores = []
    for change in (lambda array: array, layout):
        frames = Frames.of(log_probs, np.zeros(N_LABELS), graph.config)
        lanes = new_lanes(graph)
        lanes.begin(0)
        for block in frames.blocks(4):
            lanes.go_on(Block(*map(change, block)))
        lanes.stay(change(frames.held), change(frames.carried))
        scores.append(lanes.end(0, 3))
    assert scores[0] == scores[1]


@needs_kernel
@pytest.mark.parametrize("seed", range(20))
def test_labels_are_aligned_alike(seed: int) -> None:
    random = np.random.default_rng(seed)
    states = np.zeros(2 * int(random.integers(0, 6)) + 1, np.int64)
    states[1::2] = random.integers(1, 3, len(states) // 2)  # many follow themselves
    log_probs = random_log_probs(int(random.integers(len(states), 40)), 3, seed)
    path = align._compiled_path(log_probs, states)
    assert path is not None
    np.testing.assert_array_equal(path, align._path(log_probs, states))
    # Of a part of wider rows too.
    wide = np.pad(log_probs, ((0, 0), (0, 2)))[:, :3]
    np.testing.assert_array_equal(align._compiled_path(wide, states), path)


def build(folder: Path, compiler: str) -> subprocess.CompletedProcess[str]:
    """setup.py in a copy of what it compiles."""
    (folder / "asr/decoding").mkdir(parents=True)
    shutil.copy(ROOT / "setup.py", folder)
    shutil.copy(ROOT / "asr/decoding/kernel.c", folder / "asr/decoding")
    (folder / "setup.cfg").write_text("[metadata]\nname = asr\n[options]\npackages = asr.decoding\n")
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    variables = os.environ | {"CC": compiler}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_without_a_compiler_the_installation_goes_on(tmp_path: Path) -> None:
    done = build(tmp_path, "no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_kernel_of_another_source_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = build(tmp_path, "cc")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "asr/decoding"
    monkeypatch.setattr(kernels, "_FOLDER", folder)
    find = kernel.__wrapped__
    assert find() is not None
    with (folder / "kernel.c").open("a") as source:
        source.write("\n")
    assert find() is None
    monkeypatch.setattr(compiled, "kernel", find)
    assert type(new_lanes(graph_of("trigrams", 0))) is Lanes
    (folder / "kernel.c").unlink()
    assert find() is None
