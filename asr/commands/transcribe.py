"""asr transcribe: recordings -> text, subtitles or data, on stdout or in a folder."""

from __future__ import annotations

import argparse
import json
import logging
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
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
from asr.errors import (
    AsrError,
    AudioError,
    DiskFullError,
    ExitStatus,
    LanguageModelError,
    OutputError,
    UsageError,
    shown,
)
from asr.formats import (
    FOLLOWED,
    FORMATS,
    LABEL_CHARACTERS,
    SEVERAL,
    Channels,
    coloured,
    render,
    render_segment,
)
from asr.interruption import termination_raised
from asr.transcript import Transcript

if TYPE_CHECKING:
    import numpy as np

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
  asr transcribe call.wav --channels split --channel-names Ann,Bob -f vtt > call.vtt
  arecord -f S16_LE -r 16000 | asr transcribe -    speak, then Ctrl-C
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
        "--follow",
        action="store_true",
        help="write each segment as soon as it is known: a line of txt (the default on a terminal), or of"
        " jsonl, where a last line with the duration ends the recording",
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
    existing = output.add_mutually_exclusive_group()
    existing.add_argument("--skip-existing", action="store_true", help="leave out what DIR already holds")
    existing.add_argument("--overwrite", action="store_true", help="replace what DIR already holds")

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
        "--track",
        type=arguments.count,
        metavar="N",
        help="the Nth sound track of a video, from 1 (default: the one that players choose)",
    )
    audio.add_argument(
        "--channel-names",
        type=_channel_names,
        default=[],
        metavar="NAME,...",
        help="what the channels are called when they are split, e.g. Ann,Bob (default: channel 1, ...)",
    )
    audio.add_argument(
        "--offset",
        type=arguments.seconds,
        default=0.0,
        metavar="SECONDS",
        help="begin here; also 1:14 (default: 0)",
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
        help="the input is mono 16-bit little-endian samples without a header",
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


def _channel_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not 0 < len(name) <= LABEL_CHARACTERS or not name.isprintable():
            raise argparse.ArgumentTypeError(f"{name!r} is no name of 1 to {LABEL_CHARACTERS} characters")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text}: two channels have one name")
    return names


@dataclass(frozen=True)
class _Recording:
    """One input. path is None for standard input; place: where it lies in the directory named."""

    path: Path | None
    place: Path
    is_pipe: bool = False  # to be read from beginning to end once, as standard input is

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
    results = _Results(args, formats, _spelling(args))
    with termination_raised():
        recordings = _find(args.paths, results, recursive=args.recursive)
        results.n_inputs = len(recordings) + results.n_failed
        if args.output_dir is None and results.n_inputs > 1 and not set(formats) <= SEVERAL:
            raise UsageError(
                f"{formats[0]}: documents of several recordings cannot follow one another on standard"
                " output; give --output-dir DIR"
            )
        if args.output_dir is not None:
            _prepare(args.output_dir)
        work = _work(recordings, args, formats, results)
        try:
            _transcribe_all(args, work, results)
        except DiskFullError:
            logger.error("stopped, as no further result can be written")
        except KeyboardInterrupt:
            results.tell()
            raise
        results.tell()
    return ExitStatus.SOME_FAILED if results.n_failed else ExitStatus.OK


def _work(
    recordings: Sequence[_Recording], args: argparse.Namespace, formats: Sequence[str], results: _Results
) -> list[tuple[_Recording, dict[str, Path | None]]]:
    """What is to be transcribed, and for each format where it goes; None: standard output.

    Results that exist are left out if asked for, and else reported, unless they may be overwritten.
    """
    from asr.files import file_ids, refuse_input, remove_partial_texts

    if args.output_dir is None:
        return [(recording, dict.fromkeys(formats)) for recording in recordings]
    options = (args.hotwords_file, args.grammar, args.lm, args.rnn_lm, args.model)
    standard_input = 0  # may be a file
    inputs = file_ids([*(r.path or standard_input for r in recordings), *filter(None, options)])
    work: list[tuple[_Recording, dict[str, Path | None]]] = []
    for recording, stem in zip(recordings, _stems(recordings), strict=True):
        targets = {format: args.output_dir / f"{stem}.{format}" for format in formats}
        existing = [path for path in targets.values() if os.path.lexists(path)]
        if args.skip_existing and existing:
            targets = {format: path for format, path in targets.items() if path not in existing}
            if not targets:
                logger.info("%s: skipped, %s exists", recording.message_name, existing[0])
                results.n_skipped += 1
                continue
        elif existing:
            try:
                if not args.overwrite:
                    raise OutputError(
                        f"{existing[0]}: exists; give --overwrite to replace it, or --skip-existing"
                    )
                for path in existing:
                    refuse_input(path, inputs)
            except OutputError as error:
                results.report(recording, error)
                continue
        work.append((recording, dict(targets)))
    for folder in {path.parent for _, targets in work for path in targets.values() if path}:
        remove_partial_texts(folder)
    return work


