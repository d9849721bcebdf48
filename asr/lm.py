"""Making language models from text, and tuning how much they weigh."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.decoding.arpa import is_arpa, read_arpa
from asr.decoding.counting import Text, count_ngrams
from asr.decoding.decoder import DecoderOptions
from asr.decoding.language import Language
from asr.decoding.mixing import best_share, interpolate, token_log_probs
from asr.decoding.ngram import END, UNKNOWN, NGramModel, Order
from asr.decoding.prefix_tree import Pronunciations
from asr.decoding.prune import prune
from asr.decoding.recurrent import Mixture
from asr.decoding.spelling import with_spelling
from asr.errors import LanguageModelError, ManifestError
from asr.evaluation import count_words, sum_counts
from asr.files import open_text, readable
from asr.labels import PHONES, Labels, Lexicon, read_cmudict
from asr.manifest import read_manifest
from asr.pronouncer import SAYABLE, Pronouncer
from asr.recognizer import Recognizer
from asr.text import normalize


@dataclass(frozen=True)
class BuildOptions:
    order: int = 3
    count_prune: tuple[int, ...] = ()  # n-grams of each order seen so often or less are dropped
    vocabulary: int = 120_000  # words kept, the most frequent first
    spelling: float = 0.7  # probability that a letter is followed by more of a spelling; 0: as in the text
    added_share: float = 0.1  # of the unigrams' probability, for all added words together
    entropy_prune: float = 0.0  # relative rise of perplexity up to which an n-gram is dropped
    share: float | None = None  # of the new model in a mixture; None: what makes held-out text likeliest


_MAX_SHARE = 0.1  # of the new model, unless the user chooses: other speech must stay as likely as it was
_FEW_SENTENCES = 1000  # in so few, each in turn is held out
_FOLDS = 10
_VARIANTS = 2  # pronunciations of a word that the lexicon lacks


def build(
    paths: Sequence[Path],
    lexicon: Lexicon | None,
    options: BuildOptions = BuildOptions(),
    added: Lexicon | None = None,
    mixed_with: Language | None = None,
    pronouncer: Pronouncer | None = None,
) -> Language:
    """A language from text files (plain or compressed, a sentence a line), or from one ARPA file.

    Text is normalised as training labels are. Without a lexicon its words are spelled in characters.
    added: what can be recognised too where the text lacks it.
    mixed_with: the language that the new model is interpolated with; its words and settings stay, and
    `info` of the result says under "mixed" with which share.
    pronouncer: what pronounces the words that the lexicon lacks.
    """
    text: Text | None = None
    if is_arpa(paths[0]):
        if len(paths) > 1:
            raise LanguageModelError(f"{paths[1]}: an ARPA file is converted by itself; give no second file")
        model = read_arpa(paths[0])
    else:
        text = Text.of(read_sentences(paths), options.vocabulary)
        if not text.n_sentences:
            raise ManifestError(f"{paths[0]}: no words to count")
        model = count_ngrams(text, options.order, options.count_prune)
    model = _finished(model, options)
    info: dict[str, Any] = {}
    if mixed_with is not None:
        share = options.share
        if share is None:
            share = _MAX_SHARE if text is None else min(_MAX_SHARE, _share(text, mixed_with.lm, options))
        share = min(max(share, 0.001), 0.999)
        model = interpolate(mixed_with.lm, model, share)
        info = {**mixed_with.info, "mixed": {"share": round(share, 3)}}
    if added is not None:
        model = with_words(model, added.pronunciations, options.added_share)
        if lexicon is not None:
            lexicon = Lexicon({**added.pronunciations, **lexicon.pronunciations})
    if lexicon is None:
        return Language(model, None, info)
    known = None if mixed_with is None else mixed_with.pronunciations
    return Language(model, pronounce(model, lexicon, pronouncer, known), info)


def _finished(model: NGramModel, options: BuildOptions) -> NGramModel:
    if options.entropy_prune:
        model = prune(model, options.entropy_prune)
    return with_spelling(model, options.spelling)


def _share(text: Text, other: NGramModel, options: BuildOptions) -> float:
    """The text's share in a mixture by which its sentences are likeliest when they are left out of it."""
    fold = np.random.default_rng(0).permutation(text.n_sentences) % _FOLDS
    scores: list[tuple[np.ndarray, np.ndarray]] = []
    for held_out in range(_FOLDS if text.n_sentences < _FEW_SENTENCES else 1):
        rest = text.part(fold != held_out)
        left_out = text.part(fold == held_out).sentences()[:_FEW_SENTENCES]
        if rest.n_sentences and left_out:
            model = _finished(count_ngrams(rest, options.order, options.count_prune), options)
            scores.append((token_log_probs(other, left_out), token_log_probs(model, left_out)))
    if not scores:  # a single sentence
        return _MAX_SHARE
    one, another = (np.concatenate(parts) for parts in zip(*scores, strict=True))
    return best_share(one, another)


def with_words(model: NGramModel, words: Iterable[str], share: float) -> NGramModel:
    """The model with those of the words that it lacks, each as likely as the others.

    share: of the unigrams' probability, for all of them together. After a context that n-grams do not go on
    with them they are as likely as its back-off weight allows, like any rare word.
    """
    new = [word for word in words if word not in model.ids]
    if not new or not share:
        return model
    unigrams, *longer = model.orders
    n = len(unigrams) + len(new)
    log_probs = np.full(n, np.log(share / len(new)), np.float32)
    log_probs[: len(unigrams)] = unigrams.log_probs + np.log1p(-share)
    back_offs = np.pad(unigrams.back_offs, (0, len(new)))
    more = Order(np.zeros(n, np.int32), np.arange(n, dtype=np.int32), log_probs, back_offs)
    return NGramModel((*model.words, *new), [more, *longer])


