"""The command line: verbs, spelling of options, messages and exit statuses."""

import logging
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator

import pytest

import asr
from asr import cli
from asr.benchmark import run_process
from asr.errors import AsrError, AudioError, ConfigError, ExitStatus, OutputError, UsageError
from asr.interruption import Terminated


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def probe(monkeypatch) -> Callable[..., types.ModuleType]:
    """Adds a verb `probe` that keeps its args and does what it is given to do."""

    def add(action: Callable[[], object] = lambda: None) -> types.ModuleType:
        module = types.ModuleType("asr.commands.probe")

        def add_parser(subparsers):
            parser = subparsers.add_parser("probe")
            parser.add_argument("paths", nargs="*")
            parser.add_argument("--word-timestamps", action="store_true")
            parser.add_argument("--output-dir")

        def run(args):
            module.args = args
            action()
            return ExitStatus.OK

        module.add_parser, module.run = add_parser, run
        monkeypatch.setitem(cli.VERBS, "probe", "for the tests")
        monkeypatch.setitem(sys.modules, "asr.commands.probe", module)
        return module

    return add


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def asr_process(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asr", *arguments]
    # argparse itself ignores what unbuffered output would tell it.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


def test_help_lists_every_verb_on_stdout(capsys):
    assert cli.main(["--help"]) == 0

    shown = capsys.readouterr()
    assert all(f"\n    {verb} " in shown.out for verb in cli.VERBS)
    assert shown.err == ""


def test_help_comes_quickly():
    # Of CPU, for others may be using the cores; the least, for they also slow each other down.
    costs = [run_process([sys.executable, "-m", "asr", "--help"]) for _ in range(5)]

    assert min(cost.cpu_seconds for cost in costs) < 0.15


def test_importing_the_package_imports_nothing_slow():
    slow = "{'torch', 'numpy', 'onnxruntime', 'av', 'soundfile', 'rich', 'jiwer', 'logging', 'argparse'}"
    code = f"import sys, asr; sys.exit(', '.join({slow} & set(sys.modules)) or 0)"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in cli.VERBS)])
def test_help_imports_nothing_slow(arguments):
    code = (
        "import sys; from asr.cli import main; status = main(sys.argv[1:]);"
        "slow = {'torch', 'torchaudio', 'numpy', 'rich', 'soundfile'} & set(sys.modules);"
        "sys.exit(f'status {status}, imported {slow}' if status or slow else 0)"
    )
    command = [sys.executable, "-c", code, *arguments]

    result = subprocess.run(command, capture_output=True, text=True)

    assert (result.returncode, result.stderr) == (0, "")


def test_help_of_a_verb_lists_quiet_and_verbose(capsys, probe):
    probe()

    assert cli.main(["probe", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--quiet" in shown and "--verbose" in shown and "--version" in shown


@pytest.mark.parametrize("arguments", [["--version"], ["-V"], ["transcribe", "--version"]])
def test_version_is_that_of_the_package(capsys, arguments):
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == f"asr {asr.__version__}\n"


def test_no_verb_is_wrong_usage_and_shows_the_help_on_stderr(capsys):
    assert cli.main([]) == 2

    shown = capsys.readouterr()
    assert shown.out == "" and "transcribe" in shown.err


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["trnscribe", "a.wav"], "did you mean transcribe?"),
        (["xyzzy"], "see asr --help"),
        (["-v", "transcribe"], "a verb comes before its options"),
        ([__file__], f"did you mean asr transcribe {__file__}?"),
        (["probe", "--word-timestmps"], "did you mean --word-timestamps?"),
        (["probe", "--word"], "--word: no such option"),
        (["probe", "-x"], "see asr probe --help"),
        (["probe", "--output-dir"], "expected one argument"),
        (["probe", "--word-timestamps=yes"], "is a switch"),
        (["probe", "-q", "-v"], "not allowed with"),
    ],
)
def test_wrong_usage_is_one_line_with_advice_and_status_2(capsys, probe, arguments, advice):
    probe()

    assert cli.main(arguments) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("asr: error: ") and shown.err.count("\n") == 1
    assert advice in shown.err


@pytest.mark.parametrize(
    ("arguments", "word_timestamps", "paths"),
    [
        (["--word-timestamps", "a"], True, ["a"]),
        (["--word_timestamps", "a"], True, ["a"]),
        (["--word_timestamps", "True", "a"], True, ["a"]),
        (["--word_timestamps", "False", "a"], False, ["a"]),
        (["--word_timestamps=False", "a"], False, ["a"]),
        (["a", "--word_timestamps=True"], True, ["a"]),
        (["a", "--word-timestamps", "b"], True, ["a", "b"]),
        (["True"], False, ["True"]),
        (["-", "a_b"], False, ["-", "a_b"]),
        (["--", "--word_timestamps", "-"], False, ["./--word_timestamps", "-"]),
    ],
)
def test_switches_are_understood_as_flags_and_as_whisper_spells_them(
    probe, arguments, word_timestamps, paths
):
    module = probe()

    assert cli.main(["probe", *arguments]) == 0
    assert (module.args.word_timestamps, module.args.paths) == (word_timestamps, paths)


