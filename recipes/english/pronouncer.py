"""Learn how words are pronounced from a dictionary: a joint n-gram model of letters and phones.

    python recipes/english/pronouncer.py --cmudict cmudict.dict.xz \
        --output asr/pretrained/english/pronouncer.safetensors [--held-out 0.05]

Each word is cut into pairs of a few letters and the few phones that they stand for, by
expectation-maximisation; an n-gram model of such pairs then pronounces words that no dictionary has
(Bisani and Ney 2008). --held-out keeps a part of the words from
training and tells how many of them come out wrong.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections import defaultdict
from pathlib import Path

from asr.decoding import language
from asr.decoding.counting import Text, count_ngrams
from asr.decoding.language import Language
from asr.decoding.prune import prune
from asr.evaluation import count_words, sum_counts
from asr.labels import read_cmudict
from asr.pronouncer import Pronouncer, pair_name

# Letters and phones of one pair.
# Larger ones would win every comparison, for fewer pairs make a likelier word, and generalise to none.
SHAPES = [(1, 0), (1, 1), (1, 2), (2, 1)]
Pair = tuple[str, tuple[str, ...]]


def cuts(letters: str, phones: tuple[str, ...], i: int, j: int) -> list[tuple[int, int, Pair]]:
    """The pairs that may come next after i letters and j phones, and where each leads."""
    return [
        (i + n, j + m, (letters[i : i + n], phones[j : j + m]))
        for n, m in SHAPES
        if i + n <= len(letters) and j + m <= len(phones)
    ]


def best_cut(letters: str, phones: tuple[str, ...], costs: dict[Pair, float]) -> list[Pair] | None:
    """The likeliest pairs of a word (Viterbi); None when no sequence of pairs makes it."""
    best: dict[tuple[int, int], tuple[float, list[Pair]]] = {(0, 0): (0.0, [])}
    for i in range(len(letters)):
        for j in range(len(phones) + 1):
            if (i, j) not in best:
                continue
            cost, pairs = best[i, j]
            for ahead_i, ahead_j, pair in cuts(letters, phones, i, j):
                total = cost + costs.get(pair, 20.0)
                if (ahead_i, ahead_j) not in best or total < best[ahead_i, ahead_j][0]:
                    best[ahead_i, ahead_j] = total, [*pairs, pair]
    found = best.get((len(letters), len(phones)))
    return None if found is None else found[1]


def first_costs(entries: list[tuple[str, tuple[str, ...]]]) -> dict[Pair, float]:
    """Before anything is known: pairs at about the same relative place in word and pronunciation."""
    counts: dict[Pair, float] = defaultdict(float)
    for letters, phones in entries:
        for i in range(len(letters)):
            middle = i * len(phones) / len(letters)
            for j in range(len(phones) + 1):
                for _, _, pair in cuts(letters, phones, i, j):
                    counts[pair] += math.exp(-abs(j - middle)) / (1 + abs(len(pair[0]) - len(pair[1])))
    return costs_of(counts)


def costs_of(counts: dict[Pair, float]) -> dict[Pair, float]:
    total = sum(counts.values())
    return {pair: -math.log(count / total) for pair, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cmudict", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--order", type=int, default=6)
    parser.add_argument("--entropy-prune", type=float, default=2e-8)
    parser.add_argument("--held-out", type=float, default=0.0)
    args = parser.parse_args()

    dictionary = read_cmudict(args.cmudict)
    held_out = {word for word in dictionary if zlib.crc32(word.encode()) % 1000 < 1000 * args.held_out}
    entries = [
        (word, tuple(phones.split()))
        for word, variants in dictionary.items()
        if word not in held_out
        for phones in variants
    ]
    costs = first_costs(entries)
    for _ in range(5):
        counts: dict[Pair, float] = defaultdict(float)
        cut = [pairs for pairs in (best_cut(*entry, costs) for entry in entries) if pairs]
        for pairs in cut:
            for pair in pairs:
                counts[pair] += 1
        costs = costs_of(counts)
        print(f"{len(counts)} pairs, {sum(counts.values()) / len(cut):.2f} in a word", flush=True)
    # Pairs seen once or twice are slips of the dictionary.
    text = Text.of(
        " ".join(pair_name(*pair) for pair in pairs)
        for pairs in cut
        if all(counts[pair] > 2 for pair in pairs)
    )
    model = count_ngrams(text, args.order)
    if args.entropy_prune:
        model = prune(model, args.entropy_prune)
    info = {"sources": [args.cmudict.name]}
    language.save(Language(model, None, info), args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")

    if held_out:
        pronouncer = Pronouncer.load(args.output)
        errors = []
        for word in held_out:
            found = " ".join(pronouncer.pronounce(word)[0])
            errors.append(min((count_words(v, found) for v in dictionary[word]), key=lambda c: c.rate))
        wrong = sum(error.rate > 0 for error in errors) / len(errors)
        rate = sum_counts(errors).rate
        print(f"{len(errors)} held-out words: {100 * wrong:.1f} % wrong, phones {100 * rate:.1f} %")


if __name__ == "__main__":
    main()
