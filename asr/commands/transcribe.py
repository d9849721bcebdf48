"""asr transcribe: recordings -> text, subtitles or data, on stdout or in a folder."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asr import arguments
from asr.commands import (
    add_confidence_option,
    add_decoder_options,
    add_engine_option,
    add_model_options,
    check_model,
    load_recognizer,
    print_result,
    show_progress,
)
from asr.errors import AsrError, ExitStatus, LanguageModelError, OutputError, UsageError
from asr.formats import FORMATS, coloured, render
from asr.transcript import Transcript

if TYPE_CHECKING:
    from asr.audio import AudioReader
    from asr.recognizer import Pending, Recognizer

logger = logging.getLogger(__name__)

# These say themselves which recording they are about, so several on stdout need no heading.
_SELF_NAMING = frozenset({"json", "jsonl", "ctm"})

_MUCH_SECONDS = 60.0  # of audio: more is worth the time that processes take to begin
_MOST_WAITING = 128  # recordings whose search may be under way while the next goes through the network

_EXAMPLES = """\
examples:
  asr transcribe talk.mp3                          the words, on standard output
  asr transcribe talk.mp4 -f srt > talk.srt        subtitles
  asr transcribe recordings/ --recursive -f txt,json -o transcripts/ --skip-existing
  sox talk.wav -t wav - | asr transcribe -
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "transcribe",
        description="Turn recordings into text.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a sound or video file, a directory of them, or - for standard input",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "-f",
        "--output-format",
        action="append",
        type=_formats,
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)} or all; repeatable or comma separated (default: txt)",
    )
    output.add_argument(
        "-o",
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="write DIR/NAME.FORMAT for each recording instead of standard output",
    )
    output.add_argument(
        "--word-timestamps",
        action="store_true",
        help="list the words with times and probabilities in json and jsonl",
    )
    output.add_argument(
        "--commands",
        action="store_true",
        help='obey spoken punctuation and commands, such as "comma", "new line", "scratch that"',
    )
    output.add_argument(
        "--full-sentence",
        action="store_true",
        help="begin each segment with a capital and end it with a full stop",
    )
    output.add_argument("--numbers-as-digits", action="store_true", help="write 25 for twenty five")
    output.add_argument(
        "--print-confidence",
        action="store_true",
        help="show doubtful words in colour: yellow, or red; on a terminal only",
    )
    output.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out what DIR already holds",
    )

    model = parser.add_argument_group("model")
    add_model_options(model)
    add_engine_option(model)
    model.add_argument(
        "--batch-size",
        type=arguments.count,
        default=2,
        metavar="N",
        help="pieces of a recording computed at once: more is faster on a GPU and needs more memory"
        " (default: 2)",
    )

    add_decoder_options(parser)
    add_confidence_option(parser)

    audio = parser.add_argument_group("input")
    audio.add_argument("--recursive", action="store_true", help="look into the folders of a directory too")
    audio.add_argument(
        "--channels",
        type=_channels,
        default="mix",
        metavar="mix|split|N",
        help="mix all, transcribe each apart, or take the Nth, from 1 (default: mix)",
    )
    audio.add_argument(
        "--offset", type=arguments.seconds, default=0.0, metavar="SECONDS", help="begin here (default: 0)"
    )
    audio.add_argument(
        "--duration",
        type=arguments.positive_seconds,
        metavar="SECONDS",
        help="stop after so much (default: all)",
    )
    audio.add_argument(
        "--raw",
        action="store_true",
        help="standard input is mono 16-bit little-endian samples without a header",
    )
    audio.add_argument(
        "--sample-rate", type=arguments.count, metavar="HZ", help="of the raw samples (default: 16000)"
    )


def _formats(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in (*FORMATS, "all")]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"no format {', '.join(unknown) or repr(text)}; there are {', '.join(FORMATS)} and all"
        )
    return [format for name in names for format in (FORMATS if name == "all" else (name,))]


def _channels(text: str) -> str | int:
    if text in {"mix", "split"}:
        return text
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not mix, split or a number from 1 on")
    return int(text)


@dataclass(frozen=True)
class _Recording:
    """One input. path is None for standard input; place: where it lies in the directory named."""

    path: Path | None
    place: Path

    @property
    def source(self) -> str | Path:
        return "-" if self.path is None else self.path

    @property
    def name(self) -> str:
        """What documents and headings call it: valid Unicode, unlike some file names."""
        return "stdin" if self.path is None else os.fsencode(self.path).decode("utf-8", "replace")

    @property
    def message_name(self) -> str:
        return "standard input" if self.path is None else str(self.path)


