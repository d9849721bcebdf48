"""asr listen: what is said into a microphone -> text, while it is being said."""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import arguments
from asr.commands import (
    add_confidence_option,
    add_decoder_options,
    add_engine_option,
    add_streaming_model_options,
    check_streaming_models,
    decoder_options,
    load_stream,
)
from asr.errors import AsrError, ExitStatus, UsageError
from asr.interruption import ended_by_signals
from asr.transcript import Final, Partial, Segment

if TYPE_CHECKING:
    import numpy as np

    from asr.streaming import Stream

logger = logging.getLogger(__name__)

_METER_DB = -60.0  # of full scale: the left end of the meter
_METER_WIDTH = 20  # characters

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
        "--samplerate",
        type=arguments.count,
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

    add_decoder_options(parser)
    add_confidence_option(parser)

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

    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="a JSON object a line, in the form of Vosk")
    output.add_argument("--no-partials", action="store_true", help="finished sentences only")
    output.add_argument("--meter", action="store_true", help="show the loudness (on a terminal)")
    output.add_argument(
        "--save-audio", type=Path, metavar="FILE", help="keep what was heard, as .wav or .flac"
    )


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
    if args.simulate and args.save_audio:
        raise UsageError("--save-audio: is for the microphone; leave it out with --simulate")
    if args.list_devices:
        return
    check_streaming_models(args, engine=args.engine)


def _list_devices() -> ExitStatus:
    from asr.microphone import devices

    for device in devices():
        mark = "*" if device.is_default else " "
        print(f"{mark} {device.id}  {device.name} ({device.n_channels} channels, {device.sample_rate} Hz)")
    return ExitStatus.OK


def _make_stream(args: argparse.Namespace) -> Stream:
    from asr.segment import ENDPOINT_MODES
    from asr.streaming import StreamConfig

    rules = {
        name: getattr(args, name)
        for name in vars(args)
        if name.startswith("rule") and getattr(args, name) is not None
    }
    endpoint = replace(ENDPOINT_MODES[args.endpoint_mode], **rules)
    config = StreamConfig(endpoint, args.pre_roll, args.min_confidence)
    return load_stream(
        args, config, engine=args.engine, threads=args.threads, decoding=decoder_options(args)
    )


def _listen(args: argparse.Namespace) -> ExitStatus:
    from asr.audio import SAMPLE_RATE, write_audio
    from asr.microphone import Microphone

    display = _Display(args)
    with ExitStack() as stack:
        # The recording begins before the model is loaded: what is said meanwhile is not lost.
        microphone = stack.enter_context(
            Microphone(args.input_device, sample_rate=args.samplerate, channels=args.channels)
        )
        save = stack.enter_context(write_audio(args.save_audio)) if args.save_audio else None
        logger.info("%s: recording", microphone.name)
        stream = _make_stream(args)
        n_left = math.inf if args.timeout is None else round(args.timeout * SAMPLE_RATE)
        stack.enter_context(ended_by_signals(microphone.stop))
        display.note("listening; Ctrl-C ends it")
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
        display.close()
    return ExitStatus.OK


def _simulate(args: argparse.Namespace) -> ExitStatus:
    from asr.audio import open_audio
    from asr.simulation import Report, closing_silence, simulate

    display = _Display(args)
    report = Report()
    stream: Stream | None = None
    n_failed = 0
    for path in args.simulate:
        try:
            with open_audio(path, channels=args.channels, duration=args.timeout) as audio:
                stream = stream or _make_stream(args)
                silence = closing_silence(stream.config.endpoint)
                simulate(
                    stream, audio, report, display.show, silence=silence, in_real_time=not args.fast
                )
        except UsageError:
            raise
        except AsrError as error:
            logger.error("%s", error)
            n_failed += 1
    display.close()
    if n_failed < len(args.simulate):
        _print_report(report.values(), as_json=args.json)
    return ExitStatus.SOME_FAILED if n_failed else ExitStatus.OK


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

    def shown(name: str, unit: str, scale: float = 1.0) -> str:
        value = values[name]
        return "-" if value is None else f"{scale * value:.2f}{unit}"

    print()
    print(f"{values['audio_seconds']:.1f} s of audio, {values['utterances']} utterances")
    for text, name in _REPORT_LINES:
        print(f"{text + ':':<42} {shown(name + '_median', ' s')} median, {shown(name + '_95', ' s')} 95 %")
    print(f"{'words shown and taken back:':<42} {shown('retracted_words', ' %', 100)}")
    if values["replaced_words"] is not None:
        print(f"{'words that the second pass replaced:':<42} {shown('replaced_words', ' %', 100)}")
    print(f"{'computing time per second of audio:':<42} {shown('real_time_factor', ' s')}")
    print(f"{'load of one CPU:':<42} {shown('cpu_share', ' %', 100)}")


class _Display:
    """Finished sentences on standard output; the words under way on the terminal, in place."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._json = args.json
        self._partials = not args.no_partials
        has_terminal = not args.quiet and sys.stderr is not None and sys.stderr.isatty()
        self._in_place = has_terminal and self._partials and not args.json
        self._meter = has_terminal and args.meter
        self._has_terminal = has_terminal
        self._partial = Partial((), ())
        self._level = ""

    def note(self, text: str) -> None:
        """Something to say on a terminal, and nowhere else."""
        if self._has_terminal:
            print(f"asr: {text}", file=sys.stderr)

    def hear(self, samples: np.ndarray) -> None:
        """Show how loud these samples are."""
        if self._meter and len(samples):
            level = 20 * math.log10(max(float(abs(samples).max()), 1e-10))
            n_marks = round(_METER_WIDTH * min(1.0, max(0.0, 1 - level / _METER_DB)))
            self._level = f"[{'#' * n_marks:<{_METER_WIDTH}}] {level:4.0f} dB "
            self._redraw()

    def show(self, events: Sequence[Partial | Final]) -> None:
        for event in events:
            if isinstance(event, Final):
                self._partial = Partial((), ())
                self._redraw()
                fields = json.dumps(_vosk(event.segment)) if self._json else event.segment.text
                print(fields, flush=True)
            else:
                self._partial = event
                if self._json and self._partials:
                    print(json.dumps({"partial": event.text}), flush=True)
        if events:
            self._redraw()

    def close(self) -> None:
        """Leave the terminal clean."""
        self._partial, self._level = Partial((), ()), ""
        self._redraw()

    def _redraw(self) -> None:
        if not self._in_place and not self._meter:
            return
        committed = " ".join(word.text for word in self._partial.committed)
        tentative = " ".join(word.text for word in self._partial.tentative)
        if not self._in_place:
            committed = tentative = ""
        # The end of the sentence is what matters when it is longer than the line.
        room = max(0, shutil.get_terminal_size().columns - 1 - len(self._level))
        tentative = tentative[max(0, len(tentative) - room) :]
        room -= len(tentative) + 1
        committed = committed[max(0, len(committed) - room) :] if room > 0 else ""
        gap = " " if committed and tentative else ""
        sys.stderr.write(f"\r\x1b[K{self._level}{committed}{gap}\x1b[2m{tentative}\x1b[0m")
        sys.stderr.flush()


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
