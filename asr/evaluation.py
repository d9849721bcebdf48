"""A Recognizer over a manifest -> error rates, errors and the worst utterances."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jiwer
import numpy as np

from asr.audio import SAMPLE_RATE, read_audio
from asr.decoding.greedy import best_path
from asr.errors import AudioError
from asr.labels import Lexicon, targets
from asr.manifest import Utterance
from asr.recognizer import Pending, Recognizer
from asr.text import normalize
from asr.transcript import Word

_MOST_WAITING = 256  # utterances that the search may be behind


@dataclass
class Counts:
    """Edits between references and hypotheses, in words, characters or phones."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0  # of the references

    @property
    def rate(self) -> float:
        edits = self.substitutions + self.deletions + self.insertions
        return edits / self.length if self.length else float(edits > 0)

    def add(self, other: Counts) -> None:
        self.substitutions += other.substitutions
        self.deletions += other.deletions
        self.insertions += other.insertions
        self.length += other.length


@dataclass(frozen=True)
class Result:
    """One utterance: normalised texts and what differs."""

    utterance: Utterance
    reference: str
    hypothesis: str
    words: Counts
    characters: Counts
    phones: Counts | None  # None: no phone output, no lexicon, or a word that is not in it
    confidences: tuple[tuple[float, bool], ...] = ()  # of each word heard: its probability; was it right?


@dataclass
class Evaluation:
    """failures: one line for each utterance whose recording cannot be read; it has no result."""

    results: list[Result] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds_of_audio: float = 0.0
    seconds_taken: float = 0.0

    def by_corpus(self) -> dict[str, list[Result]]:
        """Results of each corpus in order of first appearance, and of all together as "total"."""
        groups: dict[str, list[Result]] = defaultdict(list)
        for result in self.results:
            groups[result.utterance.corpus or "-"].append(result)
        if len(groups) > 1:
            groups["total"] = self.results
        return dict(groups)


def calibration_error(confidences: Sequence[tuple[float, bool]], n_bins: int = 10) -> float:
    """Expected calibration error: how far, on average, probabilities are from the share of right words.

    Words are put into bins of equal width by their probability (Guo et al. 2017).
    """
    error = 0.0
    for members in bins(confidences, n_bins):
        if members:
            error += abs(sum(p for p, _ in members) - sum(right for _, right in members))
    return error / max(len(confidences), 1)


def bins(confidences: Sequence[tuple[float, bool]], n_bins: int = 10) -> list[list[tuple[float, bool]]]:
    """The words of each tenth of probability."""
    groups: list[list[tuple[float, bool]]] = [[] for _ in range(n_bins)]
    for probability, right in confidences:
        groups[min(int(probability * n_bins), n_bins - 1)].append((probability, right))
    return groups


def judge_words(reference: str, words: Sequence[Word]) -> tuple[tuple[float, bool], ...]:
    """Of each word heard, its probability and whether the reference has it in this place."""
    # A word may normalise to several or to none; what becomes of it shares its probability.
    pairs = [(text, word.probability) for word in words for text in normalize(word.text).split()]
    right = [False] * len(pairs)
    if reference and pairs:
        measured = jiwer.process_words(reference, " ".join(text for text, _ in pairs))
        for chunk in measured.alignments[0]:
            if chunk.type == "equal":
                right[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (
                    chunk.hyp_end_idx - chunk.hyp_start_idx
                )
    return tuple((probability, is_right) for (_, probability), is_right in zip(pairs, right, strict=True))


def sum_counts(counts: Sequence[Counts | None]) -> Counts:
    total = Counts()
    for one in counts:
        if one is not None:
            total.add(one)
    return total


def count_words(reference: str, hypothesis: str) -> Counts:
    """Edits between two texts of blank-separated units."""
    if not reference:  # jiwer refuses an empty reference
        return Counts(insertions=len(hypothesis.split()))
    measured = jiwer.process_words(reference, hypothesis)
    return Counts(
        measured.substitutions, measured.deletions, measured.insertions, len(reference.split())
    )


def count_characters(reference: str, hypothesis: str) -> Counts:
    """Edits between two texts letter by letter, spaces included."""
    if not reference:
        return Counts(insertions=len(hypothesis))
    measured = jiwer.process_characters(reference, hypothesis)
    return Counts(measured.substitutions, measured.deletions, measured.insertions, len(reference))


def evaluate(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    lexicon: Lexicon | None = None,
    on_progress: Callable[[int], None] | None = None,
    n_processes: int = 1,
) -> Evaluation:
    """Transcribe every utterance by the path that files take, and count the errors.

    Both texts are normalised as the training labels are. lexicon: to count phone errors as well.
    n_processes: to search in, as Recognizer.in_processes() has it.
    A recording that cannot be read is left out and named.
    """
    evaluation = Evaluation()
    began = time.perf_counter()
    waiting: deque[tuple[Utterance, Counts | None, Pending]] = deque()
    with recognizer.in_processes(n_processes) as together:

        def finish(most_waiting: int) -> None:
            while waiting and (len(waiting) > most_waiting or waiting[0][2].done()):
                evaluation.results.append(_result(*waiting.popleft()))
                if on_progress:
                    on_progress(len(evaluation.results))

        for utterance in utterances:
            try:
                samples = read_audio(utterance.audio)
            except AudioError as error:
                evaluation.failures.append(f"{utterance.id}: {error}")
                continue
            outputs = list(together.log_probs([samples]))
            phones = _count_phones(together, utterance, outputs, lexicon)
            waiting.append((utterance, phones, together.decoding(outputs)))
            evaluation.seconds_of_audio += len(samples) / SAMPLE_RATE
            finish(_MOST_WAITING)
        finish(0)
    evaluation.seconds_taken = time.perf_counter() - began
    return evaluation


def _count_phones(
    recognizer: Recognizer,
    utterance: Utterance,
    outputs: Sequence[dict[str, np.ndarray]],
    lexicon: Lexicon | None,
) -> Counts | None:
    labels = recognizer.metadata.labels.get("phones")
    target = targets(labels, normalize(utterance.text), lexicon) if labels and lexicon else None
    if not (labels and target and outputs):
        return None
    spoken = best_path(np.concatenate([output["phones"] for output in outputs]))
    return count_words(labels.decode(target), labels.decode(spoken))


def _result(utterance: Utterance, phones: Counts | None, pending: Pending) -> Result:
    transcript = pending.result()
    reference, hypothesis = normalize(utterance.text), normalize(transcript.text)
    return Result(
        utterance,
        reference,
        hypothesis,
        count_words(reference, hypothesis),
        count_characters(reference, hypothesis),
        phones,
        judge_words(reference, transcript.words),
    )


def error_report(evaluation: Evaluation) -> str:
    """Every utterance with errors, the worst first, reference and hypothesis aligned."""
    wrong = [result for result in evaluation.results if result.reference != result.hypothesis]
    wrong.sort(key=lambda result: (-result.words.rate, result.utterance.id))
    parts = []
    for result in wrong:
        head = f"{result.utterance.id}\t{100 * result.words.rate:.1f} % word errors"
        if result.reference:
            aligned = jiwer.visualize_alignment(
                jiwer.process_words(result.reference, result.hypothesis),
                show_measures=False,
                skip_correct=False,
            )
            # The library heads each sentence with its number; the utterance's name says more.
            body = "\n".join(line for line in aligned.splitlines() if line[:4] in {"REF:", "HYP:", "    "})
        else:
            body = f"REF:\nHYP: {result.hypothesis}"
        parts.append(f"{head}\n{body}\n")
    return "\n".join(parts)
