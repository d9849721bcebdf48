"""asr align AUDIO TEXT: where each word of a given text is said in a recording of it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from asr import arguments
from asr.commands import (
    add_decoder_options,
    add_model_options,
    check_model,
    decoder_options,
    print_result,
    protect_inputs,
    show_progress,
)
from asr.errors import AlignmentError, ExitStatus, UsageError
from asr.formats import render
from asr.text import read_text

if TYPE_CHECKING:
    from asr.transcript import Segment

logger = logging.getLogger(__name__)

_FORMATS = ("json", "srt", "vtt", "ctm", "textgrid")
_SUBTITLES = ("srt", "vtt")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "align",
        description="Tell where each word of a text is said in a recording of it, up to hours long. Words"
        " that the recording does not have are named on standard error.",
    )
    parser.add_argument("audio", metavar="AUDIO", help="a sound or video file, or - for standard input")
    parser.add_argument("text", metavar="TEXT", help="a text file, as it may be printed")
    parser.add_argument(
        "-f",
        "--output-format",
        choices=_FORMATS,
        default="json",
        metavar="FORMAT",
        help=f"{', '.join(_FORMATS)} (default: json)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="instead of standard output")
    parser.add_argument(
        "--track",
        type=arguments.count,
        metavar="N",
        help="the Nth sound track of a video, from 1 (default: the one that players choose)",
    )
    parser.add_argument("--level", choices=("words", "characters"), default="words", help="(default: words)")
    add_model_options(parser)
    add_decoder_options(parser, leaves_out=["grammar", "nbest"])


def run(args: argparse.Namespace) -> ExitStatus:
    with_characters = args.level == "characters"
    if with_characters and args.output_format in _SUBTITLES:
        raise UsageError(
            f"--level characters: {args.output_format} has whole words; choose json, ctm or textgrid"
        )
    protect_inputs(args, "output")
    text = read_text(args.text, AlignmentError)
    check_model(args.model, device=args.device)

    from asr.alignment import align_text
    from asr.audio import open_audio
    from asr.files import write_text
    from asr.recognizer import Recognizer

    with open_audio(args.audio, track=args.track) as audio:
        recognizer = Recognizer.load(
            args.model, device=args.device, threads=args.threads, decoding=decoder_options(args)
        )
        with show_progress(args.audio, audio.duration, quiet=args.quiet) as on_progress:
            try:
                alignment = align_text(
                    recognizer,
                    audio.heard(),
                    text,
                    with_characters=with_characters,
                    on_progress=lambda seconds: on_progress(0, seconds),
                )
            except AlignmentError as error:
                raise AlignmentError(f"{args.audio}, {args.text}: {error}") from None
    _report(alignment.missing)
    document = render(
        alignment.transcript,
        args.output_format,
        file=args.audio,
        model=recognizer.name,
        word_timestamps=True,
        missing=alignment.missing,
    )
    if args.output is None:
        print_result(document)
    else:
        write_text(Path(args.output), document, overwrite=True)
    if audio.error is not None:
        logger.error("%s", audio.error)
        return ExitStatus.SOME_FAILED
    return ExitStatus.OK


def _report(missing: tuple[Segment, ...]) -> None:
    for passage in missing:
        shown = passage.text if len(passage.text) <= 70 else f"{passage.text[:67]}..."
        logger.warning(
            "not in the recording, at %.2f s (%d words): %s", passage.start, len(passage.words), shown
        )
