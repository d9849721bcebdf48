"""asr listen: a real microphone as far as a program can tell, recordings in its place, and its errors."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr import cli, engine
from asr.audio import read_audio
from asr.commands import listen
from asr.simulation import Report, simulate
from asr.streaming import Stream, StreamConfig
from asr.transcript import Final, Partial, Segment, Word
from tests.conftest import SENTENCE, SENTENCE_WORDS
from tests.virtual_microphone import VirtualMicrophone

SECOND = 16_000


class Listener:
    """A running `asr listen` whose lines can be waited for."""

    def __init__(self, microphone: VirtualMicrophone, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "asr", "listen", "-v", *arguments],
            env=microphone.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.messages: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(pipe,))
            for lines, pipe in ((self.lines, self._process.stdout), (self.messages, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until a line of either output has this text."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in [*self.lines, *self.messages]):
            assert time.monotonic() < deadline and self._process.poll() is None, [*self.lines, *self.messages]
            time.sleep(0.05)

    def interrupt(self) -> int:
        """The exit status after Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(60)
        for reader in self._readers:
            reader.join()
        return status


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualMicrophone]:
    folder = tmp_path_factory.mktemp("pulse")
    folder.chmod(0o700)
    with VirtualMicrophone(folder) as virtual:
        yield virtual


# --- the microphone -------------------------------------------------------------------------------


