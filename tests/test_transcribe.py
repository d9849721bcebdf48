"""asr transcribe with a recogniser that hears the loudness of a recording instead of words."""

import errno
import io
import json
import logging
import os
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from asr import cli
from asr.decoding.hotwords import HotWord
from asr.errors import CheckpointError, ExitStatus
from asr.interruption import Terminated
from asr.transcript import Segment, Transcript, Word

soundfile = pytest.importorskip("soundfile")

LEVELS = ("zero", "one", "two", "three", "four", "five")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


class Heard:
    """A transcript on its way: the segments that are known so far."""

    def __init__(self) -> None:
        self.segments: list[Segment | Exception] = []
        self.duration = 0.0
        self.is_done = True

    def done(self) -> bool:
        return self.is_done

    def known(self, first=0, on_error=lambda error: None):
        for found in self.segments[first:]:
            if isinstance(found, Exception):
                on_error(found)
        segments = [found for found in self.segments[first:] if isinstance(found, Segment)]
        return segments, len(self.segments)

    def result(self) -> Transcript:
        return Transcript(tuple(self.known()[0]), self.duration)


class HearsLoudness:
    """A recording of the constant value 0.3 is heard as the word "three"."""

    name = "stub"
    loaded: list[tuple] = []
    batch_sizes: list[int] = []
    processes: list[int] = []  # how many, each time that any were asked for

    @classmethod
    def load(cls, model, *, engine="auto", device="auto", threads=None, decoding=None):
        cls.loaded.append((model, device, threads))
        cls.decoding = decoding
        return cls()

    @contextmanager
    def in_processes(self, n):
        self.processes.append(n)
        yield self

    def begin(self, blocks, *, on_begin=lambda pending: None, **options):
        pending = Heard()
        on_begin(pending)
        heard = self.transcribe_blocks(blocks, **options)
        pending.segments, pending.duration = list(heard.segments), heard.duration
        return pending

    def transcribe_blocks(self, blocks, *, batch_size=8, on_progress=None):
        self.batch_sizes.append(batch_size)
        samples = np.concatenate(list(blocks))
        seconds = len(samples) / 16_000
        if on_progress is not None:
            on_progress(seconds)
        if samples.max() > 0.95:
            raise RuntimeError("too loud")
        level = float(samples.mean())
        text = LEVELS[round(level * 10)]
        if text == "zero":
            return Transcript((), seconds)
        word = Word(text, 0.1 * level, seconds, 0.9)
        return Transcript((Segment(word.start, word.end, (word,)),), seconds)