def _check(args: argparse.Namespace, formats: Sequence[str]) -> None:
    """Raises UsageError for options that contradict each other or where they are used."""
    if args.output_dir is None and len(formats) > 1:
        raise UsageError(f"{', '.join(formats)}: standard output can hold one format; give --output-dir DIR")
    for name in ("skip_existing", "overwrite"):
        if args.output_dir is None and getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option}: needs --output-dir DIR, where the results may exist")
    if args.channel_names and args.channels != "split":
        raise UsageError("--channel-names: needs --channels split, which transcribes each apart")
    if args.follow:
        if args.output_dir is not None:
            raise UsageError("--follow: is for standard output; leave out --output-dir")
        if formats[0] not in FOLLOWED:
            raise UsageError(f"--follow: {' and '.join(FOLLOWED)} are written by the segment; choose one")
        if args.channels == "split" or args.commands:
            raise UsageError("--follow: a later channel or command may change what comes first; leave it out")
    if args.sample_rate is not None and not args.raw:
        raise UsageError("--sample-rate: is for raw samples; give --raw too, or leave it out")
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


def _find(paths: Sequence[str], results: _Results, *, recursive: bool) -> list[_Recording]:
    """The recordings behind the paths, each once; paths that lead to none are reported."""
    recordings: dict[str, _Recording] = {}
    for name in paths:
        path = Path(name)
        if name == "-":
            recordings.setdefault("-", _Recording(None, Path("stdin")))
        elif os.path.isdir(path):
            from asr.audio import find_audio

            try:
                found = find_audio(path, recursive)
            except AsrError as error:
                results.report(None, error)
                continue
            results.has_folder = True
            for member in found:
                place = Path(os.path.relpath(member, path))
                recordings.setdefault(os.path.abspath(member), _Recording(member, place))
        elif _is_missing(path):
            results.report(None, AudioError(f"{path}: no such file or directory; check the path"))
        else:
            # Only a pipe that is named is waited for: one in a folder may be anything's.
            recording = _Recording(path, Path(path.name), _is_pipe(path))
            recordings.setdefault(os.path.abspath(path), recording)
    return list(recordings.values())


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:  # opening it will tell the reason
        return False


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
        os.path.abspath(_without_suffix(recording.path)).casefold()
        for recording in recordings
        if recording.path is not None
    )
    for recording in recordings:
        if recording.path is None:
            places.append(["stdin"])
            continue
        shared = siblings[os.path.abspath(_without_suffix(recording.path)).casefold()] > 1
        place = recording.place if shared else _without_suffix(recording.place)
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