def run(args: argparse.Namespace) -> ExitStatus:
    formats = list(dict.fromkeys(name for names in args.output_format or [["txt"]] for name in names))
    _check(args, formats)
    as_written = _spelling(args)
    recordings, n_failed = _find(args.paths, recursive=args.recursive)
    n_inputs = len(recordings) + n_failed
    if args.output_dir is not None:
        _prepare(args.output_dir)
    # formats -> where each goes; None: standard output
    work: list[tuple[_Recording, dict[str, Path | None]]] = []
    for recording, stem in zip(recordings, _stems(recordings), strict=True):
        targets = {
            format: None if args.output_dir is None else args.output_dir / f"{stem}.{format}"
            for format in formats
        }
        if args.skip_existing:
            targets = {format: path for format, path in targets.items() if path and not path.exists()}
        if targets:
            work.append((recording, targets))
        else:
            logger.info("%s: skipped, its results exist", recording.message_name)
    n_failed += _transcribe_all(args, work, as_written, with_headings=n_inputs > 1)
    if n_failed and n_inputs > 1:
        logger.info("%d of %d inputs failed", n_failed, n_inputs)
    return ExitStatus.SOME_FAILED if n_failed else ExitStatus.OK


def _check(args: argparse.Namespace, formats: Sequence[str]) -> None:
    """Raises UsageError for options that contradict each other or where they are used."""
    if args.output_dir is None and len(formats) > 1:
        raise UsageError(f"{', '.join(formats)}: standard output can hold one format; give --output-dir DIR")
    if args.output_dir is None and args.skip_existing:
        raise UsageError("--skip-existing: needs --output-dir DIR, where the results may exist")
    if args.sample_rate is not None and not args.raw:
        raise UsageError("--sample-rate: is for raw samples; give --raw too, or leave it out")
    if args.raw and args.paths != ["-"]:
        raise UsageError("--raw: is for standard input; give - as the only input, and < FILE")
    if args.output_dir is None and sys.stdout is None:
        raise OutputError("standard output: is closed; give --output-dir DIR")
    if "-" in args.paths and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("-: standard input is a terminal; pipe a recording into it")


def _spelling(args: argparse.Namespace) -> Callable[[Transcript], Transcript]:
    """What turns the words that were heard into those that are to be written. Raises ConfigError."""
    if not (args.commands or args.full_sentence or args.numbers_as_digits):
        return lambda transcript: transcript
    from asr.paths import config_file
    from asr.spoken import load_commands, rewrite

    return partial(
        rewrite,
        commands=load_commands(config_file("commands.toml")) if args.commands else {},
        full_sentence=args.full_sentence,
        numbers_as_digits=args.numbers_as_digits,
    )


def _find(paths: Sequence[str], *, recursive: bool) -> tuple[list[_Recording], int]:
    """The recordings behind the paths, each once, and how many paths lead to none (reported)."""
    recordings: dict[str, _Recording] = {}
    n_failed = 0
    for name in paths:
        path = Path(name)
        if name == "-":
            recordings.setdefault("-", _Recording(None, Path("stdin")))
        elif os.path.isdir(path):
            from asr.audio import find_audio

            try:
                found = find_audio(path, recursive)
            except AsrError as error:
                logger.error("%s", error)
                n_failed += 1
                continue
            for member in found:
                place = Path(os.path.relpath(member, path))
                recordings.setdefault(os.path.abspath(member), _Recording(member, place))
        elif _is_missing(path):
            logger.error("%s: no such file or directory; check the path", path)
            n_failed += 1
        else:
            recordings.setdefault(os.path.abspath(path), _Recording(path, Path(path.name)))
    return list(recordings.values()), n_failed


def _is_missing(path: Path) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # opening it will tell the reason
        return False
    return False