@pytest.fixture(autouse=True)
def recognizer(monkeypatch) -> type[HearsLoudness]:
    module = types.ModuleType("asr.recognizer")
    module.Recognizer = HearsLoudness
    monkeypatch.setitem(sys.modules, "asr.recognizer", module)
    monkeypatch.setattr(HearsLoudness, "loaded", [])
    monkeypatch.setattr(HearsLoudness, "batch_sizes", [])
    monkeypatch.setattr(HearsLoudness, "processes", [])
    return HearsLoudness


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(path: str, *levels: int, seconds: float = 1.0) -> str:
    """A file with one channel for each level."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    samples = np.tile(np.array(levels) / 10, (round(seconds * 16_000), 1))
    soundfile.write(path, samples, 16_000)
    return path


def files_in(directory: str) -> list[str]:
    found = Path(directory).rglob("*")
    return sorted(str(path.relative_to(directory)) for path in found if path.is_file())


def give_stdin(monkeypatch, content: bytes, *, terminal: bool = False) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(content))
    stdin.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdin", stdin)


def transcribe(*arguments: str) -> int:
    return cli.main(["transcribe", *arguments])


def test_the_words_are_on_stdout_and_nothing_else_anywhere(capsys):
    assert transcribe(record("a.wav", 3)) == 0
    assert capsys.readouterr() == ("three\n", "")


def test_what_can_be_heard_of_a_damaged_file_is_written_and_the_rest_is_an_error(capsys):
    path = Path(record("a.wav", 3))
    path.write_bytes(path.read_bytes()[:20_000])
    assert transcribe(str(path)) == 1
    written, errors = capsys.readouterr()
    assert written == "three\n"
    assert errors.startswith("asr: error: a.wav: damaged or cut off at 0.62 s; its header says 1.00 s;")


def test_silence_is_no_text(capsys):
    assert transcribe(record("a.wav", 0)) == 0
    assert capsys.readouterr() == ("", "")


def test_several_recordings_have_headings(capsys):
    assert transcribe(record("a.wav", 1), record("b.wav", 2)) == 0
    assert capsys.readouterr().out == "==> a.wav <==\none\n\n==> b.wav <==\ntwo\n"


@pytest.mark.parametrize(
    ("options", "written"),
    [
        (["--numbers-as-digits"], "3\n"),
        (["--full-sentence"], "Three.\n"),
        (["--commands"], "III\n"),
        (["--full-sentence", "--numbers-as-digits"], "3.\n"),
        ([], "three\n"),
    ],
)
def test_words_are_written_as_asked(capsys, monkeypatch, folder, options, written):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    (folder / "asr").mkdir()
    (folder / "asr" / "commands.toml").write_text('[commands]\n"three" = "III"\n')
    assert transcribe(record("a.wav", 3), *options) == 0
    assert capsys.readouterr() == (written, "")


def test_a_broken_commands_file_is_said_before_the_model_is_loaded(
    capsys, monkeypatch, folder, recognizer
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    (folder / "asr").mkdir()
    (folder / "asr" / "commands.toml").write_text("three")
    assert transcribe(record("a.wav", 3), "--commands") == 2
    assert "commands.toml: not TOML" in capsys.readouterr().err
    assert recognizer.loaded == []


def test_options_reach_the_recogniser(recognizer):
    Path("other.onnx").touch()
    status = transcribe(
        record("a.wav", 1), "-m", "other.onnx", "--device", "cpu", "-t", "3", "--batch_size", "5"
    )

    assert status == 0
    assert recognizer.loaded == [("other.onnx", "cpu", 3)]
    assert recognizer.batch_sizes == [5]


def test_the_model_is_the_english_one_and_is_loaded_once(recognizer):
    transcribe(record("a.wav", 1), record("b.wav", 2))

    assert recognizer.loaded == [("english", "auto", None)]


def test_one_bad_input_is_named_and_the_others_are_done(capsys):
    Path("text.wav").write_text("this is no sound")
    Path("empty.wav").touch()

    status = transcribe(
        record("a.wav", 1), "missing.wav", "text.wav", "empty.wav", record("b.wav", 2)
    )

    shown = capsys.readouterr()
    assert status == 1
    assert shown.out == "==> a.wav <==\none\n\n==> b.wav <==\ntwo\n"
    lines = shown.err.splitlines()
    assert len(lines) == 3 and all(line.startswith("asr: error: ") for line in lines)
    assert all(
        name in shown.err for name in ("missing.wav: no such file", "text.wav: ", "empty.wav: ")
    )


def test_bad_inputs_alone_are_reported_without_loading_a_model(capsys, recognizer):
    Path("text.wav").write_text("this is no sound")

    assert transcribe("missing.wav", "text.wav") == 1
    assert recognizer.loaded == []


def test_a_surprise_in_one_recording_does_not_stop_the_others(capsys):
    assert transcribe(record("loud.wav", 10), record("b.wav", 2)) == 1

    shown = capsys.readouterr()
    assert "two" in shown.out
    assert shown.err == (
        "asr: error: loud.wav: unexpected RuntimeError: too loud; run with -v for the traceback\n"
    )


def test_a_model_that_cannot_be_loaded_ends_it_all(capsys, recognizer, monkeypatch):
    def load(model, **options):
        raise CheckpointError(f"{model}: no such model")

    monkeypatch.setattr(recognizer, "load", load)

    assert transcribe(record("a.wav", 1), record("b.wav", 2)) == 1
    assert capsys.readouterr() == ("", "asr: error: english: no such model\n")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-f", "txt,json"], "give --output-dir"),
        (["-f", "all"], "give --output-dir"),
        (["-f", "doc"], "no format doc"),
        (["-f", ""], "no format"),
        (["--skip-existing"], "needs --output-dir"),
        (["--sample-rate", "8000"], "give --raw"),
        (["--overwrite"], "needs --output-dir"),
        (["--channel-names", "Ann"], "needs --channels split"),
        (["--channels", "split", "--channel-names", "Ann,Ann"], "two channels have one name"),
        (["--channels", "split", "--channel-names", "Ann,"], "no name"),
        (["--follow", "-f", "srt"], "by the segment"),
        (["--follow", "-o", "out"], "is for standard output"),
        (["--follow", "--channels", "split"], "leave it out"),
        (["--follow", "--commands"], "leave it out"),
        (["--offset", "1:60"], "0 or more"),
        (["--offset", "1:2:3:4"], "0 or more"),
        (["--offset", "-1"], "0 or more"),
        (["--offset", "nan"], "0 or more"),
        (["--duration", "0"], "more than 0"),
        (["--duration", "soon"], "not a time"),
        (["--channels", "0"], "not mix, split or a number"),
        (["--channels", "left"], "not mix, split or a number"),
        (["--batch-size", "0"], "1 or more"),
        (["-t", "some"], "1 or more"),
        (["--device", "tpu"], "invalid choice"),
    ],
)
def test_impossible_options_are_wrong_usage_before_any_work(capsys, recognizer, options, reason):
    assert transcribe(record("a.wav", 1), *options) == 2

    shown = capsys.readouterr()
    assert shown.out == "" and reason in shown.err and shown.err.count("\n") == 1
    assert recognizer.loaded == []


def test_one_format_goes_to_stdout(capsys):
    assert transcribe(record("a.wav", 1), "-f", "tsv") == 0
    assert capsys.readouterr().out == "start\tend\ttext\n10\t1000\tone\n"


def test_word_timestamps_are_in_the_json(capsys):
    assert transcribe(record("a.wav", 1), "-f", "json", "--word_timestamps", "True") == 0

    document = json.loads(capsys.readouterr().out)
    assert document["segments"][0]["words"][0]["word"] == "one"
    assert (document["file"], document["model"], document["duration"]) == ("a.wav", "stub", 1.0)


def test_jsonl_is_printed_as_each_file_finishes(capsys, recognizer, monkeypatch):
    printed_before = []
    hear = recognizer.transcribe_blocks

    def transcribe_blocks(self, blocks, **options):
        printed_before.append(capsys.readouterr().out)
        return hear(self, blocks, **options)

    monkeypatch.setattr(recognizer, "transcribe_blocks", transcribe_blocks)

    assert transcribe(record("a.wav", 1), record("b.wav", 2), "-f", "jsonl") == 0
    lines = [printed_before[1], capsys.readouterr().out]
    assert [json.loads(line)["file"] for line in lines] == ["a.wav", "b.wav"]
    assert all(line.count("\n") == 1 for line in lines)


def slowly_searched(recognizer, monkeypatch) -> list[Heard]:
    """The searches of all recordings, each of which goes on until its is_done is set."""
    hear, under_way = recognizer.begin, []

    def begin(self, blocks, **options):
        under_way.append(hear(self, blocks, **options))
        under_way[-1].is_done = False
        return under_way[-1]

    monkeypatch.setattr(recognizer, "begin", begin)
    return under_way


def test_results_in_a_folder_are_written_as_soon_as_they_are_known(recognizer, monkeypatch):
    under_way = slowly_searched(recognizer, monkeypatch)
    hear, written = recognizer.transcribe_blocks, []

    def transcribe_blocks(self, blocks, *, on_progress, **options):
        if len(under_way) == 2:
            under_way[1].is_done = True  # while the third is heard, and the first is searched
            on_progress(0.5)
            written.append(files_in("out"))
        return hear(self, blocks, on_progress=on_progress, **options)

    monkeypatch.setattr(recognizer, "transcribe_blocks", transcribe_blocks)
    paths = [record(f"{name}.wav", 1) for name in "abc"]
    assert transcribe(*paths, "-o", "out", "-f", "txt,json") == 0
    assert written == [["b.json", "b.txt"]]
    assert len(files_in("out")) == 6


def interrupted_at(name: str, recognizer, monkeypatch, interruption=KeyboardInterrupt) -> None:
    """Raise it when the network is in the midst of this recording, of which two segments are known."""
    hear = recognizer.begin

    def begin(self, blocks, *, on_begin, on_progress, **options):
        pending = hear(self, blocks, on_begin=on_begin, on_progress=on_progress, **options)
        if pending.segments[0].text == name:
            pending.segments *= 2
            on_progress(2.0)
            raise interruption
        return pending

    monkeypatch.setattr(recognizer, "begin", begin)


@pytest.mark.parametrize(
    ("interruption", "status"),
    [
        (KeyboardInterrupt(), 130),
        (Terminated(ExitStatus.TERMINATED), 143),
        (Terminated(ExitStatus.HUNG_UP), 129),
    ],
)
def test_an_interruption_writes_what_is_known(capsys, recognizer, monkeypatch, interruption, status):
    interrupted_at("two", recognizer, monkeypatch, interruption)
    paths = [record(f"{level}.wav", level) for level in (1, 2, 3)]

    assert transcribe(*paths, "-o", "out", "-f", "txt,json") == status
    assert files_in("out") == ["1.json", "1.txt", "2.json.incomplete", "2.txt.incomplete"]
    assert Path("out/2.txt.incomplete").read_text() == "two\ntwo\n"
    document = json.loads(Path("out/2.json.incomplete").read_text())
    assert document["incomplete"] is True and document["duration"] == 1.0
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "asr: warning: 2.wav: interrupted; incomplete, the text ends at 1.0 s"
    assert shown[1].startswith("asr: 1 done, 0 skipped, 0 failed, 2 not done")
    assert shown[2] == "asr: interrupted"


def test_an_interrupted_run_is_completed_by_the_next(recognizer, monkeypatch):
    paths = [record(f"{level}.wav", level) for level in (1, 2, 3)]
    with monkeypatch.context() as patch:
        interrupted_at("two", recognizer, patch)
        assert transcribe(*paths, "-o", "out") == 130

    assert transcribe(*paths, "-o", "out", "--skip-existing") == 0
    assert files_in("out") == ["1.txt", "2.txt", "3.txt"]
    assert Path("out/2.txt").read_text() == "two\n"


def test_an_interruption_prints_what_is_known(capsys, recognizer, monkeypatch):
    interrupted_at("two", recognizer, monkeypatch)

    assert transcribe(record("a.wav", 1), record("b.wav", 2), "-f", "json") == 130
    first, second = capsys.readouterr().out.split("}\n{")
    assert "incomplete" not in first
    assert json.loads("{" + second)["incomplete"] is True


def test_following_prints_each_segment_when_it_is_known(capsys, recognizer, monkeypatch):
    hear, printed = recognizer.begin, []

    def begin(self, blocks, *, on_begin, on_progress, **options):
        pending = hear(self, blocks, on_begin=on_begin, on_progress=lambda seconds: None, **options)
        found = pending.segments
        for n in (1, 2):
            pending.segments = found * n
            on_progress(float(n))
            printed.append(capsys.readouterr().out)
        pending.segments = found * 3
        return pending

    monkeypatch.setattr(recognizer, "begin", begin)
    paths = [record("a.wav", 1), record("b.wav", 2)]
    assert transcribe(*paths, "--follow") == 0
    assert printed == ["==> a.wav <==\none\n", "one\n", "one\n\n==> b.wav <==\ntwo\n", "two\n"]
    assert capsys.readouterr().out == "two\n"

    printed.clear()
    assert transcribe(*paths, "--follow", "-f", "jsonl", "--offset", "0:00") == 0
    lines = [json.loads(line) for line in "".join([*printed, capsys.readouterr().out]).splitlines()]
    assert [line.get("id") for line in lines] == [0, 1, 2, None, 0, 1, 2, None]
    assert lines[3] == {"file": "a.wav", "duration": 1.0, "model": "stub"}
    assert (lines[5]["file"], lines[5]["text"]) == ("b.wav", "two")


def test_text_on_a_terminal_is_followed(capsys, recognizer, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    interrupted_at("two", recognizer, monkeypatch)

    assert transcribe(record("a.wav", 2)) == 130
    assert capsys.readouterr().out == "two\ntwo\n"


def test_what_damage_leaves_of_a_recording_is_written_and_the_damage_told(capsys):
    whole = Path(record("whole.flac", 3, seconds=20.0)).read_bytes()
    Path("a.flac").write_bytes(whole[: len(whole) * 3 // 4])

    status = transcribe("a.flac", record("b.wav", 1), "-o", "out", "-f", "txt,json")
    shown = capsys.readouterr().err
    assert status == 1 and shown.count("a.flac") == 1
    assert "1 done, 0 skipped, 1 failed" in shown
    assert Path("out/a.txt").read_text() == "three\n"
    assert json.loads(Path("out/a.json").read_text())["incomplete"] is True


def test_a_folder_ends_with_what_was_done(capsys):
    record("talks/a.wav", 1)
    record("talks/b.wav", 2)
    Path("talks/c.wav").touch()
    Path("out").mkdir()
    Path("out/a.txt").touch()

    assert transcribe("talks", "missing.wav", "-o", "out", "--skip-existing") == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(
        "asr: 1 done, 1 skipped, 2 failed; 1.0 s of audio in "
    )
    assert transcribe("talks", "-o", "out", "--skip-existing", "-q") == 1
    assert "done" not in capsys.readouterr().err


@pytest.mark.parametrize("format", ["srt", "vtt", "tsv", "textgrid"])
def test_documents_that_cannot_follow_one_another_need_a_folder(capsys, recognizer, format):
    paths = [record("a.wav", 1), record("b.wav", 2)]
    assert transcribe(*paths, "-f", format) == 2
    assert "give --output-dir DIR" in capsys.readouterr().err and recognizer.loaded == []
    assert transcribe(*paths, "-f", format, "-o", "out") == 0


@pytest.mark.parametrize("name", ["..wav", "...flac", ".wav", "a..wav", "a\nb\x1b[31m.wav"])
def test_odd_names_are_written_and_shown_without_obeying_them(capsys, name):
    record("a.flac", 2)
    Path(name).write_bytes(Path("a.flac").read_bytes())

    assert transcribe(f"./{name}", "a.flac", "-o", "out") == 0
    assert len(files_in("out")) == 2
    assert transcribe(f"./{name}", "a.flac") == 0
    Path(name).write_bytes(b"")
    assert transcribe(f"./{name}") == 1
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert shown.err.splitlines()[-1].startswith(
        f"asr: error: {name.encode('unicode_escape').decode()}: is empty"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_that_is_named_is_read_and_one_in_a_folder_is_not(capsys):
    content = Path(record("talks/a.wav", 4)).read_bytes()
    os.mkfifo("talks/pipe.wav")

    assert transcribe("talks") == 1
    assert "talks/pipe.wav: is not a regular file" in capsys.readouterr().err
    writer = threading.Thread(target=lambda: Path("talks/pipe.wav").write_bytes(content))
    writer.start()
    assert transcribe("talks/pipe.wav") == 0
    writer.join()
    assert capsys.readouterr() == ("four\n", "")


def test_leftovers_of_killed_runs_are_removed_but_not_what_is_being_written():
    fcntl = pytest.importorskip("fcntl")
    Path("out").mkdir()
    for name in ("dead", "alive", "new"):
        Path(f"out/.asr-{name}.partial").touch()
    for name in ("dead", "alive"):
        os.utime(f"out/.asr-{name}.partial", (0, 0))
    with open("out/.asr-alive.partial") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        assert transcribe(record("a.wav", 1), "-o", "out") == 0
    assert files_in("out") == [".asr-alive.partial", ".asr-new.partial", "a.txt"]


def test_a_directory_is_its_recordings(capsys):
    record("talks/b.wav", 2)
    record("talks/a.wav", 1)
    record("talks/inner/c.wav", 3)

    assert transcribe("talks") == 0
    assert [line for line in capsys.readouterr().out.split("\n") if line in LEVELS] == [
        "one",
        "two",
    ]


def test_recursive_looks_into_inner_directories(capsys):
    record("talks/inner/c.wav", 3)

    assert transcribe("talks", "--recursive") == 0
    assert capsys.readouterr().out == "three\n"


def test_a_directory_without_recordings_fails_alone(capsys):
    Path("nothing").mkdir()

    assert transcribe("nothing", record("a.wav", 1)) == 1
    shown = capsys.readouterr()
    assert "nothing: no audio files" in shown.err and "one" in shown.out


def test_the_same_recording_is_transcribed_once(capsys):
    record("talks/a.wav", 1)

    assert transcribe("talks", "talks/a.wav", "./talks/../talks/a.wav") == 0
    assert capsys.readouterr().out == "one\n"


def test_output_dir_is_made_and_holds_the_formats(capsys):
    assert transcribe(record("x/a.wav", 1), "-o", "new/out", "-f", "txt", "-f", "json,srt") == 0
    assert files_in("new/out") == ["a.json", "a.srt", "a.txt"]
    assert Path("new/out/a.txt").read_text() == "one\n"
    assert capsys.readouterr() == ("", "")


def test_all_is_every_format():
    assert transcribe(record("a.wav", 1), "-o", "out", "-f", "all") == 0
    assert files_in("out") == [
        f"a.{f}" for f in sorted(("txt", "json", "jsonl", "srt", "vtt", "tsv", "ctm", "textgrid"))
    ]


def test_files_are_readable_by_others_as_the_umask_says():
    transcribe(record("a.wav", 1), "-o", "out")
    Path("plain").touch()

    assert Path("out/a.txt").stat().st_mode == Path("plain").stat().st_mode


def test_a_directory_keeps_its_shape_in_the_output():
    record("talks/a.wav", 1)
    record("talks/inner/a.wav", 2)

    assert transcribe("talks", "--recursive", "-o", "out") == 0
    assert files_in("out") == ["a.txt", "inner/a.txt"]
    assert Path("out/inner/a.txt").read_text() == "two\n"


@pytest.mark.parametrize(
    ("recordings", "results"),
    [
        (["x/a.wav", "b.wav"], ["a.txt", "b.txt"]),
        (["x/a.wav", "y/a.wav"], ["x/a.txt", "y/a.txt"]),
        (["p/x/a.wav", "q/x/a.wav"], ["p/x/a.txt", "q/x/a.txt"]),
        (["a.wav", "a.flac"], ["a.flac.txt", "a.wav.txt"]),
        (["x/a.wav", "x/A.flac"], ["A.flac.txt", "a.wav.txt"]),
    ],
)
def test_two_recordings_never_share_an_output_file(recordings, results):
    for level, path in enumerate(recordings, start=1):
        record(path, level)

    assert transcribe(*recordings, "-o", "out") == 0
    assert files_in("out") == results


def test_even_confusing_names_never_share_an_output_file():
    recordings = [record("a.wav", 1), record("a.flac", 2), record("a.wav.flac", 3)]

    assert transcribe(*recordings, "-o", "out") == 0
    texts = [Path("out", name).read_text() for name in files_in("out")]
    assert sorted(texts) == ["one\n", "three\n", "two\n"]


def test_skip_existing_leaves_what_is_there_and_loads_no_model_for_it(recognizer):
    record("a.wav", 1)
    Path("out").mkdir()
    Path("out/a.txt").write_text("by hand\n")

    assert transcribe("a.wav", "-o", "out", "--skip-existing") == 0
    assert Path("out/a.txt").read_text() == "by hand\n"
    assert recognizer.loaded == []


def test_skip_existing_adds_the_formats_that_are_missing():
    record("a.wav", 1)
    Path("out").mkdir()
    Path("out/a.txt").write_text("by hand\n")

    assert transcribe("a.wav", "-o", "out", "-f", "txt,tsv", "--skip-existing") == 0
    assert files_in("out") == ["a.tsv", "a.txt"]
    assert Path("out/a.txt").read_text() == "by hand\n"


def test_results_are_replaced_only_when_asked_for(capsys, recognizer):
    record("a.wav", 1)
    Path("out").mkdir()
    Path("out/a.txt").write_text("by hand\n")

    assert transcribe("a.wav", "-o", "out") == 1
    assert "a.wav: out/a.txt: exists; give --overwrite" in capsys.readouterr().err
    assert Path("out/a.txt").read_text() == "by hand\n" and recognizer.loaded == []

    assert transcribe("a.wav", "-o", "out", "--overwrite") == 0
    assert Path("out/a.txt").read_text() == "one\n"


def test_another_recording_of_the_same_name_does_not_replace_the_first_result(capsys):
    record("a.flac", 1)
    record("later/a.wav", 2)

    assert transcribe("a.flac", "-o", "out") == 0
    assert transcribe("later/a.wav", record("b.wav", 3), "-o", "out") == 1
    assert files_in("out") == ["a.txt", "b.txt"]
    assert Path("out/a.txt").read_text() == "one\n"
    assert "asr: 1 done, 0 skipped, 1 failed; 1.0 s of audio in " in capsys.readouterr().err


@pytest.mark.parametrize("option", ["-m", "--lm", "--hotwords-file"])
def test_no_result_is_written_over_what_is_read(capsys, option):
    Path("a.txt").write_text("three\n")
    assert transcribe(record("a.wav", 1), "-o", ".", "--overwrite", option, "a.txt") == 1
    assert "a.txt: is also what is read" in capsys.readouterr().err
    assert Path("a.txt").read_text() == "three\n"


def test_no_result_is_written_over_a_recording(capsys):
    Path("talk.txt").write_bytes(Path(record("a.wav", 1)).read_bytes())
    Path("link.tsv").symlink_to("talk.txt")

    assert transcribe("talk.txt", "link.tsv", "-o", ".", "--overwrite") == 1
    assert "talk.txt: is also what is read" in capsys.readouterr().err
    assert Path("talk.txt").read_bytes() == Path("a.wav").read_bytes()


def test_no_result_is_written_over_the_file_that_is_standard_input(capsys, monkeypatch):
    content = Path(record("a.wav", 1)).read_bytes()
    Path("stdin.txt").write_bytes(content)
    give_stdin(monkeypatch, content)
    before = os.dup(0)
    with open("stdin.txt", "rb") as redirected:
        os.dup2(redirected.fileno(), 0)
    try:
        assert transcribe("-", "-o", ".", "--overwrite") == 1
    finally:
        os.dup2(before, 0)
        os.close(before)
    assert Path("stdin.txt").read_bytes() == content


def test_a_result_that_another_run_writes_meanwhile_stays(capsys, recognizer, monkeypatch):
    hear = recognizer.transcribe_blocks

    def transcribe_blocks(self, blocks, **options):
        Path("out/a.txt").write_text("by another\n")
        return hear(self, blocks, **options)

    monkeypatch.setattr(recognizer, "transcribe_blocks", transcribe_blocks)
    assert transcribe(record("a.wav", 1), "-o", "out") == 1
    assert "out/a.txt: another program has written it" in capsys.readouterr().err
    assert files_in("out") == ["a.txt"] and Path("out/a.txt").read_text() == "by another\n"
    Path("out/a.txt").unlink()
    assert transcribe("a.wav", "-o", "out", "--skip-existing") == 0
    assert Path("out/a.txt").read_text() == "by another\n"


def test_an_output_dir_that_is_a_file_is_refused_before_any_work(capsys, recognizer):
    Path("out").touch()

    assert transcribe(record("a.wav", 1), "-o", "out") == 1
    assert "out: is not a directory" in capsys.readouterr().err
    assert recognizer.loaded == []


def test_an_output_dir_without_permission_is_refused_before_any_work(
    capsys, recognizer, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root has every permission

    assert transcribe(record("a.wav", 1), "-o", "out") == 1
    assert "out: no permission" in capsys.readouterr().err
    assert recognizer.loaded == []


def test_a_full_disk_leaves_no_half_written_file_and_ends_the_run(capsys, monkeypatch, recognizer):
    def refuse(source, target, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", refuse)

    assert transcribe(record("a.wav", 1), record("b.wav", 2), record("c.wav", 3), "-o", "out") == 1
    assert files_in("out") == []
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "asr: error: a.wav: out/a.txt: cannot be written (No space left on device)",
        "asr: error: stopped, as no further result can be written",
    ]
    assert lines[2].startswith("asr: 0 done, 0 skipped, 1 failed, 2 not done")
    assert recognizer.batch_sizes == [2]  # nothing is computed for nothing


def test_one_result_that_cannot_be_written_does_not_stop_the_others(capsys):
    Path("out/a.txt").mkdir(parents=True)

    assert transcribe(record("a.wav", 1), record("b.wav", 2), "-o", "out", "--overwrite") == 1
    assert files_in("out") == ["b.txt"]
    assert "a.wav: out/a.txt: cannot be written (Is a directory)" in capsys.readouterr().err


def test_an_interruption_while_writing_leaves_the_old_result(monkeypatch):
    def interrupt(source, target):
        raise KeyboardInterrupt

    record("a.wav", 1)
    Path("out").mkdir()
    Path("out/a.txt").write_text("before\n")
    monkeypatch.setattr(os, "replace", interrupt)

    assert transcribe("a.wav", "-o", "out", "--overwrite") == 130
    assert files_in("out") == ["a.txt"]
    assert Path("out/a.txt").read_text() == "before\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_stdout_on_a_full_disk_is_an_error(capsys, monkeypatch):
    with monkeypatch.context() as patch, open("/dev/full", "w") as full:
        patch.setattr(sys, "stdout", full)
        status = transcribe(record("a.wav", 1), record("b.wav", 2))

    assert status == 1
    assert capsys.readouterr().err == (
        "asr: error: standard output: cannot be written (No space left on device)\n"
    )


def test_split_channels_are_transcribed_apart(capsys):
    assert transcribe(record("a.wav", 2, 1), "--channels", "split") == 0
    assert capsys.readouterr().out == "[channel 2] one\n[channel 1] two\n"  # in order of time


def test_split_channels_are_in_the_json(capsys):
    assert transcribe(record("a.wav", 2, 1), "--channels", "split", "-f", "json") == 0

    document = json.loads(capsys.readouterr().out)
    assert [segment["channel"] for segment in document["segments"]] == [2, 1]
    assert document["duration"] == 1.0


def test_split_channels_of_a_mono_recording_are_its_only_one(capsys):
    assert transcribe(record("a.wav", 2), "--channels", "split") == 0
    assert capsys.readouterr().out == "[channel 1] two\n"


def test_split_channels_have_the_names_that_are_given(capsys):
    path = record("a.wav", 2, 1)
    assert transcribe(path, "--channels", "split", "--channel-names", "Ann, Bob", "-f", "srt") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "[" in line] == ["[Bob] one", "[Ann] two"]
    options = ["--channels", "split", "--channel-names", "Ann", "-f", "textgrid"]
    assert transcribe(path, *options, "-o", "out") == 0
    grid = Path("out/a.textgrid").read_text()
    assert [grid.count(text) for text in ('"Ann"', '"channel 2"', '"one"', '"two"')] == [1, 1, 1, 1]


def test_one_channel_can_be_chosen(capsys):
    assert transcribe(record("a.wav", 1, 2), "--channels", "2") == 0
    assert capsys.readouterr().out == "two\n"


def test_channels_are_mixed_unless_told_otherwise(capsys):
    assert transcribe(record("a.wav", 1, 3)) == 0
    assert capsys.readouterr().out == "two\n"


def test_a_channel_that_is_not_there_fails(capsys):
    assert transcribe(record("a.wav", 1), "--channels", "2") == 1
    assert "a.wav: there is no channel 2" in capsys.readouterr().err


def test_times_count_from_the_beginning_of_the_recording_whatever_the_offset(capsys):
    path = record("a.wav", 1, seconds=5)

    assert transcribe(path, "--offset", "0:02", "--duration", "1", "-f", "json") == 0

    document = json.loads(capsys.readouterr().out)
    assert [(s["start"], s["end"]) for s in document["segments"]] == [(2.01, 3.0)]
    assert document["duration"] == 1.0


def test_standard_input_is_read_as_a_wav(capsys, monkeypatch):
    give_stdin(monkeypatch, Path(record("a.wav", 4)).read_bytes())

    assert transcribe("-") == 0
    assert capsys.readouterr() == ("four\n", "")


def test_standard_input_can_be_split(capsys, monkeypatch):
    give_stdin(monkeypatch, Path(record("a.wav", 1, 2)).read_bytes())

    assert transcribe("-", "--channels", "split") == 0
    assert capsys.readouterr().out == "[channel 1] one\n[channel 2] two\n"


def test_standard_input_can_be_raw_samples(capsys, monkeypatch):
    give_stdin(monkeypatch, np.full(8000, 0.2 * 32768, dtype="<i2").tobytes())

    assert transcribe("-", "--raw", "--sample-rate", "8000", "-f", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["duration"] == pytest.approx(1.0, abs=0.01)
    assert document["text"] == "two"


def test_a_file_can_be_raw_samples(capsys):
    Path("a.pcm").write_bytes(np.full(8000, 0.2 * 32768, dtype="<i2").tobytes())

    assert transcribe("a.pcm") == 1
    assert "give --raw" in capsys.readouterr().err
    assert transcribe("a.pcm", "--raw") == 0
    assert capsys.readouterr() == ("two\n", "")


def test_raw_samples_from_standard_input_are_told_of_the_option(capsys, monkeypatch):
    give_stdin(monkeypatch, np.full(8000, 0.2 * 32768, dtype="<i2").tobytes())

    assert transcribe("-") == 1
    assert "give --raw" in capsys.readouterr().err


def test_results_of_standard_input_are_named_stdin(monkeypatch):
    give_stdin(monkeypatch, Path(record("a.wav", 4)).read_bytes())

    assert transcribe("-", record("stdin.wav", 1), "-o", "out") == 0
    assert Path("out/stdin.txt").read_text() == "four\n"
    assert len(files_in("out")) == 2


def test_bad_standard_input_is_named(capsys, monkeypatch):
    give_stdin(monkeypatch, b"this is no sound")

    assert transcribe("-", "--channels", "split") == 1
    assert capsys.readouterr().err.startswith("asr: error: standard input: ")


def test_a_terminal_as_standard_input_is_wrong_usage(capsys, monkeypatch):
    give_stdin(monkeypatch, b"", terminal=True)

    assert transcribe("-") == 2
    assert "is a terminal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("terminal", "option", "is_shown"),
    [(True, [], True), (True, ["--quiet"], False), (False, [], False)],
)
def test_progress_is_shown_on_a_terminal_only(capsys, monkeypatch, terminal, option, is_shown):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)

    assert transcribe(record("a[b].wav", 1), *option) == 0

    shown = capsys.readouterr()
    assert ("a[b].wav" in shown.err) == is_shown
    assert shown.out == "one\n"


def test_verbose_tells_the_speed(capsys):
    assert transcribe(record("a.wav", 1), "-v") == 0
    assert "a.wav: 1.0 s of audio in " in capsys.readouterr().err


def test_a_file_name_that_is_not_unicode_does_not_stop_the_words(capsys):
    name = os.fsdecode(b"caf\xe9.wav")
    try:
        Path(name).write_bytes(Path(record("a.wav", 1)).read_bytes())
    except OSError:
        pytest.skip("this file system has Unicode names only")

    assert transcribe(name, "a.wav") == 0
    assert capsys.readouterr().out.count("one\n") == 2


def test_the_decoder_is_chosen_by_its_options(recognizer) -> None:
    options = "--lm my.lm --rnn-lm my.rnn --rnn-share 0.4 --beam-size 50 --lm-weight 0.7 --word_score=-1"
    options += " --acoustic-scale 0.8 --prior-weight 0 --nbest 3"
    hot = "--hotwords=New York:7, kubernetes"
    assert transcribe(record("a.wav", 3), hot, *options.split()) == 0
    assert vars(recognizer.decoding) == {
        "beam_size": 50,
        "lm": "my.lm",
        "recurrent": "my.rnn",
        "recurrent_share": 0.4,
        "lm_weight": 0.7,
        "word_score": -1.0,
        "acoustic_scale": 0.8,
        "prior_weight": 0.0,
        "hot_words": (HotWord("new york", 7.0), HotWord("kubernetes", 5.0)),
        "n_best": 3,
        "grammar": (),
        "min_confidence": 0.75,
    }


def test_a_beam_of_nothing_is_wrong_usage(capsys) -> None:
    assert transcribe(record("a.wav", 3), "--beam-size", "0") == 2
    assert "'0' is not a whole number, 1 to 100000" in capsys.readouterr().err


@pytest.mark.parametrize("is_terminal", [True, False])
def test_confidence_is_shown_in_colour_on_a_terminal_only(monkeypatch, capsys, is_terminal) -> None:
    monkeypatch.setattr("asr.commands.transcribe.coloured", lambda transcript: Transcript((), 0.0))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert transcribe(record("a.wav", 3), "--print-confidence", "-q") == 0
    assert (capsys.readouterr().out == "") == is_terminal


@pytest.mark.skipif(sys.platform != "linux", reason="needs forks")
@pytest.mark.parametrize(
    ("recordings", "options", "processes"),
    [
        ([2], [], []),
        ([61], [], [3]),
        ([2, 2], [], [3]),
        ([2, 2], ["--threads", "2"], [2]),
        ([61], ["--threads", "1"], [1]),
    ],
)
def test_processes_search_when_there_is_much(
    recognizer, monkeypatch, recordings, options, processes
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    paths = [record(f"{i}.wav", 1, seconds=seconds) for i, seconds in enumerate(recordings)]
    assert transcribe(*paths, *options) == 0
    assert recognizer.processes == processes


def test_a_search_that_fails_does_not_stop_the_others(recognizer, monkeypatch, capsys) -> None:
    hear = recognizer.begin

    def begin(self, blocks, **options):
        pending = hear(self, blocks, **options)
        if pending.result().text == "two":
            pending.segments.insert(0, RuntimeError("the search broke"))
        return pending

    monkeypatch.setattr(recognizer, "begin", begin)
    assert transcribe(record("a.wav", 2), record("b.wav", 3)) == 1
    shown = capsys.readouterr()
    assert shown.out == "==> a.wav <==\ntwo\n\n==> b.wav <==\nthree\n"  # other segments are not lost
    assert "a.wav: unexpected RuntimeError: the search broke" in shown.err


def test_results_keep_their_order_while_searches_are_under_way(recognizer, monkeypatch, capsys) -> None:
    slowly_searched(recognizer, monkeypatch)
    paths = [record(f"{i}.wav", 1 + i % 5) for i in range(12)]
    assert transcribe(*paths, "-f", "jsonl") == 0
    files = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert files == paths
