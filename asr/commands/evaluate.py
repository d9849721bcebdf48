"""asr evaluate MANIFEST: error rates of a model, by corpus and in total."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import arguments
from asr.commands import (
    add_confidence_option,
    add_decoder_options,
    add_engine_option,
    add_model_options,
    load_recognizer,
    print_failures,
    protect_inputs,
)
from asr.errors import ExitStatus, ManifestError

if TYPE_CHECKING:
    from asr.evaluation import Evaluation


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        description="Transcribe the recordings of a manifest and compare with its texts. Both are "
        "normalised as for training: lower case, no punctuation, numbers as words.",
    )
    parser.add_argument("manifest", metavar="MANIFEST", help="JSON lines with audio, text, duration")
    add_model_options(parser)
    add_engine_option(parser)
    parser.add_argument("--corpus", metavar="NAME", help="only the rows of this corpus")
    parser.add_argument("--limit", type=arguments.count, metavar="N", help="only the first N rows")
    parser.add_argument("--lexicon", metavar="FILE", help="count phone errors by these pronunciations")
    parser.add_argument(
        "--errors", metavar="FILE", help="write the utterances with errors, aligned, the worst first"
    )
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    add_decoder_options(parser, leaves_out=["nbest"])
    add_confidence_option(parser)


def run(args: argparse.Namespace) -> ExitStatus:
    from asr.manifest import read_manifest

    failures: list[str] = []
    try:
        utterances = read_manifest(args.manifest, corpus=args.corpus, limit=args.limit, failures=failures)
    finally:
        print_failures(failures)
    protect_inputs(args, "errors", read=[utterance.audio for utterance in utterances])

    from asr.evaluation import error_report, evaluate
    from asr.files import write_text
    from asr.labels import Lexicon
    from asr.searches import n_processes

    lexicon = Lexicon.load(args.lexicon) if args.lexicon else None
    recognizer = load_recognizer(args)
    with _progress(len(utterances), quiet=args.quiet) as on_progress:
        evaluation = evaluate(recognizer, utterances, lexicon, on_progress, n_processes(args.threads))
    if args.errors:
        write_text(Path(args.errors), error_report(evaluation), overwrite=True)
    failures += evaluation.failures
    print_failures(evaluation.failures)
    if not evaluation.results:
        raise ManifestError(f"{args.manifest}: no recording of it could be transcribed")
    _show(evaluation, as_json=args.json, n_failures=len(failures))
    if failures:
        print(f"asr data validate {args.manifest} lists all that is wrong with it", file=sys.stderr)
    return ExitStatus.SOME_FAILED if failures else ExitStatus.OK


def _show(evaluation: Evaluation, *, as_json: bool, n_failures: int) -> None:
    from asr.evaluation import calibration_error, sum_counts

    rows = []
    for corpus, results in evaluation.by_corpus().items():
        words = sum_counts([result.words for result in results])
        characters = sum_counts([result.characters for result in results])
        phones = sum_counts([result.phones for result in results])
        rows.append(
            {
                "corpus": corpus,
                "utterances": len(results),
                "words": words.length,
                "wer": round(100 * words.rate, 2),
                "cer": round(100 * characters.rate, 2),
                "per": round(100 * phones.rate, 2) if phones.length else None,
                "substitutions": words.substitutions,
                "deletions": words.deletions,
                "insertions": words.insertions,
            }
        )
    factor = evaluation.seconds_taken / max(evaluation.seconds_of_audio, 1e-9)
    off = calibration_error([pair for result in evaluation.results for pair in result.confidences])
    if as_json:
        import json

        figures = {"real_time_factor": round(factor, 5), "calibration_error": round(off, 4)}
        print(json.dumps({"corpora": rows, **figures, "failures": n_failures}))
        return
    names = list(rows[0])
    table = [names] + [["-" if row[n] is None else str(row[n]) for n in names] for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(names))]
    for line in table:
        cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells))
    print(
        f"{evaluation.seconds_of_audio:.0f} s of audio in {evaluation.seconds_taken:.0f} s: "
        f"real-time factor {factor:.4f} ({1 / max(factor, 1e-9):.0f} x real time)"
    )
    print(f"words' probabilities are off by {off:.3f} on average")
    if n_failures:
        print(f"{n_failures} rows could not be used and are not in these figures")


@contextlib.contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("transcribing", total=total)
        yield lambda n_done: progress.update(task, completed=n_done)
