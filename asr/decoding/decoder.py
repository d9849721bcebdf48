"""Decoders: log-probabilities of one utterance, whole or as they arrive -> words with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from asr import align
from asr.align import Span
from asr.decoding import language as languages
from asr.decoding import recurrent as recurrents
from asr.decoding.beam import BeamSearch, Found, search_all
from asr.decoding.grammar import Grammar, GrammarModel
from asr.decoding.graph import BeamConfig, Graph, LanguageModel, Phrase
from asr.decoding.greedy import GreedyDecoder, best_path
from asr.decoding.hotwords import HotWord
from asr.decoding.lanes import Hypothesis
from asr.decoding.language import Language
from asr.decoding.limits import LIMITS, is_allowed
from asr.decoding.ngram import SPECIAL_WORDS, UNKNOWN
from asr.decoding.prefix_tree import PrefixTree, Pronunciations
from asr.decoding.recurrent import RecurrentModel
from asr.errors import LanguageModelError, UsageError
from asr.labels import BLANK, SPACE_SYMBOL, Labels
from asr.transcript import MIN_CONFIDENCE, Alternative, Segment, Word

Pronounce = Callable[[Sequence[str]], Sequence[Sequence[Sequence[str]]]]  # the likeliest phones of each word


# What a language's file may set, and from where to where: more would take hours.
_SETTINGS: dict[str, tuple[float, float]] = {
    "beam_size": (1, 20_000),
    "label_beam": (1, 64),
    "threshold": (0.0, 200.0),
    "acoustic_scale": (0.01, 100.0),
    "lm_weight": (0.0, 100.0),
    "word_score": (-100.0, 100.0),
    "recurrent_share": (0.0, 1.0),
    "prior_weight": (0.0, 10.0),
    "certain_blank": (0.5, 1.0),
}
_GRAMMAR_THRESHOLD = 60.0  # of the search: few phrases are allowed, and the right one may begin badly
# Natural logarithms a label: allowed phrases lose 0.7 of them at most against the likeliest labels, other
# speech 2.2 or more (AN4 against LibriSpeech, Common Voice and speechocean762).
_WORST_MARGIN = 1.25


class Decoder(Protocol):
    """One utterance after another; what it keeps of each is bounded by the utterance's length."""

    output: str  # the output of the model that it reads
    may_retract: bool  # whether end() may take back words that partial() gave, all of them
    alternatives: tuple[Alternative, ...]  # after end(), if asked for: the likeliest texts, the best first

    def begin(self, offset: float = 0.0) -> None:
        """Forget everything; frame 0 of the new utterance is `offset` seconds into the recording."""

    def step(self, log_probs: np.ndarray) -> None:
        """Take (frames, labels), perhaps of no frames."""

    def partial(self) -> tuple[Word, ...]:
        """The best words so far; later steps may change them."""

    def agreement(self, n_words: int) -> Sequence[float]:
        """Of each of the last n words that partial() gave, how sure it is to stay: 0 to 1."""

    def end(self) -> tuple[Word, ...]:
        """The best words, now that the utterance is over."""


@dataclass(frozen=True)
class DecoderOptions:
    """What a user may choose; None leaves the value to the language model's file or the default.

    Weights and scores are of natural logarithms; asr.decoding.limits has their ranges.
    """

    beam_size: int | None = None  # 1: greedy
    lm: str = "auto"  # a language's path, "none", or "auto": the shipped one, if the model has phones
    recurrent: str = (
        "auto"  # a recurrent model's path, "none", or "auto": the shipped one with its language or a mixture
    )
    lm_weight: float | None = None
    recurrent_share: float | None = None
    word_score: float | None = None
    acoustic_scale: float | None = None
    prior_weight: float | None = None
    hot_words: tuple[HotWord, ...] = ()
    n_best: int = 1  # texts of each segment to tell
    grammar: Grammar | tuple[tuple[str, ...], ...] = ()  # the only phrases that may be said, if any
    min_confidence: float = MIN_CONFIDENCE  # of segments, as are_believable() has it; 0: off

    def __post_init__(self) -> None:
        """Raises UsageError for a value outside asr.decoding.limits.LIMITS."""
        values = [(name, getattr(self, name)) for name in LIMITS if hasattr(self, name)]
        for name, value in [*values, *(("boost", word.boost) for word in self.hot_words)]:
            if value is not None and not is_allowed(name, value):
                smallest, largest = LIMITS[name]
                raise UsageError(f"{name} is {value}, which is not {smallest:g} to {largest:g}")


