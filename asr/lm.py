"""Making language models from text, and tuning how much they weigh."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asr.decoding.arpa import read_arpa
from asr.decoding.decoder import DecoderOptions
from asr.decoding.language import Language
from asr.decoding.ngram import UNKNOWN, NGramModel, Order
from asr.decoding.prefix_tree import Pronunciations
from asr.decoding.prune import prune
from asr.decoding.recurrent import Mixture
from asr.decoding.spelling import with_spelling
from asr.errors import LanguageModelError, ManifestError
from asr.evaluation import count_words, sum_counts
from asr.files import open_text, readable
from asr.labels import PHONES, Labels, Lexicon, read_cmudict
from asr.manifest import read_manifest
from asr.recognizer import Recognizer
from asr.text import normalize


@dataclass(frozen=True)
class BuildOptions:
    order: int = 3
    count_prune: tuple[int, ...] = ()  # n-grams of each order seen so often or less are dropped (lmplz)
    vocabulary: int = 120_000  # words kept, the most frequent first
    spelling: float = 0.7  # probability that a letter is followed by more of a spelling; 0: as in the text
    added_share: float = 0.1  # of the unigrams' probability, for all added words together
    entropy_prune: float = 0.0  # relative rise of perplexity up to which an n-gram is dropped
    memory: str = "50%"  # that lmplz may use for sorting


def build(
    paths: Sequence[Path],
    lexicon: Lexicon | None,
    options: BuildOptions = BuildOptions(),
    added: Lexicon | None = None,
) -> Language:
    """A language from text files (plain or .xz, a sentence a line), or from one ARPA file.

    Text is normalised as training labels are. Without a lexicon its words are spelled in characters.
    added: what can be recognised too where the text lacks it.
    """
    if is_arpa(paths[0]):
        if len(paths) > 1:
            raise LanguageModelError(f"{paths[1]}: an ARPA file is converted by itself; give no second file")
        model = read_arpa(paths[0])
    else:
        model = _count(paths, options)
    if options.entropy_prune:
        model = prune(model, options.entropy_prune)
    model = with_spelling(model, options.spelling)
    if added is not None:
        model = with_words(model, added.pronunciations, options.added_share)
        if lexicon is not None:
            lexicon = Lexicon({**added.pronunciations, **lexicon.pronunciations})
    return Language(model, None if lexicon is None else pronounce(model, lexicon))


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


def is_arpa(path: Path) -> bool:
    return ".arpa" in path.suffixes


def pronounce(model: NGramModel, lexicon: Lexicon) -> Pronunciations:
    """The phones of all words of a model that the lexicon has; LanguageModelError when it has none."""
    index = {symbol: i for i, symbol in enumerate(Labels.of_kind("phones").symbols)}
    found = Pronunciations.of(
        ([index[phone] for phone in phones], i)
        for word, i in model.ids.items()
        for phones in lexicon.pronunciations.get(word, ())
    )
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
    """Normalised lines of text files, plain or .xz, and texts of manifests, without the empty ones."""
    for path in paths:
        if path.suffix == ".jsonl":
            yield from filter(None, (normalize(utterance.text) for utterance in read_manifest(path)))
        else:
            with readable(path, "text", ManifestError), open_text(path) as file:
                yield from filter(None, map(normalize, file))


def _count(paths: Sequence[Path], options: BuildOptions) -> NGramModel:
    with tempfile.TemporaryDirectory(prefix="asr-lm-") as folder:
        text, vocabulary = Path(folder) / "text", Path(folder) / "vocabulary"
        _write_text(paths, text, vocabulary, options.vocabulary)
        return count_ngrams(text, options, vocabulary)


def count_ngrams(text: Path, options: BuildOptions, vocabulary: Path | None = None) -> NGramModel:
    """The modified Kneser-Ney model that KenLM's lmplz makes of blank-separated units.

    vocabulary: a file with the only units to keep; all others become <unk>.
    """
    program = shutil.which("lmplz")
    if program is None:
        raise LanguageModelError(
            "lmplz, the counting program of KenLM, is not on the PATH: recipes/english/lmplz.sh builds it"
        )
    with tempfile.TemporaryDirectory(prefix="asr-lm-") as folder:
        arpa = Path(folder) / "lm.arpa"
        command = [program, "-o", str(options.order), "--text", str(text), "--arpa", str(arpa)]
        command += ["-S", options.memory, "-T", folder]
        command += ["--discount_fallback"]  # small texts lack the counts that discounts come from
        if vocabulary is not None:
            command += ["--limit_vocab_file", str(vocabulary)]
        if options.count_prune:
            command += ["--prune", *map(str, options.count_prune)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            reason = " ".join(result.stderr.split())[-300:]
            raise LanguageModelError(f"lmplz failed: {reason}")
        return read_arpa(arpa)


def _write_text(paths: Sequence[Path], text: Path, vocabulary: Path, n_words: int) -> None:
    counts: dict[str, int] = {}
    with text.open("w", encoding="utf-8") as file:
        for sentence in read_sentences(paths):
            file.write(f"{sentence}\n")
            for word in sentence.split():
                counts[word] = counts.get(word, 0) + 1
    if not counts:
        raise ManifestError(f"{paths[0]}: no words to count")
    kept = sorted(counts, key=lambda word: (-counts[word], word))[:n_words]
    vocabulary.write_text(" ".join(kept), encoding="utf-8")


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