def _without_suffix(path: Path) -> Path:
    """..wav has nothing before its suffix that could be a name, and stays."""
    return path.with_name(path.stem) if path.stem.strip(".") else path


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
    args: argparse.Namespace, work: Sequence[tuple[_Recording, dict[str, Path | None]]], results: _Results
) -> None:
    """Transcribe and write everything; what fails is reported.

    When it is interrupted, what is known by then is written. Raises DiskFullError, and OutputError when
    standard output cannot be written.
    """
    if work:
        check_model(args.model, engine=args.engine, device=args.device)
    recognizer: Recognizer | None = None
    with ExitStack() as processes:
        try:
            for number, (recording, targets) in enumerate(work, start=1):
                name = shown(recording.name)
                label = name if len(work) == 1 else f"{number}/{len(work)} {name}"
                with ExitStack() as stack:
                    begin = time.perf_counter()
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
                        begin = time.perf_counter()
                    job = _Job(recording, targets, recognizer.name, begin, args.channels == "split")
                    results.jobs.append(job)
                    bar = show_progress(label, audio.duration, quiet=args.quiet or results.follows)
                    try:
                        with bar as on_progress:
                            _hear(recognizer, audio, open_channel, args, job, on_progress, results.poll)
                    except (UsageError, LanguageModelError, OutputError, BrokenPipeError):
                        raise  # no fault of the recording's
                    except Exception as error:
                        job.fail(error)
                    job.is_heard = True
                results.report_job(job)
                if not any(channel.duration for channel in job.channels):
                    results.jobs.remove(job)
                results.poll()
                while len(results.jobs) > _MOST_WAITING:
                    results.write(results.jobs[0])
            while results.jobs:
                results.write(results.jobs[0])
        except KeyboardInterrupt:
            results.write_known()
            raise


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


@dataclass(eq=False)
class _Job:
    """A recording on its way through the network and the search.

    targets: where the formats go. error: what kept some of the recording from being heard.
    channels: their transcripts, if they are apart; else that of all of them.
    """

    recording: _Recording
    targets: dict[str, Path | None]
    model: str
    begin: float
    are_apart: bool
    channels: list[Pending] = field(default_factory=list)
    is_heard: bool = False  # by the network, to its end
    error: Exception | None = None
    is_reported: bool = False
    n_followed: int = 0  # segments written while the recording went on
    next_search: int = 0  # where to continue

    def is_done(self) -> bool:
        """Whether transcript() would not wait for the search."""
        return self.is_heard and all(channel.done() for channel in self.channels)

    def fail(self, error: Exception) -> None:
        """The first error is told; what else is known is written."""
        self.error = self.error or error

    def transcript(self) -> Transcript:
        """All segments but those whose search failed; waits for the search."""
        for channel in self.channels:
            with suppress(Exception):  # known() meets it again
                channel.result()
        return self.known()

    def known(self) -> Transcript:
        """As much as is known without waiting."""
        return self._joined(
            [
                Transcript(tuple(channel.known(0, self.fail)[0]), channel.duration)
                for channel in self.channels
            ]
        )

    def _joined(self, transcripts: Sequence[Transcript]) -> Transcript:
        if not self.are_apart:
            return transcripts[0] if transcripts else Transcript((), 0.0)
        segments = [
            replace(segment, channel=channel)
            for channel, transcript in enumerate(transcripts, start=1)
            for segment in transcript.segments
        ]
        segments.sort(key=lambda segment: segment.start)
        duration = max((transcript.duration for transcript in transcripts), default=0.0)
        return Transcript(tuple(segments), duration)


