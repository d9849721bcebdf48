"""A recurrent language model: an LSTM over words that remembers the whole sentence, where n-grams see three.

It knows the frequent words only; the others share the probability of <unk>. Its logarithms are not
normalised: it was trained to sum to nearly one, so that a word's probability costs a product of two vectors.
Weights are kept in 8 bits; the LSTM is a graph for ONNX Runtime, which multiplies a few rows by them many
times as fast as NumPy.

Sources: Mikolov et al. 2010 (recurrent language model), Devlin et al. 2014 (self-normalisation).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from safetensors import safe_open
from safetensors.numpy import save_file

from asr.decoding import ngram
from asr.errors import LanguageModelError
from asr.files import write_atomically

FORMAT = 1
_KEY = "asr-recurrent-language"
END, UNKNOWN = 0, 1  # rows; a sentence's end also begins the next
SPECIAL_WORDS = ("</s>", "<unk>")
_LAST_BITS = (1 << 18) - 1
_FEWEST_STATES = 1024  # of texts, that there is room for
# Inputs of the graph, (1, n, width) and (1, n, cells), and its outputs.
EMBEDDED, HIDDEN, CELLS = "embedded", "hidden", "cells"
CONTEXT, NEXT_HIDDEN, NEXT_CELLS = "context", "next_hidden", "next_cells"


class RecurrentModel:
    """Scores words after texts, many at once. The states of texts are rows of an array: the LSTM's output
    and cells, and the vector by which the next word is scored."""

    def __init__(
        self, words: Sequence[str], weights: Mapping[str, np.ndarray], info: Mapping[str, Any]
    ) -> None:
        """words: the spelling of each row, the special ones first. info: plain values, such as sources.

        weights: embedding, (words, width) 8-bit integers; scale, (words,) its rows' factors; bias, (words,);
        and graph, the bytes of an ONNX graph from EMBEDDED, HIDDEN and CELLS to CONTEXT and their next.
        """
        self.words, self.weights, self.info = tuple(words), dict(weights), dict(info)
        self._embedding, self._scale = weights["embedding"], weights["scale"]
        self._bias = weights["bias"].astype(np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # for a few rows a second one would have to be waited for
        self._graph = onnxruntime.InferenceSession(
            weights["graph"].tobytes(), options, providers=["CPUExecutionProvider"]
        )
        if len(self.words) != len(self._embedding) or self.words[:2] != SPECIAL_WORDS:
            raise ValueError("words are missing")
        self._n_cells = next(i.shape[-1] for i in self._graph.get_inputs() if i.name == HIDDEN)
        nothing = np.zeros((1, 2 * self._n_cells + self._embedding.shape[1]), np.float32)
        self.start = self.step(nothing, np.array([END]))

    def step(self, states: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The states of (n,) texts with one word more each."""
        hidden, cells = states[None, :, : self._n_cells], states[None, :, self._n_cells : 2 * self._n_cells]
        inputs = {EMBEDDED: self._rows(words)[None], HIDDEN: hidden, CELLS: cells}
        return np.concatenate(self._graph.run([NEXT_HIDDEN, NEXT_CELLS, CONTEXT], inputs), axis=2)[0]

    def score(self, states: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(n,) natural log-probabilities of one word after each text."""
        contexts = states[:, 2 * self._n_cells :]
        return np.einsum("ij,ij->i", contexts, self._rows(words)) + self._bias[words]

    def _rows(self, words: np.ndarray) -> np.ndarray:
        return self._embedding[words] * self._scale[words, None]


class Mixture:
    """A recurrent model and n-grams, interpolated word by word."""

    def __init__(
        self, model: RecurrentModel, share: float, words: Sequence[str], unigrams: np.ndarray
    ) -> None:
        """share: the recurrent model's, 0 to 1. words, unigrams: those of the n-gram model, and (words,)
        their log-probabilities without context, by which those that the other lacks share its <unk>."""
        self.model = model
        with np.errstate(divide="ignore"):  # all to one of them
            self._log_share, self._log_rest = np.log(np.float32(share)), np.log1p(-np.float32(share))
        rows = {word: row for row, word in enumerate(model.words)}
        self.rows = np.array([rows.get(word, UNKNOWN) for word in words], np.int32)
        unknown = self.rows == UNKNOWN
        all_unknown = np.logaddexp.reduce(unigrams[unknown], initial=-np.inf)
        self._of_unknown = np.where(unknown, unigrams - all_unknown, np.float32(0))

    def gain(self, states: np.ndarray, words: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
        """(n,) what the mixture's logarithms of words after states have more than the n-grams' log_probs."""
        heard = self.model.score(states, self.rows[words]) + self._of_unknown[words]
        return np.logaddexp(self._log_share + heard, self._log_rest + log_probs) - log_probs

    def sentence_gain(self, words: Sequence[int], log_probs: Sequence[float]) -> float:
        """What it gains a whole sentence. log_probs: those of its words and of its end by the n-grams."""
        gain, state = 0.0, self.model.start
        for word, log_prob in zip([*words, ngram.END], log_probs, strict=True):
            gain += float(self.gain(state, np.array([word]), np.array([log_prob]))[0])
            state = self.model.step(state, self.rows[[word]])
        return gain


class Rescoring:
    """What the mixture gains the words of searches over its n-grams.

    The states of texts are kept, by the texts' hashes.
    """

    def __init__(self, mixture: Mixture) -> None:
        self._mixture = mixture
        self._states = np.repeat(mixture.model.start, _FEWEST_STATES, axis=0)  # the first is that of no words
        self._rows: dict[int, int] = {}  # of a text's state
        self._n_states = 1
        self._gains: dict[int, float] = {}  # of the last words of texts
        self._has_gains = np.zeros(_LAST_BITS + 1, bool)  # by texts' last bits: of most there are none

    def begin(self, texts: np.ndarray) -> None:
        """Have the states of texts without words."""
        self._rows.update(dict.fromkeys(texts.tolist(), 0))

    def gain(self, texts: np.ndarray, words: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
        """(n,) logarithms for words after texts; extend() has had the texts."""
        return self._mixture.gain(self._states[self._find(texts)], words, log_probs)

    def remember(self, texts: np.ndarray, gains: np.ndarray) -> None:
        """Keep what the last words of texts have been found to gain."""
        self._gains.update(zip(texts.tolist(), gains.tolist(), strict=True))
        self._has_gains[texts & _LAST_BITS] = True

    def known(self, texts: np.ndarray) -> np.ndarray:
        """(n,) what the last words of texts gain, 0 where that is not known yet."""
        gains = np.zeros(len(texts), np.float32)
        rows = self._has_gains[texts & _LAST_BITS].nonzero()[0]
        gains[rows] = [self._gains.get(text, 0.0) for text in texts[rows].tolist()]
        return gains

    def extend(self, texts: np.ndarray, before: np.ndarray, words: np.ndarray) -> None:
        """Have the states of texts: of those before, which are there, with a word more each."""
        new = {text: i for i, text in enumerate(texts.tolist()) if text not in self._rows}
        if not new:
            return
        chosen, first = np.fromiter(new.values(), np.intp), self._n_states
        self._n_states += len(new)
        while self._n_states > len(self._states):
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
        states = self._states[self._find(before[chosen])]
        found = self._mixture.model.step(states, self._mixture.rows[words[chosen]])
        self._states[first : self._n_states] = found
        self._rows.update(zip(new, range(first, self._n_states), strict=True))

    @property
    def is_full(self) -> bool:
        """Whether keep() should forget texts before there are more."""
        return 8 * self._n_states > 7 * len(self._states)

    def keep(self, texts: np.ndarray) -> None:
        """Forget the states of other texts."""
        kept = {text: row for text in texts.tolist() if (row := self._rows.get(text)) is not None}
        rows = sorted({0, *kept.values()})
        self._states[: len(rows)] = self._states[rows]
        moved = {row: i for i, row in enumerate(rows)}
        self._rows = {text: moved[row] for text, row in kept.items()}
        self._n_states = len(rows)
        if 4 * len(rows) > 3 * len(self._states):
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])

    def _find(self, texts: np.ndarray) -> np.ndarray:
        return np.array([self._rows[text] for text in texts.tolist()], np.intp)


def save(model: RecurrentModel, path: str | Path) -> None:
    """Write a model; an older file of that name stays whole until the new one is complete."""
    words = np.frombuffer(zlib.compress("\n".join(model.words).encode(), 9), np.uint8)
    arrays = {name: np.ascontiguousarray(array) for name, array in model.weights.items()} | {"words": words}
    metadata = json.dumps({"format": FORMAT, "info": model.info})
    write_atomically(path, lambda file: save_file(arrays, file, {_KEY: metadata}))


def load(path: str | Path) -> RecurrentModel:
    """Read a model that save() wrote; LanguageModelError says what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise LanguageModelError(f"{path}: no such recurrent language model")
    try:
        with safe_open(path, framework="np") as file:
            metadata = (file.metadata() or {}).get(_KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        if metadata is None:
            raise ValueError("it is something else")
        data = json.loads(metadata)
        if data["format"] > FORMAT:
            raise LanguageModelError(
                f"{path}: format {data['format']} is newer than this program reads ({FORMAT}); update asr"
            )
        words = zlib.decompress(arrays.pop("words").tobytes()).decode().split("\n")
        return RecurrentModel(words, arrays, data["info"])
    except LanguageModelError:
        raise
    except Exception as error:  # those of ONNX Runtime have no base of their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LanguageModelError(
            f"{path}: not a recurrent language model of asr ({reason}); asr lm train makes one from text"
        ) from None
