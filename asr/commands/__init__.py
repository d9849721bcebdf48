"""One file a verb: add_parser(subparsers) describes its options, run(args) gives its exit status.

The head of each file imports nothing slow, so that its help answers at once. Here is what verbs share.
"""

from __future__ import annotations

import argparse
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from asr import arguments, pretrained
from asr.errors import OutputError, UsageError, shown
from asr.transcript import MIN_CONFIDENCE

if TYPE_CHECKING:
    from asr.decoding.decoder import DecoderOptions
    from asr.recognizer import Recognizer
    from asr.streaming import Stream, StreamConfig


def add_model_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "-m",
        "--model",
        default="english",
        metavar="NAME|PATH",
        help="name of a shipped model, or a model's path (default: english)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    parser.add_argument("-t", "--threads", type=arguments.count, metavar="N", help="CPU threads")


def add_engine_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "onnx"),
        default="auto",
        help="what computes: ONNX Runtime if the model has a graph and there is no CUDA device, else torch"
        " (default: auto)",
    )


def add_decoder_options(parser: argparse.ArgumentParser, *, leaves_out: Sequence[str] = ()) -> None:
    """leaves_out: of grammar and nbest, what would make no sense for the verb; it has no such option."""
    group = parser.add_argument_group("decoding")
    group.add_argument(
        "--lm",
        default="auto",
        metavar="PATH|none",
        help="language model, as asr lm build makes it (default: the one that comes with asr)",
    )
    group.add_argument(
        "--rnn-lm",
        default="auto",
        metavar="PATH|none",
        help="recurrent language model to go with it, as asr lm train makes it (default: the one that comes"
        " with asr, if its language model is used)",
    )
    group.add_argument(
        "--beam-size",
        type=arguments.whole_setting("beam_size"),
        metavar="N",
        help="hypotheses kept by the search; 1: greedy, the letters as they are heard (default: 800)",
    )
    group.add_argument(
        "--hotwords",
        metavar="WORD[:BOOST],...",
        help="words and phrases to expect, also unheard-of ones, e.g. anneke,new york,kubernetes:8; the"
        " boost is added to the score (default: 5)",
    )
    group.add_argument("--hotwords-file", metavar="FILE", help="the same, one a line; # begins a comment")
    if "grammar" in leaves_out:
        parser.set_defaults(grammar=None)
    else:
        group.add_argument(
            "--grammar",
            metavar="FILE",
            help="the only phrases that may be said, one a line or in JSGF; other speech gives no text",
        )
    if "nbest" in leaves_out:
        parser.set_defaults(nbest=1)
    else:
        group.add_argument(
            "--nbest",
            type=arguments.whole_setting("n_best"),
            default=1,
            metavar="N",
            help="tell the N likeliest texts of every segment, in json and jsonl (default: 1)",
        )
    group.add_argument(
        "--lm-weight",
        type=arguments.setting("lm_weight"),
        metavar="W",
        help="factor of the language model's log-probabilities (default: as asr lm tune has set it for the"
        " language model, else 0.92)",
    )
    group.add_argument(
        "--rnn-share",
        type=arguments.probability,
        metavar="P",
        help="share of the recurrent model in the mixture with the n-grams (default: as tuned, else 0.5)",
    )
    group.add_argument(
        "--word-score",
        type=arguments.setting("word_score"),
        metavar="S",
        help="added to the score for each word (default: as tuned, else 0)",
    )
    group.add_argument(
        "--acoustic-scale",
        type=arguments.setting("acoustic_scale"),
        metavar="W",
        help="factor of the acoustic model's log-probabilities (default: the model's own, else 1)",
    )
    group.add_argument(
        "--prior-weight",
        type=arguments.setting("prior_weight"),
        metavar="W",
        help="factor of the labels' log priors, which are subtracted (default: as tuned, else 0.6)",
    )


def add_confidence_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min-confidence",
        type=arguments.probability,
        default=MIN_CONFIDENCE,
        metavar="P",
        help="leave out segments in which the probability that any word is right is less than P, as in noise;"
        " 0: off (default: %(default)s)",
    )


def decoder_options(args: argparse.Namespace) -> DecoderOptions:
    """What the user chose among add_decoder_options() and, where it is asked, add_confidence_option()."""
    from asr.decoding import grammar, hotwords
    from asr.decoding.decoder import DecoderOptions

    hot_words = hotwords.read(args.hotwords_file) if args.hotwords_file else []
    if args.hotwords is not None:
        hot_words += hotwords.parse(args.hotwords)
    return DecoderOptions(
        beam_size=args.beam_size,
        lm=args.lm,
        recurrent=args.rnn_lm,
        lm_weight=args.lm_weight,
        recurrent_share=args.rnn_share,
        word_score=args.word_score,
        acoustic_scale=args.acoustic_scale,
        prior_weight=args.prior_weight,
        hot_words=tuple(hot_words),
        n_best=args.nbest,
        grammar=grammar.read(args.grammar) if args.grammar else (),
        min_confidence=getattr(args, "min_confidence", MIN_CONFIDENCE),
    )


def load_recognizer(args: argparse.Namespace) -> Recognizer:
    """The recogniser that --model, --engine, --device, --threads and add_decoder_options() ask for."""
    from asr.recognizer import Recognizer

    return Recognizer.load(
        args.model,
        engine=args.engine,
        device=args.device,
        threads=args.threads,
        decoding=decoder_options(args),
    )


def check_model(model: str, *, engine: str = "auto", device: str = "auto") -> None:
    """Raise at once what loading a model would raise before it reads anything.

    Comes before standard input is touched: for an extra, bin/asr starts the command line anew.
    """
    from asr.engine import file_to_run

    file_to_run(pretrained.find(model), engine=engine, device=device)