def _stems(recordings: Sequence[_Recording]) -> list[str]:
    """Where the results of each recording go, without extension: never two in one place.

    Usually the place without its suffix. Recordings that would share it keep the suffix when they
    lie in one folder (x.wav.txt, x.mp3.txt), and else as many folders as tell them apart (a/x.txt,
    b/x.txt).
    """
    places: list[list[str]] = []  # of each recording: names to choose from, shorter first
    siblings = Counter(
        os.path.abspath(recording.path.with_suffix("")).casefold()
        for recording in recordings
        if recording.path is not None
    )
    for recording in recordings:
        if recording.path is None:
            places.append(["stdin"])
            continue
        shared = siblings[os.path.abspath(recording.path.with_suffix("")).casefold()] > 1
        place = recording.place if shared else recording.place.with_name(recording.place.stem)
        names = [str(place)]
        folders = Path(os.path.abspath(recording.path)).parts[1 : -len(place.parts)]
        for folder in reversed(folders):
            place = folder / place
            names.append(str(place))
        names.append(str(place.with_name(recording.place.name)))
        places.append(names)
    depths = [0] * len(places)
    while True:
        stems = [names[depth] for names, depth in zip(places, depths, strict=True)]
        uses = Counter(stem.casefold() for stem in stems)
        clashing = [
            index
            for index, stem in enumerate(stems)
            if uses[stem.casefold()] > 1 and depths[index] + 1 < len(places[index])
        ]
        if not clashing:
            return stems
        for index in clashing:
            depths[index] += 1