def test_what_is_said_into_the_microphone_is_written_down(
    microphone: VirtualMicrophone, parrot: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "heard.wav"
    listener = Listener(microphone, "-m", str(parrot), "--save-audio", str(saved))
    # The recording begins before the model is loaded, and so does the speaker.
    listener.wait_for("recording")
    microphone.say(SENTENCE)
    listener.wait_for(SENTENCE_WORDS)
    assert not saved.exists()
    microphone.say(SENTENCE)
    # At once, in the pause that has not yet ended the sentence.
    assert listener.interrupt() == 0
    assert listener.lines == [f"{SENTENCE_WORDS}\n"] * 2
    heard = read_audio(saved)
    assert len(heard) > 4 * SECOND and np.abs(heard).max() > 0.1


def test_an_unplugged_microphone_is_waited_for(microphone: VirtualMicrophone, parrot: Path) -> None:
    listener = Listener(microphone, "-m", str(parrot), "--json", "--no-partials")
    listener.wait_for("recording")
    microphone.say(SENTENCE)
    time.sleep(1.0)
    microphone.unplug()
    listener.wait_for("lost; waiting")
    listener.wait_for(SENTENCE_WORDS)
    microphone.plug_in()
    listener.wait_for("is back")
    microphone.say(SENTENCE)
    assert listener.interrupt() == 0
    first, second = (json.loads(line) for line in listener.lines)
    assert first["text"] == second["text"] == SENTENCE_WORDS
    assert second["result"][0]["start"] > first["result"][-1]["end"] + 1


def test_the_inputs_are_listed(microphone: VirtualMicrophone) -> None:
    command = [sys.executable, "-m", "asr", "listen", "--list-devices"]
    listing = subprocess.run(command, env=microphone.environment, capture_output=True, text=True)
    assert listing.returncode == 0
    assert any(line.startswith("* ") and " Hz)" in line for line in listing.stdout.splitlines())


def test_a_microphone_that_gives_no_sound_is_one_clear_error(
    microphone: VirtualMicrophone, parrot: Path
) -> None:
    command = [sys.executable, "-m", "asr", "listen", "-m", str(parrot)]
    without_server = microphone.environment | {"PULSE_SERVER": "unix:/nowhere"}
    result = subprocess.run(command, env=without_server, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and not result.stdout
    assert result.stderr.startswith("asr: error: microphone") and result.stderr.count("\n") == 1


# --- recordings as if they were spoken ------------------------------------------------------------


def test_a_simulation_prints_the_words_and_a_report(parrot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["listen", "-m", str(parrot), "--simulate", str(SENTENCE), "--fast"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{SENTENCE_WORDS}\n"
    assert "\nfinal text after the last word" in shown.err


def test_json_has_the_form_of_vosk_and_the_report(parrot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["listen", "-m", str(parrot), "--simulate", str(SENTENCE), "--fast", "--json"]) == 0
    *partials, final, report = map(json.loads, capsys.readouterr().out.splitlines())
    assert partials and all(list(partial) == ["partial"] for partial in partials)
    assert final["text"] == SENTENCE_WORDS
    assert [word["word"] for word in final["result"]] == SENTENCE_WORDS.split()
    assert all(set(word) == {"conf", "start", "end", "word"} for word in final["result"])
    assert report["report"]["utterances"] == 1 and report["report"]["retracted_words"] == 0


def test_a_simulation_takes_as_long_as_the_recording(
    parrot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = time.monotonic()
    options = ["--simulate", str(SENTENCE), "--timeout", "1", "--json"]
    assert cli.main(["listen", "-m", str(parrot), *options]) == 0
    assert time.monotonic() - begin > 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1])["report"]
    assert report["audio_seconds"] == pytest.approx(1 + 1.2 + 1)  # and silence for the endpoint


def test_a_bad_recording_does_not_stop_the_others(
    parrot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    missing = str(tmp_path / "missing.wav")
    assert cli.main(["listen", "-m", str(parrot), "--fast", "--simulate", missing, str(SENTENCE)]) == 1
    assert SENTENCE_WORDS in capsys.readouterr().out


def test_a_second_pass_can_be_asked_for(parrot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--second-pass", "--second-model", str(parrot), "--no-partials"]
    assert cli.main(["listen", "-m", str(parrot), *options, "--simulate", str(SENTENCE), "--fast"]) == 0
    assert capsys.readouterr().out.startswith(f"{SENTENCE_WORDS}\n")


def test_the_shipped_model_gets_a_second_pass_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = engine.load
    monkeypatch.setattr(
        engine, "load", lambda path, **rest: loaded.append(path.parent.name) or load(path, **rest)
    )
    for options in ([], ["--no-second-pass"]):
        assert cli.main(["listen", *options, "--no-partials", "--simulate", str(SENTENCE), "--fast"]) == 0
        assert len(capsys.readouterr().out.split("\n")[0].split()) > 3
    assert loaded == ["english-streaming", "english", "english-streaming"]


def test_words_under_way_are_shown_in_place_on_a_terminal(
    parrot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["listen", "-m", str(parrot), "--simulate", str(SENTENCE), "--fast"]) == 0
    shown = capsys.readouterr().err
    *updates, last = shown.split("\r\x1b[J")
    assert len(updates) > 5 and not any("\n" in update for update in updates)
    assert re.match(r"\n\d.*s of audio", last)  # the report, on a line that is clean
    assert any(update.startswith("the room\x1b[2m ") for update in updates)


class Screen:
    """What a terminal of this width shows after the codes that the display uses."""

    def __init__(self, written: str, width: int) -> None:
        self.rows = [""]
        row = 0
        for code in re.findall(r"\x1b\[\d*[AJm]|\r|\n|[^\x1b\r\n]+", written):
            if code == "\n":
                row += 1
                self.rows += [""] * (row + 1 - len(self.rows))
            elif code.endswith("A") and code.startswith("\x1b"):
                row -= int(code[2:-1])
            elif code == "\x1b[J":
                self.rows[row:] = [""]
            elif code != "\r" and not code.startswith("\x1b"):
                self.rows[row] += code
                assert len(self.rows[row]) < width


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a display on a terminal of 40 columns, whose two outputs are shown together."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((40, 10)))
    both = io.StringIO()
    both.isatty = lambda: True  # type: ignore[method-assign]

    def make(*options: str) -> tuple[Any, Callable[[], list[str]]]:
        parser = argparse.ArgumentParser()
        listen.add_parser(parser.add_subparsers())
        args = parser.parse_args(["listen", *options])
        args.quiet = False
        # Not sooner: pytest sets them anew between a fixture and its test.
        monkeypatch.setattr(sys, "stdout", both)
        monkeypatch.setattr(sys, "stderr", both)
        return listen._Display(args), lambda: Screen(both.getvalue(), 40).rows

    return make


LONG = "the room was empty when he entered it and the window stood open"


def words_of(text: str) -> tuple[Word, ...]:
    return tuple(word(token, i, i + 0.5) for i, token in enumerate(text.split()))


def test_a_long_sentence_is_shown_whole_in_lines_that_end_between_words(terminal: Callable[..., Any]) -> None:
    display, rows = terminal()
    tokens = words_of(LONG)
    for n in range(1, len(tokens) + 1):
        display.show([Partial(tokens[: n // 2], tokens[n // 2 : n])])
        assert " ".join(rows()) == " ".join(LONG.split()[:n])
    display.show([Final(Segment.of(tokens))])
    assert " ".join(rows()).strip() == LONG and rows()[-1] == ""
    display.show([Partial((), tokens[:3])])
    display.close()
    assert " ".join(rows()).strip() == LONG  # no words under way are left


def test_the_meter_is_in_no_finished_line_and_digital_silence_is_called_so(
    terminal: Callable[..., Any],
) -> None:
    display, rows = terminal("--meter")
    display.hear(np.zeros(1600, np.float32))
    assert rows() == [f"[{'':20}] silence"]
    display.show([Final(Segment.of(words_of("hello")))])
    assert rows()[0] == "hello"
    display.hear(np.full(1600, 0.1, np.float32))
    assert rows() == ["hello", f"[{'#' * 13:20}]  -20 dB"]
    display.close()
    assert rows() == ["hello", ""]


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 1.0)


class Scripted(Stream):
    """Says given events after given tenths of a second."""

    def __init__(self, script: dict[int, list[Partial | Final]]) -> None:
        self._script = script
        self._n_samples = 0

    def feed(self, samples: np.ndarray) -> list[Partial | Final]:
        self._n_samples += len(samples)
        tenths, rest = divmod(self._n_samples, SECOND // 10)
        return [] if rest else self._script.get(tenths, [])

    def finish(self) -> list[Partial | Final]:
        return []


def report_of(script: dict[int, list[Partial | Final]], seconds: int) -> Report:
    report = Report()
    samples = np.zeros(seconds * SECOND, np.float32)
    simulate(Scripted(script), [samples], report, lambda events: None, in_real_time=False)
    return report


def test_latencies_count_from_the_words_to_the_events() -> None:
    a, sat = word("a", 0.1, 0.2), word("sat", 0.6, 0.8)
    cat, cats = word("cat", 0.3, 0.5), word("cats", 0.3, 0.5)
    script: dict[int, list[Partial | Final]] = {
        3: [Partial((), (word("uh", 0.1, 0.2),))],
        4: [Partial((), (a,))],
        6: [Partial((a,), (cat,))],
        7: [Partial((a,), (cats,))],
        10: [Partial((a, cats), (sat,))],
        20: [Final(Segment.of((a, cats, sat)))],
    }
    report = report_of(script, seconds=2)
    near = {"abs": 0.02}
    assert report.n_utterances == 1 and report.audio_seconds == pytest.approx(2)
    assert report.first_partial == pytest.approx([0.3 - 0.2], **near)
    assert report.shown == pytest.approx([0.4 - 0.2, 0.7 - 0.5, 1.0 - 0.8], **near)
    assert report.committed == pytest.approx([0.6 - 0.2, 1.0 - 0.5, 2.0 - 0.8], **near)
    assert report.final == pytest.approx([2.0 - 0.8], **near)
    assert report.endpoint == pytest.approx([0.0], **near)  # the sound that decided had just been heard
    # "cat" only grew; of five words shown, "uh" was taken back.
    assert (report.n_retracted, report.n_shown) == (1, 5)


def test_what_a_second_pass_replaces_is_told_apart_from_what_was_taken_back() -> None:
    a, cat, sat = word("a", 0.1, 0.2), word("cat", 0.3, 0.5), word("sat", 0.6, 0.8)
    cats, that = word("cats", 0.3, 0.5), word("that", 0.6, 0.8)
    events: dict[int, list[Partial | Final]] = {
        4: [Partial((a,), (cat,))],
        8: [Partial((a, cat), (sat,))],
        20: [Final(Segment.of((cats, that)), first_pass=(a, cat, sat))],
    }
    report = report_of(events, seconds=2)
    assert (report.n_retracted, report.n_shown) == (0, 3)
    assert report.shown == pytest.approx([0.4 - 0.2, 0.4 - 0.5, 0.8 - 0.8], abs=0.02)
    assert report.values()["replaced_words"] == 3 / 3  # one missing, two others
    without = report_of(events | {20: [Final(Segment.of((a, cat, sat)))]}, seconds=2)
    assert without.values()["replaced_words"] is None


def test_words_of_an_utterance_that_came_to_nothing_are_taken_back() -> None:
    report = report_of({1: [Partial((), (word("uh", 0, 0.1),))], 2: [Partial((), ())]}, seconds=1)
    assert (report.n_retracted, report.n_shown, report.n_utterances) == (1, 1, 0)
    assert report.values()["final_median"] is None


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-m", "nothing"], 1, "neither a model file"),
        (["--fast"], 2, "--simulate FILE"),
        (["--simulate", "x.wav", "--save-audio", "y.wav"], 2, "--save-audio"),
        (["--channels", "0"], 2, "whole number"),
        (["--pre-roll", "-1"], 2, "0 or more"),
        (["--rule2-min-trailing-silence", "0"], 2, "more than 0"),
        (["--endpoint-mode", "long-ish"], 2, "very-long"),
    ],
)
def test_what_cannot_work_is_said_at_once(
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asr.pretrained.names", lambda: ["english"])
    assert cli.main(["listen", *arguments]) == status
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_recording_is_kept_unless_it_may_be_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "talk.wav"
    saved.write_bytes(b"precious")
    assert cli.main(["listen", "--save-audio", str(saved)]) == 1
    assert "talk.wav: exists" in capsys.readouterr().err
    assert saved.read_bytes() == b"precious"


def test_a_model_of_both_directions_is_refused(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["listen", "-m", str(tiny_checkpoint), "--simulate", str(SENTENCE)]) == 1


def test_every_rule_reaches_the_stream(parrot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[StreamConfig] = []
    monkeypatch.setattr("asr.simulation.simulate", lambda stream, *_, **__: configs.append(stream.config))
    options = ["--endpoint-mode", "short", "--rule3-min-utterance-length", "9", "--pre-roll", "0.25"]
    assert cli.main(["listen", "-m", str(parrot), "--simulate", str(SENTENCE), *options]) == 0
    (config,) = configs
    assert config.pre_roll == 0.25
    assert config.endpoint.rule2_min_trailing_silence == 0.6
    assert config.endpoint.rule3_min_utterance_length == 9