class DecoderFactory:
    """Makes decoders that share one language, for the outputs of one model."""

    def __init__(
        self,
        labels: Mapping[str, Labels],
        log_priors: Mapping[str, np.ndarray],
        options: DecoderOptions,
        language: Language | None,
        pronounce: Pronounce | None = None,
        info: Mapping[str, Any] | None = None,
        like: DecoderFactory | None = None,
    ) -> None:
        """language: as find_language() gives it. UsageError when the model lacks the labels for it.
        pronounce: the phones of words that the language does not have, for hot words.
        info: what the model's file says of its phones: "acoustic_scale", as BeamConfig has it, and
        "calibration", offset and slope of the words' probabilities.
        like: one with the same labels, options and language, for another model: its search graph is used.
        """
        if options.grammar and (options.beam_size == 1 or options.hot_words):
            raise UsageError("a grammar needs a beam search, and goes without hot words")
        if options.beam_size == 1 and options.n_best > 1:
            raise UsageError("several texts of a segment need a beam search")
        self._n_best = options.n_best
        self._beam_is_chosen = options.beam_size is not None
        is_open = language is None and not options.grammar
        is_greedy = options.beam_size == 1 or (is_open and options.beam_size is None)
        with_phones = not is_greedy and language is not None and language.pronunciations is not None
        self.output = "phones" if with_phones and "phones" in labels else "characters"
        if self.output not in labels:
            raise UsageError(f"the model has no {self.output} among its outputs, which this needs")
        self.language = language
        self._labels = labels[self.output]
        self._log_priors = log_priors.get(self.output)
        self.probability: Callable[[float], float] = float  # of a word, from its mean posterior
        fitted = info if info and self.output == "phones" else {}
        if "calibration" in fitted:
            self.probability = align.Calibration(**fitted["calibration"])
        self._graph: Graph | None = None
        self._is_closed = bool(options.grammar)
        config = _beam_config(options, language, fitted.get("acoustic_scale"))
        if like is not None and like._graph is not None:
            self._graph = copy(like._graph)
            self._graph.config = config
        elif not is_greedy:
            lm: LanguageModel | None = None if language is None else language.lm
            pronunciations = None if language is None else language.pronunciations
            if options.grammar:
                grammar = options.grammar
                lm = GrammarModel(grammar if isinstance(grammar, Grammar) else Grammar.of(grammar))
                if language is not None and self.output == "phones":
                    assert language.pronunciations is not None
                    words = [word for word in lm.words if word not in SPECIAL_WORDS]
                    found = _variants(words, language.lm, language.pronunciations, self._labels, pronounce)
                    pronunciations = Pronunciations.of(
                        (spoken, lm.ids[word]) for word in words for spoken in found[word]
                    )
            self._graph = _graph(
                lm,
                None if language is None else language.recurrent,
                pronunciations,
                self._labels,
                config,
                options.hot_words,
                pronounce,
            )
        elif options.hot_words:
            raise UsageError("hot words need a beam search")

    @property
    def config(self) -> BeamConfig | None:
        """Of the searches; None when decoders are greedy."""
        return None if self._graph is None else self._graph.config

    def narrowed(self, beam_size: int, threshold: float) -> DecoderFactory:
        """The same whose searches ask n-grams alone, and keep fewer hypotheses if the user has not chosen how
        many (both as in BeamConfig); those of a grammar are few anyway."""
        other = copy(self)
        if self._graph is not None:
            config = self._graph.config
            other._graph = copy(self._graph)
            if not (self._beam_is_chosen or self._is_closed):
                other._graph.config = replace(
                    config,
                    beam_size=min(beam_size, config.beam_size),
                    threshold=min(threshold, config.threshold),
                )
            other._graph.mixture = None
        return other

    def __call__(self) -> Decoder:
        return GreedyDecoder(self._labels) if self._graph is None else self._beam_decoder(self._graph)

    def _beam_decoder(self, graph: Graph) -> BeamDecoder:
        return BeamDecoder(
            graph,
            self._labels,
            self._log_priors,
            self.probability,
            n_best=self._n_best,
            is_closed=self._is_closed,
        )

    def decode_all(self, utterances: Sequence[tuple[np.ndarray, float]]) -> list[Segment | None]:
        """What is said in whole utterances, (frames, labels) and where in the recording each begins, in
        seconds; None for nothing. Each is what a decoder of its own would find, but many take less time.
        """
        return [
            replace(Segment.of(words), alternatives=decoder.alternatives) if words else None
            for decoder, words in self._decoded(utterances)
        ]

    def _decoded(
        self, utterances: Sequence[tuple[np.ndarray, float]]
    ) -> Iterator[tuple[Decoder, tuple[Word, ...]]]:
        if self._graph is None:
            greedy = self()
            for log_probs, offset in utterances:
                greedy.begin(offset)
                greedy.step(log_probs)
                yield greedy, greedy.end()
            return
        decoder = self._beam_decoder(self._graph)
        closing = decoder.closing
        closed = [np.concatenate([log_probs, closing]) for log_probs, _ in utterances]
        found = search_all(self._graph, closed, self._log_priors, self._n_best)
        for (log_probs, offset), each in zip(utterances, found, strict=True):
            decoder.begin(offset)
            decoder.hear(log_probs)
            yield decoder, decoder.conclude(each)