@pytest.mark.parametrize("arguments", [["--output_dir", "a_b"], ["--output_dir=a_b"]])
def test_underscores_in_a_value_stay(probe, arguments):
    module = probe()

    assert cli.main(["probe", *arguments]) == 0
    assert module.args.output_dir == "a_b"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("what is wrong"), 2),
        (ConfigError("what is wrong"), 2),
        (AudioError("what is wrong"), 1),
        (OutputError("what is wrong"), 1),
    ],
)
def test_an_error_of_the_user_is_its_message_and_a_status(capsys, probe, error, status):
    probe(failing(error))

    assert cli.main(["probe"]) == status
    assert capsys.readouterr() == ("", "asr: error: what is wrong\n")


def test_a_surprise_is_one_line_that_offers_the_traceback(capsys, probe):
    probe(failing(ValueError("first line\nsecond line")))

    assert cli.main(["probe"]) == 1
    assert capsys.readouterr().err == (
        "asr: error: unexpected ValueError: first line second line; run with -v for the traceback\n"
    )


def test_a_surprise_shows_its_traceback_when_verbose(capsys, probe):
    probe(failing(ValueError("odd")))

    assert cli.main(["probe", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interruption_has_status_130(capsys, probe):
    probe(failing(KeyboardInterrupt()))

    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == "asr: interrupted\n"


def test_a_reader_that_left_is_no_error_message(capsys, probe):
    probe(failing(BrokenPipeError()))

    assert cli.main(["probe"]) == 1
    assert capsys.readouterr().err == ""


def test_the_status_of_a_verb_is_that_of_the_program(probe):
    module = probe()
    module.run = lambda args: ExitStatus.SOME_FAILED

    assert cli.main(["probe"]) == 1


def test_the_process_exits_with_the_status():
    result = asr_process("xyzzy", stdout=subprocess.DEVNULL)

    assert result.returncode == 2


def test_output_into_a_closed_pipe_ends_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = asr_process("--help", stdout=writing)
    finally:
        os.close(writing)

    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_onto_a_full_disk_is_an_error():
    with open("/dev/full", "w") as full:
        result = asr_process("--help", stdout=full)

    assert result.returncode == 1
    assert result.stderr == "asr: error: standard output: No space left on device\n"


def speak() -> None:
    logger = logging.getLogger("asr.somewhere")
    logger.info("a detail")
    logger.warning("a doubt")
    logger.error("a failure")
    logging.getLogger("foreign").info("chatter")
    warnings.warn("foreign warning", stacklevel=1)


@pytest.mark.parametrize(
    ("option", "lines"),
    [
        ([], ["asr: warning: a doubt", "asr: error: a failure"]),
        (["-q"], ["asr: error: a failure"]),
    ],
)
def test_messages_go_to_stderr_as_loud_as_asked(capsys, probe, option, lines):
    probe(speak)

    cli.main(["probe", *option])

    shown = capsys.readouterr()
    assert (shown.out, shown.err.splitlines()) == ("", lines)


def test_verbose_tells_details_and_the_warnings_of_other_packages(capsys, probe):
    probe(speak)

    cli.main(["probe", "--verbose"])

    shown = capsys.readouterr().err
    assert "asr: info: a detail" in shown and "foreign warning" in shown
    assert "chatter" not in shown


def test_a_request_to_terminate_has_its_own_status(capsys, probe):
    probe(failing(Terminated(ExitStatus.TERMINATED)))

    assert cli.main(["probe"]) == 143
    assert capsys.readouterr().err == "asr: interrupted\n"


@pytest.mark.parametrize("name", ["-talk.flac", "-probe.wav", "-v.flac"])
def test_a_file_whose_name_begins_with_a_dash_is_told_apart_from_an_option(
    capsys, monkeypatch, tmp_path, name
):
    monkeypatch.chdir(tmp_path)
    for there in ("-talk.flac", "-v.flac"):
        (tmp_path / there).touch()

    assert cli.main(["transcribe", name]) == 2
    assert f"write ./{name}" in capsys.readouterr().err


ODD = "a\n\x1b[31m\u202eb\udce9"


def test_messages_are_one_line_that_no_terminal_obeys(capsys, probe):
    def run():
        logging.getLogger("asr").error("%s: is odd", ODD)
        raise AsrError(ODD)

    probe(run)
    assert cli.main(["probe"]) == 1
    shown = "a\\n\\x1b[31m\\u202eb\\udce9"
    assert capsys.readouterr().err == f"asr: error: {shown}: is odd\nasr: error: {shown}\n"