def add_streaming_model_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "-m",
        "--model",
        default=pretrained.STREAMING,
        metavar="NAME|PATH",
        help=f"a model of one direction, by name or path (default: {pretrained.STREAMING})",
    )
    parser.add_argument(
        "--second-pass",
        action=argparse.BooleanOptionalAction,
        help="hear every sentence once more, whole, with --second-model; its text is the final one (default: "
        f"with {pretrained.STREAMING})",
    )
    parser.add_argument(
        "--second-model", default="english", metavar="NAME|PATH", help="(default: english)"
    )


def check_streaming_models(args: argparse.Namespace, *, engine: str = "auto") -> None:
    """As check_model(), for what add_streaming_model_options() asks for."""
    check_model(args.model, engine=engine, device="cpu")
    if _has_second_pass(args):
        check_model(args.second_model, engine=engine)


def load_stream(
    args: argparse.Namespace,
    config: StreamConfig | None = None,
    *,
    engine: str = "auto",
    threads: int | None = None,
    decoding: DecoderOptions | None = None,
) -> Stream:
    """A stream of what add_streaming_model_options() asks for; only the second pass may use CUDA.

    threads: of the CPU, 1 if left out. A step is too little work to share: two threads take twice as long.
    """
    from asr.recognizer import Recognizer
    from asr.streaming import Stream, StreamConfig

    recognizer = Recognizer.load(
        args.model, engine=engine, device="cpu", threads=threads or 1, decoding=decoding
    )
    second_pass = recognizer.beside(args.second_model, engine=engine) if _has_second_pass(args) else None
    return Stream(recognizer, config or StreamConfig(), second_pass=second_pass)


def add_endpoint_options(parser: argparse.ArgumentParser) -> None:
    endpoint = parser.add_argument_group("end of a sentence")
    endpoint.add_argument(
        "--endpoint-mode",
        choices=("default", "short", "long", "very-long"),
        default="default",
        help="how long a pause may be; the three rules refine it",
    )
    for rule, meaning in (
        ("rule1-min-trailing-silence", "seconds without any word"),
        ("rule2-min-trailing-silence", "seconds without a word after the last one"),
        ("rule3-min-utterance-length", "seconds that a sentence may last"),
    ):
        endpoint.add_argument(f"--{rule}", type=arguments.positive_seconds, metavar="SECONDS", help=meaning)
    endpoint.add_argument(
        "--pre-roll",
        type=arguments.seconds,
        default=1.0,
        metavar="SECONDS",
        help="sound from before speech was noticed that is heard with it (default: 1)",
    )


def stream_config(args: argparse.Namespace) -> StreamConfig:
    """What the user chose among add_endpoint_options()."""
    from asr.segment import ENDPOINT_MODES
    from asr.streaming import StreamConfig

    rules = {
        name: value for name, value in vars(args).items() if name.startswith("rule") and value is not None
    }
    endpoint = replace(ENDPOINT_MODES[args.endpoint_mode], **rules)
    return StreamConfig(endpoint, args.pre_roll, args.min_confidence)


def _has_second_pass(args: argparse.Namespace) -> bool:
    return args.model == pretrained.STREAMING if args.second_pass is None else args.second_pass


@contextmanager
def show_progress(
    label: str, duration: float | None, *, quiet: bool
) -> Iterator[Callable[[int, float], None]]:
    """A bar on a terminal, gone when it is done; nothing elsewhere.

    duration: seconds of one channel; None if unknown.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda n_channels_done, seconds: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[heard]:.0f} s{task.fields[channel]}", markup=False),
        TimeRemainingColumn(),
    )
    # What is printed on standard output belongs there, also while the bar is shown.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    with bar as progress, _logging_to(sys.stderr):
        task = progress.add_task(shown(label), total=duration, heard=0.0, channel="")

        def show(n_channels_done: int, seconds: float) -> None:
            channel = f" of channel {n_channels_done + 1}" if n_channels_done else ""
            progress.update(task, completed=seconds, heard=seconds, channel=channel)

        yield show


def protect_inputs(
    args: argparse.Namespace,
    *outputs: str,
    written: Iterable[str | Path] = (),
    read: Iterable[str | Path] = (),
) -> None:
    """Raise UsageError when a file that is to be written is one of those that are read, also by a link.

    outputs: the options that name what is written; every other argument that names a file is read.
    written, read: files that no argument names as they are.
    """
    named = [value for option, value in vars(args).items() if option not in outputs]
    values = chain(read, *(value if isinstance(value, list | tuple) else [value] for value in named))
    targets = [*(getattr(args, option) for option in outputs), *written]
    taken = {identity: str(target) for target in targets if (identity := _identity(target))}
    for value in values if taken else ():
        if (target := taken.get(_identity(value) or (0, 0))) is not None:
            raise UsageError(f"{target}: is an input of this command; give the output another name")


def _identity(path: object) -> tuple[int, int] | None:
    """Device and number of a regular file, links followed; None for anything else."""
    if not path or not isinstance(path, str | Path):
        return None
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def print_failures(failures: Iterable[str]) -> None:
    """A line on standard error for each input that was left out."""
    for failure in failures:
        print(f"asr: error: {shown(failure)}", file=sys.stderr)


@contextmanager
def _logging_to(stream: TextIO) -> Iterator[None]:
    """Messages go to a stream for a while, here the one that writes above a bar."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, logging.StreamHandler)]
    before = [handler.setStream(stream) for handler in handlers]
    try:
        yield
    finally:
        for handler, previous in zip(handlers, before, strict=True):
            if previous is not None:
                handler.setStream(previous)


def print_result(text: str) -> None:
    """Onto standard output at once. Raises OutputError, or BrokenPipeError when nobody reads it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from error