def file_of_recurrent(choice: str, shipped: Path | None) -> Path | None:
    """The recurrent model of DecoderOptions.recurrent. shipped: what "auto" stands for."""
    if choice == "auto":
        return shipped
    return None if choice == "none" else Path(choice)


def find_language(
    options: DecoderOptions,
    labels: Mapping[str, Labels],
    shipped: Path | None,
    shipped_recurrent: Path | None = None,
) -> Language | None:
    """The language that the options ask for. shipped...: what "auto" stands for, if there is such a file."""
    if options.lm == "none" or options.beam_size == 1:
        if options.recurrent not in ("auto", "none"):
            raise UsageError("a recurrent language model goes with one of n-grams")
        return None
    recurrent_of_shipped = shipped_recurrent
    if options.lm != "auto":
        shipped, shipped_recurrent = Path(options.lm), None  # another language, which knows other words
    elif "phones" not in labels:
        shipped = None
    if shipped is None:
        return None
    language = languages.load(shipped)
    if options.lm != "auto" and "mixed" in language.info:  # with the shipped one, whose words it has
        shipped_recurrent = recurrent_of_shipped
    path = file_of_recurrent(options.recurrent, shipped_recurrent)
    if path is None or options.grammar:
        return language
    return replace(language, recurrent=recurrents.load(path))


def _beam_config(
    options: DecoderOptions, language: Language | None, acoustic_scale: float | None
) -> BeamConfig:
    """acoustic_scale: the model's own."""
    tuned = {} if language is None else language.info.get("decoding", {})
    if not isinstance(tuned, dict):
        raise LanguageModelError("a language whose settings are no table")
    tuned = dict(tuned)
    names = {field.name for field in fields(BeamConfig)}
    if unknown := tuned.keys() - names:
        raise LanguageModelError(f"a language with unknown settings: {', '.join(sorted(unknown))}")
    for name, value in tuned.items():
        low, high = _SETTINGS[name]
        wants = int if isinstance(low, int) else (int, float)
        if not isinstance(value, wants) or isinstance(value, bool) or not low <= value <= high:
            raise LanguageModelError(
                f"a language whose {name} is {str(value)[:30]}: it must be {low} to {high}"
            )
    if language is None:
        tuned = {"word_score": 0.0, "prior_weight": 0.0}
    elif acoustic_scale is not None and not options.grammar:
        tuned["acoustic_scale"] = acoustic_scale
    chosen = {name: value for name, value in vars(options).items() if name in names and value is not None}
    if options.grammar:
        chosen |= {"lm_weight": 1.0, "word_score": 0.0, "threshold": _GRAMMAR_THRESHOLD}
    return replace(BeamConfig(), **tuned | chosen)