def _prepare(directory: Path) -> None:
    """Make the output directory. Raises OutputError when nothing can be written there."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"{directory}: is not a directory; name another --output-dir") from None
    except OSError as error:
        raise OutputError(f"{directory}: cannot be made ({error.strerror})") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OutputError(f"{directory}: no permission to write there; name another --output-dir")


def _transcribe_all(
    args: argparse.Namespace,
    work: Sequence[tuple[_Recording, dict[str, Path | None]]],
    as_written: Callable[[Transcript], Transcript],
    *,
    with_headings: bool,
) -> int:
    """Transcribe and write everything; how many recordings failed, each of them reported."""
    if work:
        check_model(args.model, engine=args.engine, device=args.device)
    results = _Results(args, as_written, with_headings=with_headings)
    recognizer: Recognizer | None = None
    waiting: deque[_Heard] = deque()
    with ExitStack() as processes:
        for number, (recording, targets) in enumerate(work, start=1):
            label = recording.name if len(work) == 1 else f"{number}/{len(work)} {recording.name}"
            with ExitStack() as stack:
                try:
                    open_channel = stack.enter_context(_opener(recording, args))
                    channels = 1 if args.channels == "split" else args.channels
                    audio = stack.enter_context(open_channel(channels))
                except UsageError:
                    raise
                except Exception as error:
                    results.report(recording, error)
                    continue
                if recognizer is None:  # not before there is something to recognise
                    is_much = len(work) > 1 or audio.duration is None or audio.duration > _MUCH_SECONDS
                    recognizer = processes.enter_context(_load(args, is_much=is_much))
                try:
                    begin = time.perf_counter()
                    with show_progress(label, audio.duration, quiet=args.quiet) as on_progress:
                        begun = _begin(recognizer, audio, open_channel, args, on_progress)
                except (UsageError, LanguageModelError):  # no fault of the recording's
                    raise
                except Exception as error:
                    results.report(recording, error)
                    continue
            are_apart = args.channels == "split"
            waiting.append(_Heard(recording, targets, recognizer.name, begin, begun, are_apart))
            while waiting and (waiting[0].is_done() or len(waiting) > _MOST_WAITING):
                results.write(waiting.popleft())
        while waiting:
            results.write(waiting.popleft())
    return results.n_failed


@contextmanager
def _load(args: argparse.Namespace, *, is_much: bool) -> Iterator[Recognizer]:
    """The recogniser; for much to transcribe, with processes that search while others compute."""
    begin = time.perf_counter()
    recognizer = load_recognizer(args)
    logger.info("model %s loaded in %.2f s", recognizer.name, time.perf_counter() - begin)
    if not is_much:
        yield recognizer
        return
    from asr.searches import n_processes

    with recognizer.in_processes(n_processes(args.threads)) as faster:
        yield faster


@dataclass(frozen=True)
class _Heard:
    """A recording that has gone through the network.

    channels: their transcripts, if they are apart; else that of all of them.
    """

    recording: _Recording
    targets: dict[str, Path | None]
    model: str
    begin: float
    channels: Sequence[Pending]
    are_apart: bool

    def is_done(self) -> bool:
        """Whether transcript() would not wait for the search."""
        return all(channel.done() for channel in self.channels)

    def transcript(self) -> Transcript:
        if not self.are_apart:
            return self.channels[0].result()
        transcripts = [channel.result() for channel in self.channels]
        segments = [
            replace(segment, channel=channel)
            for channel, transcript in enumerate(transcripts, start=1)
            for segment in transcript.segments
        ]
        segments.sort(key=lambda segment: segment.start)
        return Transcript(tuple(segments), max(transcript.duration for transcript in transcripts))


class _Results:
    """Writes transcripts to where they go, and counts and reports what failed."""

    def __init__(
        self, args: argparse.Namespace, as_written: Callable[[Transcript], Transcript], *, with_headings: bool
    ) -> None:
        self.n_failed = 0
        self._n_printed = 0
        self._args, self._as_written, self._with_headings = args, as_written, with_headings

    def report(self, recording: _Recording, error: Exception) -> None:
        _report(recording, error, self._args.verbose)
        self.n_failed += 1

    def write(self, heard: _Heard) -> None:
        """All formats of a transcript."""
        try:
            transcript = self._as_written(_shifted(heard.transcript(), self._args.offset))
        except Exception as error:
            self.report(heard.recording, error)
            return
        seconds = time.perf_counter() - heard.begin
        logger.info(
            "%s: %.1f s of audio in %.2f s (%.1f x real time)",
            heard.recording.message_name,
            transcript.duration,
            seconds,
            transcript.duration / max(seconds, 1e-9),
        )
        for format, target in heard.targets.items():
            in_colour = self._args.print_confidence and format == "txt" and target is None
            document = render(
                coloured(transcript) if in_colour and sys.stdout.isatty() else transcript,
                format,
                file=heard.recording.name,
                model=heard.model,
                word_timestamps=self._args.word_timestamps,
            )
            if target is None:
                self._print(heard.recording, format, document)
                continue
            try:
                _write(target, document)
            except OutputError as error:
                self.report(heard.recording, error)
                break

    def _print(self, recording: _Recording, format: str, document: str) -> None:
        if self._with_headings and format not in _SELF_NAMING:
            gap = "\n" if self._n_printed else ""
            document = f"{gap}==> {recording.name} <==\n{document}"
        print_result(document)
        self._n_printed += 1


def _report(recording: _Recording, error: Exception, verbose: bool) -> None:
    """One line that names the recording and the reason; the traceback of a surprise if verbose."""
    message = " ".join(str(error).split())
    if not isinstance(error, AsrError):
        hint = "" if verbose else "; run with -v for the traceback"
        message = f"unexpected {type(error).__name__}: {message}{hint}"
    name = recording.message_name
    surprise = verbose and not isinstance(error, AsrError)
    logger.error(
        "%s",
        message if name in message else f"{name}: {message}",
        exc_info=error if surprise else None,
    )


@contextmanager
def _opener(recording: _Recording, args: argparse.Namespace) -> Iterator[Callable[[str | int], AudioReader]]:
    """Gives a function that opens the recording, mixed or one of its channels."""
    from asr.audio import open_audio, spool_standard_input

    with ExitStack() as stack:
        source = recording.source
        if recording.path is None and args.channels == "split":  # it will be opened repeatedly
            source = stack.enter_context(spool_standard_input())
        yield lambda channels: open_audio(
            source,
            channels=channels,
            offset=args.offset,
            duration=args.duration,
            raw_sample_rate=(args.sample_rate or 16_000) if args.raw else None,
            name=recording.message_name,
        )


def _begin(
    recognizer: Recognizer,
    audio: AudioReader,
    open_channel: Callable[[str | int], AudioReader],
    args: argparse.Namespace,
    on_progress: Callable[[int, float], None],
) -> list[Pending]:
    """The transcripts of the channels that are transcribed apart, else that of all, on their way.

    audio: the first channel when they are transcribed apart, else all that is asked for.
    on_progress: is called with the channels that are done and the seconds of the current one.
    """
    if args.channels != "split":
        return [recognizer.begin(audio, batch_size=args.batch_size, on_progress=partial(on_progress, 0))]
    begun = []
    for channel in range(1, audio.n_channels + 1):
        with audio if channel == 1 else open_channel(channel) as samples:
            report = partial(on_progress, channel - 1)
            begun.append(recognizer.begin(samples, batch_size=args.batch_size, on_progress=report))
    return begun


def _shifted(transcript: Transcript, seconds: float) -> Transcript:
    """In times of a recording that was opened at this offset."""
    if not seconds:
        return transcript
    segments = tuple(segment.shifted(seconds) for segment in transcript.segments)
    return replace(transcript, segments=segments)


def _write(path: Path, text: str) -> None:
    """A file that is there completely or not at all. Raises OutputError."""
    temporary = path.with_name(f".asr-{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