def read_dictionary(path: Path) -> Lexicon:
    """A pronouncing dictionary in the form of CMUdict or of our lexicons; ManifestError if it is none."""
    with readable(path, "dictionary", ManifestError):
        entries = read_cmudict(path)
    known = set(PHONES[1:])
    for word, variants in entries.items():
        for phones in variants:
            if not phones or not known.issuperset(phones.split()):
                raise ManifestError(f"{path}: '{word}' is said '{phones}', which are no phones of CMUdict")
    if not entries:
        raise ManifestError(f"{path}: holds no pronunciations")
    return Lexicon({word: [tuple(phones.split()) for phones in found] for word, found in entries.items()})


def pronounce(
    model: NGramModel,
    lexicon: Lexicon,
    pronouncer: Pronouncer | None = None,
    known: Pronunciations | None = None,
) -> Pronunciations:
    """The phones of all words of a model; LanguageModelError when none can be pronounced.

    known: those of the model's first words, which need no others. Words that neither it nor the lexicon
    has are pronounced by the pronouncer, if there is one.
    """
    index = {symbol: i for i, symbol in enumerate(Labels.of_kind("phones").symbols)}
    done = set() if known is None else set(known.words.tolist())
    spoken = {
        i: lexicon.pronunciations[word]
        for word, i in model.ids.items()
        if i not in done and word in lexicon.pronunciations
    }
    if pronouncer is not None:
        lacking = [
            (i, word) for word, i in model.ids.items() if i > END and i not in done and i not in spoken
        ]
        lacking = [(i, word) for i, word in lacking if re.fullmatch(SAYABLE, word)]
        variants = pronouncer.pronounce_all([word for _, word in lacking], _VARIANTS)
        spoken |= {i: found for (i, _), found in zip(lacking, variants, strict=True)}
    found = Pronunciations.of(
        ([index[phone] for phone in phones], i) for i, variants in spoken.items() for phones in variants
    )
    if known is not None:
        found = known.joined(found)
    if not len(found.words):
        raise LanguageModelError("the lexicon pronounces no word of the language model")
    return found


def perplexity(
    model: NGramModel, sentences: Iterable[str], mixture: Mixture | None = None
) -> tuple[float, float]:
    """Perplexity of normalised sentences, their ends counted, and the share of words it does not know.

    mixture: of the model and a recurrent one.
    """
    total, n_tokens, n_unknown, n_words = 0.0, 0, 0, 0
    for sentence in sentences:
        words = sentence.split()
        log_probs = model.score_sentence(words)
        total += sum(log_probs)
        if mixture is not None:
            total += mixture.sentence_gain([model.ids.get(word, UNKNOWN) for word in words], log_probs)
        n_tokens += len(words) + 1
        n_words += len(words)
        n_unknown += sum(word not in model.ids for word in words)
    return float(np.exp(-total / max(n_tokens, 1))), n_unknown / max(n_words, 1)


def read_sentences(paths: Iterable[Path]) -> Iterator[str]:
    """Normalised lines of text files, plain or compressed, and texts of manifests, without the empty ones."""
    for path in paths:
        if path.suffix == ".jsonl":
            yield from filter(None, (normalize(utterance.text) for utterance in read_manifest(path)))
        else:
            with readable(path, "text", ManifestError), open_text(path) as file:
                yield from filter(None, map(normalize, file))


@dataclass(frozen=True)
class Trial:
    """Weights and the word error rate that they gave."""

    options: DecoderOptions
    word_error: float


GRID = {"prior_weight": 0.1, "lm_weight": 0.1, "word_score": 0.5}  # what is tuned, and in which steps


def tune(
    recognizer: Recognizer,
    utterances: Sequence[tuple[str, list[dict[str, np.ndarray]]]],
    start: DecoderOptions,
    on_trial: Callable[[Trial], None] | None = None,
    grid: Mapping[str, float] = GRID,
) -> list[Trial]:
    """All trials of a search for the best weights, one weight at a time until none gets better.

    utterances: normalised reference and Recognizer.log_probs() of each, computed once. grid: as GRID.
    """
    tried: dict[DecoderOptions, Trial] = {}

    def word_error(options: DecoderOptions) -> float:
        if options not in tried:
            with recognizer.with_decoding(options).in_processes(1) as together:
                pending = [(reference, together.decoding(outputs)) for reference, outputs in utterances]
                counts = [count_words(reference, heard.result().text) for reference, heard in pending]
            rate = sum_counts(counts).rate
            tried[options] = Trial(options, rate)
            if on_trial:
                on_trial(tried[options])
        return tried[options].word_error

    best, is_better = start, True
    while is_better:
        is_better = False
        for name, step in grid.items():
            for direction in (step, -step):
                while True:
                    value = round(getattr(best, name) + direction, 3)
                    following = replace(best, **{name: value})
                    if (value < 0 and name != "word_score") or word_error(following) >= word_error(best):
                        break
                    best, is_better = following, True
    return sorted(tried.values(), key=lambda trial: trial.word_error)