def _graph(
    lm: LanguageModel | None,
    recurrent: RecurrentModel | None,
    pronunciations: Pronunciations | None,
    labels: Labels,
    config: BeamConfig,
    hot_words: Sequence[HotWord],
    pronounce: Pronounce | None,
) -> Graph:
    """The search graph: words by their phones, else by their characters, else any characters at all."""
    if lm is None:
        if hot_words:
            raise UsageError("hot words need a language model")
        singles = Pronunciations.of(([label], label) for label in range(1, len(labels)))
        return Graph(PrefixTree(singles, len(labels)), None, config)
    if labels.kind == "characters":
        known = set(labels.symbols) - {SPACE_SYMBOL}
        pronunciations = Pronunciations.of(
            (labels.encode(f"{word} "), i) for i, word in enumerate(lm.words) if known.issuperset(word)
        )
    assert pronunciations is not None
    if not len(pronunciations.words):
        raise LanguageModelError(f"no word of the language model is made of the model's {labels.kind}")
    phrases = [
        Phrase(hot.text, tuple(lm.ids.get(word, UNKNOWN) for word in hot.text.split()), hot.boost)
        for hot in hot_words
    ]
    if phrases:
        spoken = (
            (spelling, len(lm.words) + i)
            for i, spellings in enumerate(_spellings(phrases, lm, pronunciations, labels, pronounce))
            for spelling in spellings
        )
        pronunciations = pronunciations.joined(Pronunciations.of(spoken))
    return Graph(PrefixTree(pronunciations, len(labels)), lm, config, phrases, recurrent)


def pronunciations_of(
    word: str, language: Language, labels: Labels, pronounce: Pronounce | None
) -> list[list[int]]:
    """The phones of a word by the language or, where it lacks the word, by pronounce; else UsageError."""
    assert language.pronunciations is not None
    return _variants([word], language.lm, language.pronunciations, labels, pronounce)[word]


def _variants(
    words: Iterable[str],
    lm: LanguageModel,
    pronunciations: Pronunciations,
    labels: Labels,
    pronounce: Pronounce | None,
) -> dict[str, list[list[int]]]:
    """pronunciations_of() each word, all found together."""
    words = list(dict.fromkeys(words))
    known = pronunciations.of_words(lm.ids[word] for word in words if word in lm.ids)
    found = {word: known[i] for word in words if (i := lm.ids.get(word, UNKNOWN)) in known}
    lacking = [word for word in words if word not in found]
    if lacking and pronounce is not None:
        for word, variants in zip(lacking, pronounce(lacking), strict=True):
            found[word] = [labels.encode(phones) for phones in variants]
    for word in lacking:
        if not found.get(word):
            raise UsageError(f"'{word}': no lexicon has it, and nothing here can pronounce it")
    return found


def _spellings(
    phrases: Sequence[Phrase],
    lm: LanguageModel,
    pronunciations: Pronunciations,
    labels: Labels,
    pronounce: Pronounce | None,
) -> list[list[list[int]]]:
    """The label sequences of each phrase: those of its words one after another, the variants of one each."""
    if labels.kind == "characters":
        return [[labels.encode(f"{phrase.text} ")] for phrase in phrases]
    said = [phrase.text.split() for phrase in phrases]
    variants = _variants((word for words in said for word in words), lm, pronunciations, labels, pronounce)
    return [
        variants[words[0]] if len(words) == 1 else [[label for word in words for label in variants[word][0]]]
        for words in said
    ]


