"""asr dictate: speech -> key strokes in whatever window has the focus, begun and ended by short commands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import arguments
from asr.commands import (
    add_confidence_option,
    add_decoder_options,
    add_endpoint_options,
    add_streaming_model_options,
    check_streaming_models,
    decoder_options,
    load_stream,
    stream_config,
)
from asr.errors import AsrError, ExitStatus, OutputError

if TYPE_CHECKING:
    import numpy as np

    from asr.audio import AudioReader
    from asr.decoding.decoder import DecoderOptions
    from asr.dictation import Source
    from asr.keyboard import Keyboard
    from asr.spoken import Edit, Writer

logger = logging.getLogger(__name__)

_NAME = "dictate"  # of lock, socket and log
_ACTIONS = ("begin", "end", "toggle", "cancel", "suspend", "resume", "status")
_NOT_TYPED = ("clipboard", "stdout")  # have no backspace: they get the text at the end

_EXAMPLES = """\
actions:
  begin     start to listen, in the background; what you say is typed
  end       type what is left and stop
  toggle    begin, or end if a dictation is running: for a key of your desktop
  cancel    stop without typing what is not finished
  suspend   close the microphone and keep the model; resume opens it again
  status    print loading, listening, suspended, or off

examples:
  asr dictate toggle --full-sentence
  asr dictate begin --continuous --timeout 60
  asr dictate begin --simulate-input-tool stdout > letter.txt
"""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "dictate",
        description="Type what you say into the window that has the focus.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))

    output = parser.add_argument_group("output (of begin and toggle, as all that follow)")
    output.add_argument(
        "--simulate-input-tool",
        choices=("auto", "xdotool", "wtype", "dotool", "ydotool", *_NOT_TYPED),
        default="auto",
        help="what types, or takes the text at the end (default: auto, as the session needs)",
    )
    output.add_argument(
        "--live",
        action="store_true",
        help="type words while you speak and correct the last few with backspaces, in the same window only"
        " (default: type what was said once, when the second pass is done)",
    )
    output.add_argument("--defer-output", action="store_true", help="type everything at the end")
    output.add_argument(
        "--continuous", action="store_true", help="each pause ends a sentence, not only the end"
    )
    output.add_argument(
        "--full-sentence", action="store_true", help="begin with a capital and end with a full stop"
    )
    output.add_argument("--numbers-as-digits", action="store_true", help="write 25 for twenty five")
    output.add_argument(
        "--no-commands", action="store_true", help='"comma", "new line" and the like are words'
    )

    audio = parser.add_argument_group("input")
    audio.add_argument(
        "-d", "--input-device", metavar="ID|NAME", help="microphone, by number or a part of its name"
    )
    audio.add_argument(
        "--simulate", metavar="FILE", help="hear a recording, at its own speed, instead of the microphone"
    )
    audio.add_argument(
        "--timeout",
        type=arguments.seconds,
        default=0.0,
        metavar="SECONDS",
        help="end after so long without a word (default: never)",
    )

    audio.add_argument(
        "-r",
        "--sample-rate",
        "--samplerate",
        type=arguments.count,
        metavar="HZ",
        help="record at this rate (default: the device's)",
    )

    model = parser.add_argument_group("model")
    add_streaming_model_options(model)
    add_decoder_options(parser, leaves_out=["nbest"])
    add_confidence_option(parser)
    add_endpoint_options(parser)


def run(args: argparse.Namespace) -> ExitStatus:
    from asr.control import request
    from asr.paths import runtime_folder

    folder = runtime_folder()
    if args.action == "begin":
        return _begin(args, folder)
    if args.action == "toggle":
        if request(folder, _NAME, "end") is not None:
            return ExitStatus.OK
        try:
            return _begin(args, folder)
        except AsrError:
            if request(folder, _NAME, "end") is None:  # else another toggle was faster: this one ends it
                raise
            return ExitStatus.OK
    answer = request(folder, _NAME, args.action)
    if args.action == "status":
        print(answer or "off")
    elif answer is None:
        raise AsrError("no dictation is running; asr dictate begin starts one")
    return ExitStatus.OK


def _begin(args: argparse.Namespace, folder: Path) -> ExitStatus:
    """Check what can be checked at once, then dictate: in the background unless stdout takes the text."""
    from asr.keyboard import Keyboard
    from asr.paths import config_file, log_file
    from asr.spoken import Writer, load_commands

    check_streaming_models(args)
    decoding = decoder_options(args)  # its files are looked at here, where an error can be seen
    writer = Writer(
        {} if args.no_commands else load_commands(config_file("commands.toml")),
        full_sentence=args.full_sentence,
        numbers_as_digits=args.numbers_as_digits,
    )
    if args.simulate_input_tool == "stdout":
        return _dictate(args, folder, writer, decoding, None, lambda message: None)
    keyboard = Keyboard(args.simulate_input_tool)
    logger.info("typing with %s", keyboard.tool)
    log = log_file(f"{_NAME}.log")
    tell = _fork(log)
    if tell is None:
        return ExitStatus.OK
    try:
        return _dictate(args, folder, writer, decoding, keyboard, tell)
    except AsrError as error:
        tell(str(error))
        raise


def _fork(log: Path) -> Callable[[str], None] | None:
    """In a new background process: a function that tells the old one how it went, "" for well.

    In the old process: None, once it has been told that all is well; it raises OutputError otherwise.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.parent.chmod(0o700)
        messages = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.fchmod(messages, 0o600)  # an older file may have been readable by others
    except OSError as error:
        raise OutputError(f"{log}: cannot be written ({error.strerror})") from None
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(writer)
        os.close(messages)
        with os.fdopen(reader, encoding="utf-8") as answer:
            message = answer.readline()
        if not message:
            raise OutputError(f"the dictation has ended at once; {log} may tell why")
        if message.strip():
            raise AsrError(message.strip())
        return None
    os.close(reader)
    os.setsid()  # it outlives the terminal
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, target in ((nothing, 0), (nothing, 1), (messages, 2)):
        os.dup2(descriptor, target)
    waiting = [writer]

    def tell(message: str) -> None:
        if waiting:
            descriptor = waiting.pop()
            os.write(descriptor, f"{message}\n".encode())
            os.close(descriptor)

    return tell


