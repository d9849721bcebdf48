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

from asr.decoding.ngram import NGramModel, Order
from asr.decoding.prefix_tree import Pronunciations
from asr.decoding.recurrent import RecurrentModel
from asr.errors import LanguageModelError
from asr.files import write_atomically

FORMAT = 2
_KEY = "asr-language"
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
        words = _inflate(arrays["words"], np.uint8).tobytes().decode().split("\n")
        orders = [_load_unigrams(arrays)]
        for n in range(2, len(data["counts"]) + 1):
            orders.append(_load_order(n, arrays, len(words), len(orders[-1])))
        if [len(order) for order in orders] != data["counts"] or len(words) != data["counts"][0]:
            raise ValueError("n-grams are missing")
        pronunciations = _load_pronunciations(arrays) if "pronunciations.words" in arrays else None
        return Language(NGramModel(words, orders), pronunciations, data["info"])
    except (KeyError, TypeError, ValueError, IndexError, UnicodeDecodeError, zlib.error) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LanguageModelError(f"{path}: a damaged language model ({reason})") from None


def _load_unigrams(arrays: Mapping[str, np.ndarray]) -> Order:
    log_probs, back_offs = (_inflate(arrays[f"1.{name}"], np.float32) for name in ("log_probs", "back_offs"))
    zeros = np.zeros(len(log_probs), np.int32)
    return Order(zeros, np.arange(len(log_probs), dtype=np.int32), log_probs, back_offs)


def _load_order(n: int, arrays: Mapping[str, np.ndarray], n_words: int, n_below: int) -> Order:
    """n_below: n-grams of the order below."""
    log_probs = _dequantize(_under(f"{n}.log_probs", arrays))
    back_offs = np.zeros(len(log_probs), np.float32)
    if f"{n}.weighted" in arrays:
        has_weight = np.unpackbits(arrays[f"{n}.weighted"], count=len(log_probs)).astype(bool)
        back_offs[has_weight] = _dequantize(_under(f"{n}.back_offs", arrays))
    return Order(
        contexts=_unpack_sparse(_under(f"{n}.contexts", arrays), n_below),
        words=_unpack_integers(_under(f"{n}.words", arrays), n_words),
        log_probs=log_probs,
        back_offs=back_offs,
    )


def _load_pronunciations(arrays: Mapping[str, np.ndarray]) -> Pronunciations:
    lengths = arrays["pronunciations.lengths"]
    table = np.zeros((len(lengths), int(lengths.max(initial=0))), np.uint8)
    table[np.arange(table.shape[1]) < lengths[:, None]] = _inflate(arrays["pronunciations.labels"], np.uint8)
    return Pronunciations(table, arrays["pronunciations.words"])


def _prefixed(name: str, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": array for part, array in parts.items()}


def _under(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


def _deflate(data: bytes) -> np.ndarray:
    return np.frombuffer(zlib.compress(data, 9), np.uint8)


def _inflate(packed: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
    return np.frombuffer(zlib.decompress(packed.tobytes()), dtype)


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


def _unpack_sparse(packed: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """Each index below n as often as its count says, in order."""
    counts = packed["counts"].astype(np.int32)
    counts[counts == 255] = packed["large"]
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