class BeamDecoder:
    """Words as the beam search finds them, with times from aligning their labels once more."""

    def __init__(
        self,
        graph: Graph,
        labels: Labels,
        log_priors: np.ndarray | None,
        probability: Callable[[float], float],
        *,
        n_best: int = 1,
        is_closed: bool = False,
    ) -> None:
        """is_closed: the graph allows certain phrases only; what is unlike all of them gives no words."""
        self.output = labels.kind
        self.may_retract = is_closed
        self._graph, self._labels, self._log_priors = graph, labels, log_priors
        self._probability = probability
        self._n_best = n_best
        self.begin()

    def begin(self, offset: float = 0.0) -> None:
        self._offset = offset
        self.__dict__.pop("_search", None)
        self._blocks: list[np.ndarray] = []
        self._n_frames = 0
        self._placed = _Placed(Hypothesis((), (), 0.0), (), ())
        self.alternatives: tuple[Alternative, ...] = ()

    @cached_property
    def _search(self) -> BeamSearch:
        """Of the utterance, if it is searched here."""
        return BeamSearch(self._graph, self._log_priors)

    def step(self, log_probs: np.ndarray) -> None:
        self.hear(log_probs)
        self._search.step(log_probs)

    def hear(self, log_probs: np.ndarray) -> None:
        """Take frames that are searched elsewhere."""
        self._blocks.append(log_probs)
        self._n_frames += len(log_probs)

    def partial(self) -> tuple[Word, ...]:
        """The best words so far. Those that are new are aligned, and the one before them, whose end had
        perhaps not been heard; the others stay where they were until end() aligns all."""
        best, before = self._search.best(), self._placed
        if best.words != before.hypothesis.words or best.nodes != before.hypothesis.nodes:
            n_same = _n_common(best.nodes, before.hypothesis.nodes)
            self._placed = self._place(best, before.spans[: max(0, n_same - 1)])
        return self._placed.words

    def agreement(self, n_words: int) -> Sequence[float]:
        if self._graph.lm is None:  # the search's words are characters
            return [1.0] * n_words
        return self._search.agreement(n_words)

    @property
    def closing(self) -> np.ndarray:
        """(0 or 1, labels) what a search needs to be told at the end."""
        if self.output != "characters" or self._graph.lm is None:
            return np.zeros((0, len(self._labels)), np.float32)
        # Spelled words end with a space, which the last one does not have in the recording.
        closing = np.full((1, len(self._labels)), -np.inf, np.float32)
        closing[0, [BLANK, self._labels.symbols.index(SPACE_SYMBOL)]] = 0
        return closing

    def end(self) -> tuple[Word, ...]:
        self._search.step(self.closing)
        return self.conclude(self._search.end(self._n_best))

    def conclude(self, found: Found) -> tuple[Word, ...]:
        """The words of what a search of all frames has found, which sets the alternatives too."""
        hypotheses = found.hypotheses
        if self.may_retract and not self._is_like(found):
            return ()
        if self._n_best > 1:
            self.alternatives = tuple(Alternative(self._text(h), h.score) for h in hypotheses)
        return self._place(hypotheses[0]).words

    def _text(self, hypothesis: Hypothesis) -> str:
        if self._graph.lm is None:  # its words are single characters
            return self._labels.decode(hypothesis.words)
        return " ".join(self._graph.text(word) for word in hypothesis.words)

    def _is_like(self, found: Found) -> bool:
        """Whether the best phrase may be what was said, rather than something that no phrase allows.

        A likelihood ratio: the phrase's score against that of the likeliest label of every frame, divided
        by how many labels these make.
        """
        heard = best_path(np.concatenate(self._blocks)) if self._blocks else []
        margin = found.hypotheses[0].score - found.best_path_score
        return margin >= -_WORST_MARGIN * max(len(heard), 1)

    def _place(self, hypothesis: Hypothesis, kept: tuple[Sequence[Span], ...] = ()) -> _Placed:
        """The words with their times. kept: the spans of the first of them, which stay where they are."""
        if not hypothesis.words:
            return _Placed(hypothesis, (), ())
        pronunciations = [self._graph.tree.pronunciation(node) for node in hypothesis.nodes[len(kept) :]]
        if self.output == "characters" and self._graph.lm is not None:
            pronunciations[-1] = pronunciations[-1][:-1]
        start = kept[-1][-1].end if kept else 0
        labels = [label for labels in pronunciations for label in labels]
        try:
            found = iter(align.forced_spans(self._log_probs(start), labels, start))
        except ValueError:
            if not kept:
                raise
            return self._place(hypothesis, kept[:-1])  # the last one had taken too many frames
        new = (list(islice(found, len(labels))) for labels in pronunciations)
        spans: tuple[Sequence[Span], ...] = (*kept, *new)
        if self._graph.lm is None:
            spelled = align.spelled([span for unit in spans for span in unit], self._labels)
            words = align.words(spelled, self._offset, self._probability)
        else:
            found_words = zip(map(self._graph.text, hypothesis.words), spans, strict=True)
            words = align.words(found_words, self._offset, self._probability)
        return _Placed(hypothesis, spans, words)

    def _log_probs(self, start: int) -> np.ndarray:
        """(frames, labels) from a frame of the utterance on."""
        blocks: list[np.ndarray] = []
        first = self._n_frames
        for block in reversed(self._blocks):
            if first <= start and blocks:
                break
            blocks.append(block)
            first -= len(block)
        return np.concatenate(blocks[::-1])[start - first :]


@dataclass(frozen=True)
class _Placed:
    """A hypothesis, the spans of each of its search's words, and its words with their times."""

    hypothesis: Hypothesis
    spans: tuple[Sequence[Span], ...]
    words: tuple[Word, ...]


def _n_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many of the first numbers of two sequences are the same."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)