class _Results:
    """Writes transcripts to where they go as soon as they are known; counts and reports what failed."""

    def __init__(
        self, args: argparse.Namespace, formats: Sequence[str], as_written: Callable[[Transcript], Transcript]
    ) -> None:
        self.jobs: list[_Job] = []  # heard or being heard, and not written, in the order of the inputs
        self.n_inputs = 0
        self.n_skipped = self.n_failed = 0
        self.has_folder = args.output_dir is not None
        self._n_done = 0
        self._seconds, self._begin = 0.0, time.perf_counter()
        self._n_printed = 0
        self._args, self._as_written = args, as_written
        self._in_colour = args.print_confidence and sys.stdout is not None and sys.stdout.isatty()
        on_terminal = args.output_dir is None and sys.stdout.isatty() and formats == ["txt"]
        self.follows = args.follow or (on_terminal and not args.commands and args.channels != "split")

    def report(self, recording: _Recording | None, error: Exception) -> None:
        """Count a failure, and tell it in one line that names the recording and the reason."""
        _report(recording, error, self._args.verbose)
        self.n_failed += 1

    def report_job(self, job: _Job) -> None:
        """Tell the error of a recording, once."""
        if job.error is not None and not job.is_reported:
            job.is_reported = True
            self.report(job.recording, job.error)

    def poll(self) -> None:
        """Write what has become known."""
        if self._args.output_dir is not None:
            for job in self.jobs.copy():
                if job.is_done():
                    self.write(job)
            return
        while self.jobs and self.jobs[0].is_done():
            self.write(self.jobs[0])
        if self.jobs and self.follows:
            self._follow(self.jobs[0])

    def write(self, job: _Job) -> None:
        """All formats of a transcript, once it is known; the job is over then."""
        try:
            transcript = self._shifted(job.transcript())
            self.report_job(job)
            seconds = time.perf_counter() - job.begin
            self._seconds += transcript.duration
            logger.info(
                "%s: %.1f s of audio in %.2f s", job.recording.message_name, transcript.duration, seconds
            )
            if self.follows:
                self._follow(job, is_last=True)
            elif transcript.segments or job.error is None:
                self._write_formats(job, self._as_written(transcript), is_complete=job.error is None)
            self._n_done += job.error is None
        except Exception as error:
            if isinstance(error, FileExistsError):  # since this run began
                if self._args.skip_existing:
                    self.n_skipped += 1
                    self.jobs.remove(job)
                    return
                reason = "another program has written it meanwhile; give --overwrite to replace it"
                error = OutputError(f"{error.filename2 or error.filename}: {reason}")
            is_standard_output = self._args.output_dir is None and isinstance(error, OSError | OutputError)
            if is_standard_output:
                raise
            if job.is_reported:
                _report(job.recording, error, self._args.verbose)
            job.error = error
            self.report_job(job)
            if isinstance(error, DiskFullError):
                raise
        self.jobs.remove(job)

    def write_known(self) -> None:
        """All that is known of the recordings that are not finished, marked as incomplete."""
        for job in self.jobs.copy():
            try:
                if job.is_done():
                    self.write(job)
                    continue
                transcript = self._shifted(job.known())
                end = transcript.segments[-1].end if transcript.segments else 0.0
                transcript = replace(transcript, duration=end)
                if self.follows:
                    self._follow(job)
                elif transcript.segments:
                    self._write_formats(job, self._as_written(transcript), is_complete=False, so_far=True)
            except Exception as error:
                self.report(job.recording, error)
                continue
            logger.warning(
                "%s: interrupted; %s",
                job.recording.message_name,
                f"incomplete, the text ends at {end:.1f} s" if end else "no text yet",
            )

    def tell(self) -> None:
        """One line about a run over several recordings or a folder."""
        n_left = self.n_inputs - self._n_done - self.n_skipped - self.n_failed
        if self._args.quiet or sys.stderr is None or not (self.has_folder or n_left):
            return
        if self.n_inputs < 2 and not self.n_skipped:
            return
        counts = [(self._n_done, "done"), (self.n_skipped, "skipped"), (self.n_failed, "failed")]
        told = ", ".join(f"{n} {what}" for n, what in [*counts, *([(n_left, "not done")] if n_left else [])])
        seconds = time.perf_counter() - self._begin
        speed = f"{self._seconds:.1f} s of audio in {seconds:.1f} s"
        rate = f" ({self._seconds / seconds:.1f} x real time)" if seconds else ""
        print(f"asr: {told}" + (f"; {speed}{rate}" if self._seconds else ""), file=sys.stderr)

    def _shifted(self, transcript: Transcript) -> Transcript:
        """In times of the recording, which was opened at an offset."""
        segments = tuple(segment.shifted(self._args.offset) for segment in transcript.segments)
        return replace(transcript, segments=segments)

    def _write_formats(
        self, job: _Job, transcript: Transcript, *, is_complete: bool, so_far: bool = False
    ) -> None:
        """so_far: under names that no finished result has, so that none is taken for one."""
        from asr.files import write_text

        for format, target in job.targets.items():
            in_colour = self._in_colour and format == "txt" and target is None
            document = render(
                coloured(transcript) if in_colour else transcript,
                format,
                file=job.recording.name,
                model=job.model,
                word_timestamps=self._args.word_timestamps,
                channels=Channels(self._args.channel_names, len(job.channels) if job.are_apart else 0),
                is_complete=is_complete,
            )
            if target is None:
                self._print(job.recording, format, document)
                continue
            incomplete = target.with_name(f"{target.name}.incomplete")
            if so_far:
                write_text(incomplete, document, overwrite=True)
                continue
            write_text(target, document, overwrite=self._args.overwrite)
            incomplete.unlink(missing_ok=True)

    def _follow(self, job: _Job, *, is_last: bool = False) -> None:
        """Write the segments that have become known since the last time."""
        (format,) = job.targets
        found, job.next_search = job.channels[0].known(job.next_search, job.fail)
        transcript = self._as_written(self._shifted(Transcript(tuple(found), 0.0)))
        if self._in_colour and format == "txt":
            transcript = coloured(transcript)
        for segment in transcript.segments:
            line = render_segment(
                segment,
                job.n_followed,
                format,
                file=job.recording.name,
                word_timestamps=self._args.word_timestamps,
            )
            self._print(job.recording, format, line, is_first=job.n_followed == 0)
            job.n_followed += 1
        if is_last and format == "jsonl":
            seconds = round(job.channels[0].duration, 3)
            end = {"file": job.recording.name, "duration": seconds, "model": job.model}
            print_result(json.dumps(end | ({"incomplete": True} if job.error else {})) + "\n")
        elif is_last and not job.n_followed:
            self._print(job.recording, format, "")

    def _print(self, recording: _Recording, format: str, document: str, *, is_first: bool = True) -> None:
        if is_first and self.n_inputs > 1 and format not in _SELF_NAMING:
            gap = "\n" if self._n_printed else ""
            document = f"{gap}==> {shown(recording.name)} <==\n{document}"
        print_result(document)
        self._n_printed += 1


