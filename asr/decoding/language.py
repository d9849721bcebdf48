"""A language: an n-gram model and the pronunciations of its words, in one compact file.

An n-gram takes three to four bytes: the last word, and its probability as one of 256 values of its order.
Words, their probabilities without context and their pronunciations are compressed.
The format is safetensors with JSON metadata, as that of the acoustic models.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from asr.decoding.ngram import SPECIAL_WORDS, NGramModel, Order
from asr.decoding.prefix_tree import Pronunciations
from asr.decoding.recurrent import RecurrentModel
from asr.errors import LanguageModelError
from asr.files import write_atomically
from asr.labels import PHONES

FORMAT = 2
_KEY = "asr-language"
_MAX_ORDER = 20
_MEAN_BYTES, _LONGEST_WORD = 40, 10_000  # that words may take, each and one: what bounds a hostile file
_DAMAGES = (
    *(KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OverflowError),
    *(MemoryError, zlib.error),
)
_LOW_BITS = 16  # of a word id, kept as one number; the bits above are packed one by one


@dataclass(frozen=True)
class Language:
    """pronunciations: of phones, with word ids of the model; None: words are spelled in characters."""

    lm: NGramModel
    pronunciations: Pronunciations | None = None
    info: Mapping[str, Any] = field(default_factory=dict)  # plain values: sources, settings, tuned weights
    recurrent: RecurrentModel | None = None  # to be mixed with lm; a file of its own


def save(language: Language, path: str | Path) -> None:
    """Write a language; an older file of that name stays whole until the new one is complete."""
    lm = language.lm
    arrays: dict[str, np.ndarray] = {"words": _deflate("\n".join(lm.words).encode())}
    unigrams, *higher = lm.orders
    arrays["1.log_probs"] = _deflate(unigrams.log_probs.tobytes())
    arrays["1.back_offs"] = _deflate(unigrams.back_offs.tobytes())
    for n, order in enumerate(higher, start=2):
        n_arcs = np.bincount(order.contexts, minlength=lm.counts[n - 2])
        arrays |= _prefixed(f"{n}.contexts", _pack_sparse(n_arcs))
        arrays |= _prefixed(f"{n}.words", _pack_integers(order.words, len(lm.words)))
        arrays |= _prefixed(f"{n}.log_probs", _quantize(order.log_probs))
        if n < len(lm.counts):
            has_weight = order.back_offs != 0
            arrays[f"{n}.weighted"] = np.packbits(has_weight)
            arrays |= _prefixed(f"{n}.back_offs", _quantize(order.back_offs[has_weight]))
    if language.pronunciations is not None:
        table = language.pronunciations.labels
        arrays["pronunciations.lengths"] = (table != 0).sum(1).astype(np.uint8)
        arrays["pronunciations.labels"] = _deflate(table[table != 0].tobytes())
        arrays["pronunciations.words"] = language.pronunciations.words
    metadata = {"format": FORMAT, "counts": lm.counts, "info": language.info}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, lambda file: save_file(arrays, file, {_KEY: json.dumps(metadata)}))


def load(path: str | Path) -> Language:
    """Read a language that save() wrote; LanguageModelError says what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise LanguageModelError(f"{path}: no such language model")
    try:
        with safe_open(path, framework="np") as file:
            metadata = (file.metadata() or {}).get(_KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LanguageModelError(
            f"{path}: not a language model of asr ({reason}); asr lm build makes one from text or ARPA"
        ) from None
    if metadata is None:
        raise LanguageModelError(f"{path}: a safetensors file, but not a language model of asr")
    try:
        data = json.loads(metadata)
        if data["format"] > FORMAT:
            raise LanguageModelError(
                f"{path}: format {data['format']} is newer than this program reads ({FORMAT}); update asr"
            )
        if data["format"] < FORMAT:
            raise LanguageModelError(f"{path}: of an older asr; make it anew with asr lm build")
        counts, info = data["counts"], data["info"]
        if not isinstance(info, dict) or not isinstance(counts, list) or not 0 < len(counts) <= _MAX_ORDER:
            raise ValueError("its description is none")
        if not all(type(count) is int and 0 <= count < 1 << 31 for count in counts):
            raise ValueError("its numbers of n-grams are none")
        orders = [_load_unigrams(arrays, counts[0], is_only=len(counts) == 1)]
        words = _load_words(arrays, counts[0])
        for n in range(2, len(counts) + 1):
            orders.append(_load_order(n, arrays, len(words), counts[n - 2], counts[n - 1]))
        lm = NGramModel(words, orders)
        lm.check()
        pronunciations = (
            _load_pronunciations(arrays, len(words)) if "pronunciations.words" in arrays else None
        )
        return Language(lm, pronunciations, info)
    except _DAMAGES as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LanguageModelError(f"{path}: a damaged language model ({reason})") from None


def _load_words(arrays: Mapping[str, np.ndarray], n: int) -> list[str]:
    packed = arrays["words"].tobytes()
    spelled = zlib.decompressobj().decompress(packed, n * _MEAN_BYTES + _LONGEST_WORD).decode()
    words = spelled.split("\n")
    if len(words) != n or len(set(words)) != n or tuple(words[:3]) != SPECIAL_WORDS:
        raise ValueError("words are missing or there twice")
    if not "".join(words).isprintable():
        raise ValueError("words with control characters")
    return words


def _load_unigrams(arrays: Mapping[str, np.ndarray], n: int, *, is_only: bool) -> Order:
    """is_only: there are no longer n-grams, and so no back-off weights."""
    log_probs = _inflate(arrays["1.log_probs"], np.float32, n)
    back_offs = np.zeros(n, np.float32) if is_only else _inflate(arrays["1.back_offs"], np.float32, n)
    return Order(np.zeros(n, np.int32), np.arange(n, dtype=np.int32), log_probs, back_offs)


def _load_order(n: int, arrays: Mapping[str, np.ndarray], n_words: int, n_below: int, n_grams: int) -> Order:
    """n_below: n-grams of the order below."""
    log_probs = _dequantize(_under(f"{n}.log_probs", arrays))
    words = _unpack_integers(_under(f"{n}.words", arrays), n_words)
    if len(log_probs) != n_grams or len(words) != n_grams:
        raise ValueError("n-grams are missing")
    back_offs = np.zeros(len(log_probs), np.float32)
    if f"{n}.weighted" in arrays:
        has_weight = np.unpackbits(arrays[f"{n}.weighted"], count=len(log_probs)).astype(bool)
        back_offs[has_weight] = _dequantize(_under(f"{n}.back_offs", arrays))
    return Order(
        contexts=_unpack_sparse(_under(f"{n}.contexts", arrays), n_below, n_grams),
        words=words,
        log_probs=log_probs,
        back_offs=back_offs,
    )


def _load_pronunciations(arrays: Mapping[str, np.ndarray], n_words: int) -> Pronunciations:
    lengths, words = arrays["pronunciations.lengths"], arrays["pronunciations.words"]
    if lengths.dtype != np.uint8 or words.dtype != np.int32 or lengths.shape != (len(words),):
        raise ValueError("pronunciations are of another kind")
    labels = _inflate(arrays["pronunciations.labels"], np.uint8, int(lengths.sum(dtype=np.int64)))
    is_sound = lengths.all() and labels.all() and labels.max(initial=0) < len(PHONES)
    if not is_sound or ((words < 0) | (words >= n_words)).any():
        raise ValueError("pronunciations of words or phones that there are none of")
    table = np.zeros((len(lengths), int(lengths.max(initial=0))), np.uint8)
    table[np.arange(table.shape[1]) < lengths[:, None]] = labels
    differs = table[1:] != table[:-1]
    at = differs.argmax(1) if table.size else np.zeros(0, int)
    rows = np.flatnonzero(differs.any(1)) if table.size else at
    if (table[rows + 1, at[rows]] < table[rows, at[rows]]).any():
        raise ValueError("pronunciations out of order")
    return Pronunciations(table, words)


def _prefixed(name: str, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": array for part, array in parts.items()}


def _under(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


def _deflate(data: bytes) -> np.ndarray:
    return np.frombuffer(zlib.compress(data, 9), np.uint8)


def _inflate(packed: np.ndarray, dtype: type[np.generic], n: int) -> np.ndarray:
    """n values: a file that holds more is damaged, and may hold any number."""
    size = n * np.dtype(dtype).itemsize
    data = zlib.decompressobj().decompress(packed.tobytes(), size + 1)
    if len(data) != size:
        raise ValueError("values are missing, or there are too many")
    return np.frombuffer(data, dtype)


def _pack_integers(values: np.ndarray, n_values: int) -> dict[str, np.ndarray]:
    """Whole numbers below n_values: 16 bits, and each further bit in an array of bits."""
    packed: dict[str, np.ndarray] = {"low": values.astype(np.uint16)}
    for bit in range(_LOW_BITS, (n_values - 1).bit_length()):
        packed[str(bit)] = np.packbits((values >> bit & 1).astype(bool))
    return packed


def _unpack_integers(packed: Mapping[str, np.ndarray], n_values: int) -> np.ndarray:
    halves = np.zeros((len(packed["low"]), 2), "<u2")  # of each value: no array of wider numbers on the way
    halves[:, 0] = packed["low"]
    for bit in range(_LOW_BITS, (n_values - 1).bit_length()):
        bits = np.unpackbits(packed[str(bit)], count=len(halves))
        halves[:, 1] |= bits if bit == _LOW_BITS else bits.astype(np.uint16) << (bit - _LOW_BITS)
    return halves.view("<i4")[:, 0]


def _pack_sparse(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Counts of which most are zero and few are large: where they are not, a byte each, the large ones."""
    present = counts[counts > 0]
    return {
        "present": np.packbits(counts > 0),
        "counts": np.minimum(present, 255).astype(np.uint8),
        "large": present[present >= 255].astype(np.uint32),
    }


def _unpack_sparse(packed: Mapping[str, np.ndarray], n: int, total: int) -> np.ndarray:
    """Each index below n as often as its count says, in order. total: of the counts."""
    counts = packed["counts"].astype(np.int64)
    counts[counts == 255] = packed["large"]
    if counts.sum() != total:
        raise ValueError("n-grams are missing, or there are too many")
    present = np.flatnonzero(np.unpackbits(packed["present"], count=n).view(bool))
    return np.repeat(present.astype(np.int32), counts)


def _quantize(values: np.ndarray) -> dict[str, np.ndarray]:
    """Each value as the nearest of 256: the means of equally filled bins (Federico and Bertoldi 2006)."""
    bins = np.array_split(np.sort(values), 256)
    levels = np.unique(np.array([part.mean() for part in bins if len(part)], np.float32))
    middles = (levels[1:] + levels[:-1]) / 2
    return {"levels": levels, "codes": np.searchsorted(middles, values).astype(np.uint8)}


def _dequantize(packed: Mapping[str, np.ndarray]) -> np.ndarray:
    return packed["levels"][packed["codes"]]
