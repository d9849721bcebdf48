"""The command tree, logging, and errors -> message + exit status: the only file that exits.

It imports nothing slow, and of the verbs only the one that is called.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Container, Iterable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from asr import __version__
from asr.errors import AsrError, ExitStatus, MissingExtraError, UsageError, shown
from asr.interruption import status_of

# Verb, the same as its file in asr/commands -> what `asr --help` says of it.
VERBS = {
    "transcribe": "turn recordings into text",
    "listen": "turn what a microphone hears into text, while it is said",
    "dictate": "type what you say into the focused window",
    "align": "tell where each word of a text is said in a recording",
    "data": "make and check manifests of recordings",
    "train": "train a model from a configuration file",
    "evaluate": "measure the word error rate of a model on a manifest",
    "bench": "measure speed, start-up and memory on this machine",
    "average": "make one model from several checkpoints of a run",
    "info": "describe a model",
    "export": "write a model as an ONNX graph, small and fast on the CPU",
    "lm": "make, tune and describe language models",
    "doctor": "check what this installation can do, and say what it lacks",
}

_MOST_THREADS = 64  # without a doubt whether they are meant, on machines of fewer cores


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of one command line (without the program's name), all messages written."""
    status = _run_reporting_errors(list(sys.argv[1:] if arguments is None else arguments))
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _abandon_stdout()
        if status == ExitStatus.OK:
            status = ExitStatus.SOME_FAILED
            if not isinstance(error, BrokenPipeError):
                _report(f"error: standard output: {error.strerror}")
    return int(status)


def run_and_exit() -> NoReturn:
    """End the process with the status of its own command line."""
    sys.exit(main())


def _run_reporting_errors(arguments: list[str]) -> int:
    verbose = False
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name never stops the words
        if not arguments:
            _overview_parser().print_help(sys.stderr)
            return ExitStatus.USAGE
        if arguments[0] == "recipe":
            from asr.commands import recipe

            return recipe.run(arguments[1:])
        if arguments[0] not in VERBS:
            return _overview(arguments[0])
        module: Any = import_module(f"asr.commands.{arguments[0]}")
        parser = _verb_parser(arguments[0], module)
        args = parser.parse_intermixed_args(_plain_spelling(arguments[1:], parser))
        verbose = args.verbose
        _configure_logging(quiet=args.quiet, verbose=verbose)
        if getattr(args, "threads", None):
            args.threads = _sensible_threads(args.threads)
        return ExitStatus(module.run(args))
    except SystemExit as exit:  # how argparse ends --help and --version
        return exit.code if isinstance(exit.code, int) else ExitStatus.OK
    except KeyboardInterrupt as interruption:
        _report("interrupted")
        return status_of(interruption)
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        _abandon_stdout()
        return ExitStatus.SOME_FAILED
    except MissingExtraError as error:
        _start_again_with(error.extra, arguments)
        _report(f"error: {error}")
        return ExitStatus.USAGE
    except AsrError as error:
        _report(f"error: {error}")
        return ExitStatus.USAGE if isinstance(error, UsageError) else ExitStatus.SOME_FAILED
    except Exception as error:
        if verbose:
            import traceback

            traceback.print_exc()
        hint = "" if verbose else "; run with -v for the traceback"
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        _report(f"error: unexpected {reason}{hint}")
        return ExitStatus.SOME_FAILED


def _start_again_with(extra: str, arguments: list[str]) -> None:
    """Let bin/asr install an extra and run the command line anew; return if it did not start this."""
    launcher = os.environ.get("ASR_LAUNCHER")
    if launcher and os.environ.get("ASR_EXTRA") != extra:  # otherwise it has been tried
        os.environ["ASR_EXTRA"] = extra
        os.execv(launcher, [launcher, *arguments])


def _report(message: str) -> None:
    print(f"asr: {shown(message)}", file=sys.stderr)