def _report(recording: _Recording | None, error: Exception, verbose: bool) -> None:
    """One line that names the recording and the reason; the traceback of a surprise if verbose."""
    message = str(error)
    if not isinstance(error, AsrError):
        hint = "" if verbose else "; run with -v for the traceback"
        message = f"unexpected {type(error).__name__}: {' '.join(message.split())}{hint}"
    if recording is not None and recording.message_name not in message:
        message = f"{recording.message_name}: {message}"
    surprise = verbose and not isinstance(error, AsrError)
    logger.error("%s", message, exc_info=error if surprise else None)


@contextmanager
def _opener(recording: _Recording, args: argparse.Namespace) -> Iterator[Callable[[str | int], AudioReader]]:
    """Gives a function that opens the recording, mixed or one of its channels."""
    from asr.audio import open_audio, spool_pipe, spool_standard_input

    with ExitStack() as stack:
        source = recording.path
        if source is None:
            source = stack.enter_context(spool_standard_input())
        elif recording.is_pipe:
            source = stack.enter_context(spool_pipe(source))
        yield lambda channels: open_audio(
            source,
            channels=channels,
            offset=args.offset,
            duration=args.duration,
            raw_sample_rate=(args.sample_rate or 16_000) if args.raw else None,
            track=args.track,
            name=recording.message_name,
        )


def _hear(
    recognizer: Recognizer,
    audio: AudioReader,
    open_channel: Callable[[str | int], AudioReader],
    args: argparse.Namespace,
    job: _Job,
    on_progress: Callable[[int, float], None],
    poll: Callable[[], None],
) -> None:
    """Let the network hear the recording, or its channels one after the other if they are apart.

    audio: the first channel when they are transcribed apart, else all that is asked for.
    on_progress: is called with the channels that are done and the seconds of the current one.
    poll: is called now and then. What damage leaves of the recording is heard, and the error kept.
    """

    def sound(reader: AudioReader) -> Iterator[np.ndarray]:
        try:
            yield from reader
        except Exception as error:
            job.fail(error)

    def hear(reader: AudioReader) -> None:
        n_before = len(job.channels)

        def progress(seconds: float) -> None:
            on_progress(n_before, seconds)
            poll()

        recognizer.begin(
            sound(reader), batch_size=args.batch_size, on_progress=progress, on_begin=job.channels.append
        )

    hear(audio)
    if args.channels == "split":
        for channel in range(2, audio.n_channels + 1):
            with open_channel(channel) as samples:
                hear(samples)