def _dictate(
    args: argparse.Namespace,
    folder: Path,
    writer: Writer,
    decoding: DecoderOptions,
    keyboard: Keyboard | None,
    tell: Callable[[str], None],
) -> ExitStatus:
    """Dictate until it ends. keyboard: None for standard output. tell: gets "" when all is ready."""
    from asr.control import Control
    from asr.dictation import Dictation, DictationConfig, load_hook
    from asr.interruption import ended_by_signals
    from asr.keyboard import Typist
    from asr.paths import config_file

    config = DictationConfig(
        continuous=args.continuous,
        live=args.live,
        defer_output=args.defer_output or args.simulate_input_tool in _NOT_TYPED,
        timeout=args.timeout,
    )
    try:
        hook = load_hook(config_file("hook.py"))
    except AsrError as error:
        logger.error("%s; the words are written as they are", error)
        hook = None
    apply = _print if keyboard is None else Typist(keyboard, live=args.live).apply
    dictation = Dictation(config, writer, apply, hook)
    control = Control(folder, _NAME, dictation.request)
    try:
        with ended_by_signals(dictation.stop):
            dictation.run(
                _source(args),
                lambda: load_stream(args, stream_config(args), decoding=decoding),
                on_listening=lambda: logger.info("listening"),
                on_ready=lambda: tell(""),
            )
    finally:
        control.close()
    return ExitStatus.OK


def _print(edit: Edit) -> None:
    print(edit.text, flush=True)


def _source(args: argparse.Namespace) -> Source:
    """Opens what is to be heard: the microphone, or the recording where it was left."""
    if args.simulate is None:
        from asr.microphone import Microphone

        return lambda: Microphone(args.input_device, sample_rate=args.sample_rate)
    from asr.audio import open_audio

    blocks = _paced(open_audio(args.simulate))

    @contextmanager
    def recording() -> Iterator[Iterable[np.ndarray]]:
        yield blocks

    return recording


def _paced(audio: AudioReader) -> Iterator[np.ndarray]:
    """A recording as a microphone gives it, a block of a tenth of a second at a time, and some silence."""
    import numpy as np

    from asr.audio import SAMPLE_RATE

    n_samples = SAMPLE_RATE // 10
    silence = np.zeros(SAMPLE_RATE // 2, np.float32)
    due = time.monotonic()
    with audio:
        for samples in chain(audio.heard(), [silence]):
            for start in range(0, len(samples), n_samples):
                block = samples[start : start + n_samples]
                due = max(due + len(block) / SAMPLE_RATE, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
                yield block
    if audio.error is not None:
        logger.error("%s", audio.error)