def _abandon_stdout() -> None:
    """Keep what is left in the buffer from failing once more when the interpreter flushes it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """A parser that raises UsageError, and takes options by their whole names only."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def _overview_parser() -> _Parser:
    """The parser behind `asr --help`: every verb by name alone."""
    parser = _Parser(
        prog="asr",
        description="Offline English speech recognition.",
        epilog="asr VERB --help lists the options of a verb. In a clone, asr recipe NAME runs a script of "
        "recipes/.",
    )
    _add_version(parser)
    verbs = parser.add_subparsers(metavar="VERB", title="verbs")
    for name, summary in VERBS.items():
        verbs.add_parser(name, help=summary, add_help=False)
    return parser


def _overview(argument: str) -> int:
    """What `asr` does when its first argument is no verb."""
    if argument in {"-h", "--help", "-V", "--version"}:
        _overview_parser().parse_args([argument])
    if argument.startswith("-") and argument != "-":
        raise UsageError(f"{argument}: a verb comes before its options; see asr --help")
    if argument == "-" or os.path.exists(argument):
        raise UsageError(f"{argument}: not a verb; did you mean asr transcribe {argument}?")
    nearest = _nearest(argument, VERBS)
    hint = f"did you mean {nearest}?" if nearest else "see asr --help"
    raise UsageError(f"{argument}: no such verb; {hint}")


def _verb_parser(verb: str, module: Any) -> argparse.ArgumentParser:
    verbs = _Parser(prog="asr").add_subparsers()
    module.add_parser(verbs)
    parser: argparse.ArgumentParser = verbs.choices[verb]
    messages = parser.add_argument_group("messages")
    loudness = messages.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="errors only, no progress")
    loudness.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    _add_version(messages)
    return parser


def _add_version(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("-V", "--version", action="version", version=f"asr {__version__}")


def _plain_spelling(arguments: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """The arguments as the parser knows them: --word_timestamps True -> --word-timestamps."""
    known = {name: action for action in parser._actions for name in action.option_strings}
    plain: list[str] = []
    waiting = arguments[::-1]
    while waiting:
        argument = waiting.pop()
        if argument == "--":
            # argparse loses a "--" when options and inputs are mixed; ./-x cannot be an option.
            plain += [f"./{path}" if path[:1] == "-" != path else path for path in waiting[::-1]]
            break
        if not argument.startswith("--"):
            _check_dash(argument, known)
            plain.append(argument)
            continue
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if name not in known:
            nearest = _nearest(name, known)
            hint = f"did you mean {nearest}?" if nearest else f"see {parser.prog} --help"
            raise UsageError(f"{name}: no such option; {hint}")
        if known[name].const is not True:  # it has a value of its own
            plain.append(name + equals + value)
            continue
        if not equals:
            value = waiting.pop() if waiting[-1:] in (["True"], ["False"]) else "True"
        if value not in {"True", "False"}:
            raise UsageError(f"{argument}: {name} is a switch and takes no value")
        if value == "True":
            plain.append(name)
    return plain


def _sensible_threads(n: int) -> int:
    """As many as asked for, or as there are cores if that number cannot be meant."""
    n_cores = os.cpu_count() or 1
    if n <= max(_MOST_THREADS, n_cores):
        return n
    import logging

    logging.getLogger("asr").warning("--threads %d: this machine has %d cores; using so many", n, n_cores)
    return n_cores


def _check_dash(argument: str, known: Container[str]) -> None:
    """Raise UsageError for the name of a file that begins with a dash."""
    if argument[:1] != "-" or argument in known:
        return
    is_like_a_name = argument[1:2].isalpha() and argument[:2] not in known and "." in argument
    if is_like_a_name or os.path.isfile(argument):
        raise UsageError(f"{argument}: no such option; for the file of this name write ./{argument}")


def _nearest(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1)), None)


def _configure_logging(*, quiet: bool, verbose: bool) -> None:
    """Messages as `asr: error: ...` on stderr; other packages speak only when asked to (-v)."""
    import logging

    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.addLevelName(level, logging.getLevelName(level).lower())
    own_level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    logging.basicConfig(
        format="asr: %(levelname)s: %(message)s", level=max(own_level, logging.WARNING), force=True
    )

    def show(record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage()), None
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(show)
    logging.getLogger("asr").setLevel(own_level)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.WARNING if verbose else logging.ERROR)
