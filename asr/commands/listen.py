"""asr listen: what is said into a microphone -> text, while it is being said."""

from __future__ import annotations

import argparse
import json
import logging
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import arguments
from asr.commands import (
    add_confidence_option,
    add_decoder_options,
    add_endpoint_options,
    add_engine_option,
    add_streaming_model_options,
    check_streaming_models,
    decoder_options,
    load_stream,
    protect_inputs,
    stream_config,
)
from asr.errors import AsrError, ExitStatus, OutputError, UsageError
from asr.interruption import ended_by_signals
from asr.transcript import Final, Partial, Segment

if TYPE_CHECKING:
    import numpy as np

    from asr.streaming import Stream

logger = logging.getLogger(__name__)

_METER_DB = -60.0  # of full scale: the left end of the meter
_METER_WIDTH = 20  # characters
_SILENCE_DB = -100.0  # less than the last bit of 16

_EXAMPLES = """\
examples:
  asr listen                                  the words, as they are spoken; Ctrl-C ends it
  asr listen --list-devices
  asr listen -d USB --save-audio talk.wav > talk.txt
  asr listen --json | my-program
  asr listen --simulate talk.wav --fast       how quick and steady would it be?
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "listen",
        description="Turn what a microphone hears into text: words while they are spoken, a line a sentence.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--simulate",
        nargs="+",
        metavar="FILE",
        help="listen to recordings as if they were spoken now, then report latencies and load",
    )
    parser.add_argument(
        "--fast", action="store_true", help="simulate without waiting; the clock is reckoned"
    )
    parser.add_argument(
        "--timeout", type=arguments.positive_seconds, metavar="SECONDS", help="listen for so long"
    )

    microphone = parser.add_argument_group("microphone")
    microphone.add_argument("-l", "--list-devices", action="store_true", help="show all inputs")
    microphone.add_argument(
        "-d",
        "--input-device",
        metavar="ID|NAME",
        help="number of an input or a part of its name (default: the system's)",
    )
    microphone.add_argument(
        "-r",
        "--sample-rate",
        "--samplerate",
        type=arguments.whole(1_000, 768_000),
        metavar="HZ",
        help="record at this rate (default: the device's)",
    )
    microphone.add_argument(
        "--channels",
        type=_channels,
        default="mix",
        metavar="mix|N",
        help="mix all, or listen to the Nth, from 1 (default: mix)",
    )

    model = parser.add_argument_group("model")
    add_streaming_model_options(model)
    add_engine_option(model)
    model.add_argument("-t", "--threads", type=arguments.count, metavar="N", help="CPU threads (default: 1)")

    add_decoder_options(parser, leaves_out=["nbest"])
    add_confidence_option(parser)

    add_endpoint_options(parser)

    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="a JSON object a line, in the form of Vosk")
    output.add_argument("--no-partials", action="store_true", help="finished sentences only")
    output.add_argument("--meter", action="store_true", help="show the loudness (on a terminal)")
    output.add_argument(
        "--save-audio", type=Path, metavar="FILE", help="keep what was heard, as .wav or .flac"
    )
    output.add_argument("--overwrite", action="store_true", help="write over files that exist")


def _channels(text: str) -> str | int:
    return text if text == "mix" else arguments.count(text)


def run(args: argparse.Namespace) -> ExitStatus:
    _check(args)
    if args.list_devices:
        return _list_devices()
    if args.simulate:
        return _simulate(args)
    return _listen(args)


def _check(args: argparse.Namespace) -> None:
    """Raises for what cannot work, before a microphone is opened or a model loaded."""
    if args.fast and not args.simulate:
        raise UsageError("--fast: is for recordings; give --simulate FILE too, or leave it out")
    if args.save_audio and args.save_audio.exists() and not args.overwrite:
        raise OutputError(f"{args.save_audio}: exists; choose another name, or give --overwrite")
    if args.simulate and args.save_audio:
        raise UsageError("--save-audio: is for the microphone; leave it out with --simulate")
    if args.list_devices:
        return
    protect_inputs(args, "save_audio")
    check_streaming_models(args, engine=args.engine)


def _list_devices() -> ExitStatus:
    from asr.microphone import devices

    for device in devices():
        mark = "*" if device.is_default else " "
        print(f"{mark} {device.id}  {device.name} ({device.n_channels} channels, {device.sample_rate} Hz)")
    return ExitStatus.OK


def _make_stream(args: argparse.Namespace) -> Stream:
    return load_stream(
        args,
        stream_config(args),
        engine=args.engine,
        threads=args.threads,
        decoding=decoder_options(args),
    )


def _listen(args: argparse.Namespace) -> ExitStatus:
    from asr.audio import SAMPLE_RATE, write_audio
    from asr.microphone import Microphone

    display = _Display(args)
    with ExitStack() as stack:
        # The recording begins before the model is loaded: what is said meanwhile is not lost.
        microphone = stack.enter_context(
            Microphone(args.input_device, sample_rate=args.sample_rate, channels=args.channels)
        )
        save = stack.enter_context(write_audio(args.save_audio)) if args.save_audio else None
        logger.info("%s: recording", microphone.name)
        stack.enter_context(ended_by_signals(microphone.stop))
        stack.callback(display.close)
        display.note("listening; Ctrl-C ends it")
        stream = _make_stream(args)
        n_left = math.inf if args.timeout is None else round(args.timeout * SAMPLE_RATE)
        for block in microphone:
            samples = block[: int(min(n_left, len(block)))]
            n_left -= len(samples)
            if save:
                save(samples)
            display.hear(samples)
            display.show(stream.feed(samples))
            if n_left <= 0:
                break
        display.show(stream.finish())
    return ExitStatus.OK


def _simulate(args: argparse.Namespace) -> ExitStatus:
    from asr.audio import open_audio
    from asr.simulation import Report, closing_silence, simulate

    display = _Display(args)
    report = Report()
    stream: Stream | None = None
    n_failed = n_damaged = 0
    for path in args.simulate:
        try:
            with open_audio(path, channels=args.channels, duration=args.timeout) as audio:
                stream = stream or _make_stream(args)
                silence = closing_silence(stream.config.endpoint)
                simulate(
                    stream,
                    audio.heard(),
                    report,
                    display.show,
                    silence=silence,
                    in_real_time=not args.fast,
                )
                if audio.error is not None:
                    logger.error("%s", audio.error)
                    n_damaged += 1
        except UsageError:
            raise
        except AsrError as error:
            logger.error("%s", error)
            n_failed += 1
    display.close()
    if n_failed < len(args.simulate):
        _print_report(report.values(), as_json=args.json)
    return ExitStatus.SOME_FAILED if n_failed or n_damaged else ExitStatus.OK


_REPORT_LINES = (
    ("first partial after the first word's end", "first_partial"),
    ("word shown after its end", "shown"),
    ("word committed after its end", "committed"),
    ("final text after the last word", "final"),
    ("final text after the end was decided", "endpoint"),
)


def _print_report(values: dict[str, float | None], *, as_json: bool) -> None:
    if as_json:
        rounded = {name: None if value is None else round(value, 4) for name, value in values.items()}
        print(json.dumps({"report": rounded}))
        return

    say = partial(print, file=sys.stderr)  # standard output holds the text

    def shown(name: str, unit: str, scale: float = 1.0) -> str:
        value = values[name]
        return "-" if value is None else f"{scale * value:.2f}{unit}"

    say()
    say(f"{values['audio_seconds']:.1f} s of audio, {values['utterances']} utterances")
    for text, name in _REPORT_LINES:
        say(f"{text + ':':<42} {shown(name + '_median', ' s')} median, {shown(name + '_95', ' s')} 95 %")
    say(f"{'words shown and taken back:':<42} {shown('retracted_words', ' %', 100)}")
    if values["replaced_words"] is not None:
        say(f"{'words that the second pass replaced:':<42} {shown('replaced_words', ' %', 100)}")
    say(f"{'computing time per second of audio:':<42} {shown('real_time_factor', ' s')}")
    say(f"{'load of one CPU:':<42} {shown('cpu_share', ' %', 100)}")


class _Display:
    """Finished sentences on standard output; the words under way on the terminal, in place."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._json = args.json
        self._partials = not args.no_partials
        has_terminal = not args.quiet and sys.stderr is not None and sys.stderr.isatty()
        self._in_place = has_terminal and self._partials and not args.json
        self._meter = has_terminal and args.meter
        self._has_terminal = has_terminal
        self._wraps = not args.json and sys.stdout is not None and sys.stdout.isatty()
        self._n_lines = 1  # that are drawn in place
        self._partial = Partial((), ())
        self._level = ""

    def note(self, text: str) -> None:
        """Something to say on a terminal, and nowhere else."""
        if self._has_terminal:
            print(f"asr: {text}", file=sys.stderr)

    def hear(self, samples: np.ndarray) -> None:
        """Show how loud these samples are."""
        if self._meter and len(samples):
            peak = float(abs(samples).max())
            level = 20 * math.log10(peak) if peak else -math.inf
            n_marks = round(_METER_WIDTH * min(1.0, max(0.0, 1 - level / _METER_DB)))
            shown = f"{level:4.0f} dB" if level > _SILENCE_DB else "silence"
            self._level = f"[{'#' * n_marks:<{_METER_WIDTH}}] {shown} "
            self._redraw()

    def show(self, events: Sequence[Partial | Final]) -> None:
        for event in events:
            if isinstance(event, Final):
                self._partial = Partial((), ())
                self._clear()  # standard output may be the same terminal
                self._write(event.segment)
            else:
                self._partial = event
                if self._json and self._partials:
                    print(json.dumps({"partial": event.text}), flush=True)
        if events:
            self._redraw()

    def close(self) -> None:
        """Leave the terminal clean."""
        self._partial, self._level = Partial((), ()), ""
        self._clear()

    def _write(self, segment: Segment) -> None:
        if self._json:
            text = json.dumps(_vosk(segment))
        elif self._wraps:
            text = "\n".join(_lines(segment.text, shutil.get_terminal_size().columns - 1))
        else:
            text = segment.text
        print(text, flush=True)

    def _clear(self) -> None:
        """Erase what was drawn in place; the cursor is then where it began."""
        if self._in_place or self._meter:
            up = f"\x1b[{self._n_lines - 1}A" if self._n_lines > 1 else ""
            sys.stderr.write(f"\r{up}\x1b[J")
            sys.stderr.flush()
            self._n_lines = 1

    def _redraw(self) -> None:
        """Show the level and the words under way, in as many lines as they need."""
        if not self._in_place and not self._meter:
            return
        size = shutil.get_terminal_size()
        words = [word.text for word in self._partial.words] if self._in_place else []
        lines = _lines(self._level + " ".join(words), size.columns - 1)
        n_dropped = max(0, len(lines) - max(1, size.lines - 1))  # a line that has left cannot be redrawn
        n_committed = len(self._level.split()) + len(self._partial.committed)
        n_committed -= sum(len(line.split()) for line in lines[:n_dropped])
        lines = lines[n_dropped:]
        drawn = []
        for line in lines:
            # The level keeps its blanks: words are counted, not joined anew.
            cut = _end_of_words(line, n_committed)
            n_committed = max(0, n_committed - len(line.split()))
            drawn.append(line[:cut] + (f"\x1b[2m{line[cut:]}\x1b[0m" if line[cut:] else ""))
        self._clear()
        sys.stderr.write("\n".join(drawn))
        sys.stderr.flush()
        self._n_lines = max(1, len(lines))


def _lines(text: str, width: int) -> list[str]:
    """The text in lines that end between words; a longer word than a line is cut."""
    return textwrap.wrap(
        text, max(1, width), break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False
    )


def _end_of_words(line: str, n_words: int) -> int:
    """The place in the line after so many of its words."""
    ends = [match.end() for match in re.finditer(r"\S+", line)]
    return 0 if n_words <= 0 or not ends else ends[min(n_words, len(ends)) - 1]


def _vosk(segment: Segment) -> dict[str, Any]:
    return {
        "text": segment.text,
        "result": [
            {
                "conf": round(word.probability, 4),
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "word": word.text,
            }
            for word in segment.words
        ],
    }
