"""asr data prepare|validate: manifests from recordings, and what is wrong with them."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import arguments
from asr.commands import print_failures, protect_inputs
from asr.errors import ExitStatus, ManifestError, UsageError

if TYPE_CHECKING:
    from asr.manifest import Utterance
    from asr.validation import Validation


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "data",
        description="prepare: write the manifest of a folder of recordings, each with a .txt of the same "
        "name beside it, or of a CSV or TSV table with the columns audio and text. "
        "validate: look for what would spoil a training in a manifest and its recordings.",
    )
    parser.add_argument("action", choices=("prepare", "validate"))
    parser.add_argument("source", metavar="FOLDER|TABLE|MANIFEST")
    preparing = parser.add_argument_group("prepare")
    preparing.add_argument("-o", "--output", metavar="MANIFEST", help="the manifest to write")
    preparing.add_argument(
        "--validation-share",
        type=arguments.share,
        metavar="SHARE",
        help="hold out this part of the audio, as 0.1, into MANIFEST-validation.jsonl: whole speakers "
        "where several are known, single recordings otherwise",
    )
    preparing.add_argument(
        "--speakers-from-folders",
        action="store_true",
        help="each recording's folder is named for its speaker",
    )
    preparing.add_argument("--corpus", default="", metavar="NAME", help="what asr evaluate is to call it")
    validating = parser.add_argument_group("validate")
    validating.add_argument("--json", action="store_true", help="all findings as one JSON object")


def run(args: argparse.Namespace) -> ExitStatus:
    return _prepare(args) if args.action == "prepare" else _validate(args)


def _prepare(args: argparse.Namespace) -> ExitStatus:
    if not args.output:
        raise UsageError("data prepare: -o MANIFEST is missing")
    if args.json:
        raise UsageError("data prepare: --json is for data validate")
    output = Path(args.output)
    held_out_output = output.with_stem(f"{output.stem}-validation")
    written = [output, held_out_output] if args.validation_share else [output]
    protect_inputs(args, "output", written=written)
    from asr import preparation
    from asr.manifest import write_manifest

    with _progress("reading", quiet=args.quiet) as on_progress:
        found = preparation.prepare(
            args.source,
            corpus=args.corpus,
            speakers_from_folders=args.speakers_from_folders,
            on_progress=on_progress,
        )
    print_failures(found.failures)
    protect_inputs(args, "output", written=written, read=found.sources)
    if not found.utterances:
        raise ManifestError(f"{args.source}: no recording can be used")
    manifests = {output: found.utterances}
    if args.validation_share:
        training, held_out = preparation.split(found.utterances, args.validation_share)
        if not held_out:
            raise ManifestError(f"{args.source}: one recording alone cannot be split")
        manifests = {output: training, held_out_output: held_out}
    for path, utterances in manifests.items():
        write_manifest(path, utterances)
        hours = sum(utterance.duration for utterance in utterances) / 3600
        print(f"{path}: {len(utterances)} utterances, {hours:.2f} h")
    if args.validation_share and not args.quiet:
        print(_held_out(training, held_out), file=sys.stderr)
    return ExitStatus.SOME_FAILED if found.failures else ExitStatus.OK


def _held_out(training: list[Utterance], held_out: list[Utterance]) -> str:
    """Who is in the part for validation, and how much that is."""
    seconds = sum(utterance.duration for utterance in held_out)
    share = seconds / max(seconds + sum(utterance.duration for utterance in training), 1e-9)
    speakers = sorted({utterance.speaker for utterance in held_out})
    if speakers == sorted({utterance.speaker for utterance in training}):
        return f"held out: {100 * share:.0f} % of the sound, by recordings: all are of one speaker"
    shown = ", ".join(speaker or "(unnamed)" for speaker in speakers[:5])
    more = f" and {len(speakers) - 5} more" if len(speakers) > 5 else ""
    return f"held out: {100 * share:.0f} % of the sound, all of {shown}{more}: no speaker is in both parts"


def _validate(args: argparse.Namespace) -> ExitStatus:
    if args.output or args.validation_share or args.speakers_from_folders or args.corpus:
        raise UsageError("data validate: writes nothing, so it takes no option of data prepare")
    from asr.manifest import read_manifest
    from asr.validation import Finding, validate

    failures: list[str] = []
    try:
        utterances = read_manifest(args.source, failures=failures)
    except ManifestError:
        print_failures(failures)
        raise
    with _progress("listening", quiet=args.quiet) as on_progress:
        result = validate(
            utterances, lambda n_done: on_progress(n_done, len(utterances)) if on_progress else None
        )
    result.findings += [Finding("unusable row", args.source, failure) for failure in failures]
    if args.json:
        _print_json(result)
    else:
        _print_tables(result)
    return ExitStatus.SOME_FAILED if result.count("error") else ExitStatus.OK


def _print_json(result: Validation) -> None:
    import json

    figures = {
        "utterances": result.n_utterances,
        **{f"{severity}s": result.count(severity) for severity in ("error", "warning", "note")},
        "durations": [
            {"range": name, "recordings": count, "seconds": round(seconds, 2)}
            for name, count, seconds in result.histogram()
        ],
        "findings": [
            {"severity": found.severity, "kind": found.kind, "id": found.utterance, "detail": found.detail}
            for found in result.findings
        ],
    }
    print(json.dumps(figures))


def _print_tables(result: Validation) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 110)
    grouped = result.by_kind()
    if grouped:
        table = Table("", "finding", "count", "for instance", box=None)
        colours = {"error": "red", "warning": "yellow", "note": "dim"}
        for kind, found in grouped.items():
            severity = found[0].severity
            examples = "\n".join(f"{finding.utterance}: {finding.detail}" for finding in found[:3])
            table.add_row(Text(severity, colours[severity]), kind, str(len(found)), Text(examples))
        console.print(table)
    lengths = Table("duration", "recordings", "hours", "", box=None)
    rows = result.histogram()
    most = max(1, *(count for _, count, _ in rows))
    for name, count, seconds in rows:
        lengths.add_row(name, str(count), f"{seconds / 3600:.2f}", "#" * math.ceil(40 * count / most))
    console.print(lengths)
    totals = ", ".join(f"{result.count(severity)} {severity}s" for severity in ("error", "warning", "note"))
    hours = sum(result.durations) / 3600
    console.print(f"{result.n_utterances} utterances, {hours:.2f} h: {totals}", highlight=False)


@contextlib.contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda n_done, total: progress.update(task, completed=n_done, total=total)
