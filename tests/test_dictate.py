"""Dictation: what is typed when, requests of other processes, and the whole way into a true window."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
import soundfile

from asr.audio import read_audio
from asr.control import AlreadyRunning, Control, request
from asr.dictation import Dictation, DictationConfig, load_hook
from asr.errors import AsrError, AudioError, ConfigError, OutputError
from asr.recognizer import Recognizer
from asr.spoken import Edit, Writer, default_commands
from asr.streaming import Stream
from asr.transcript import Final, Partial, Segment, Word
from tests.conftest import SENTENCE, SENTENCE_WORDS
from tests.desktop import SECONDS, Desktop, desktop_with_window, wait_for
from tests.virtual_microphone import VirtualMicrophone

ROOT = Path(__file__).parent.parent
BLOCK = np.zeros(1600, np.float32)  # a tenth of a second


def words(text: str) -> tuple[Word, ...]:
    return tuple(Word(word, float(i), i + 0.5, 0.9) for i, word in enumerate(text.split()))


def partial(committed: str, tentative: str = "") -> Partial:
    return Partial(words(committed), words(tentative))


def final(text: str) -> Final:
    return Final(Segment(0.0, 1.0, words(text)))


class Tape:
    """A source: the test says when there is sound, and can tell whether anybody listens."""

    def __init__(self) -> None:
        self.blocks: Queue[np.ndarray | None] = Queue()
        self.is_open = False

    def play(self, n_blocks: int = 1) -> None:
        for _ in range(n_blocks):
            self.blocks.put(BLOCK)

    def end(self) -> None:
        self.blocks.put(None)

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Sound without end, faster than a clock."""
        is_over = threading.Event()

        def play() -> None:
            while not is_over.wait(0.005):
                self.play()

        thread = threading.Thread(target=play)
        thread.start()
        yield
        is_over.set()
        thread.join()

    @contextmanager
    def __call__(self) -> Iterator[Iterator[np.ndarray]]:
        self.is_open = True
        yield self._read()
        self.is_open = False

    def _read(self) -> Iterator[np.ndarray]:
        while (block := self.blocks.get()) is not None:
            yield block


class Scripted:
    """A listener that says something with the numbered blocks, and at the end of each stretch."""

    def __init__(self, events: dict[int, Partial | Final], *ends: Final) -> None:
        self.events = events
        self.ends = list(ends)
        self.n_heard = 0

    def feed(self, samples: np.ndarray) -> list[Partial | Final]:
        self.n_heard += 1
        return [self.events[self.n_heard]] if self.n_heard in self.events else []

    def finish(self) -> list[Partial | Final]:
        return [self.ends.pop(0)] if self.ends else []


class Page:
    """What has been typed, with every edit."""

    def __init__(self) -> None:
        self.edits: list[Edit] = []
        self.text = ""

    def __call__(self, edit: Edit) -> None:
        self.edits.append(edit)
        self.text = self.text[: len(self.text) - edit.n_deleted] + edit.text


class Session:
    """A dictation that runs in a thread of its own."""

    def __init__(
        self,
        listener: Scripted,
        config: DictationConfig | None = None,
        hook: Callable[[str], str] | None = None,
        load: Callable[[], Scripted] | None = None,
        full_sentence: bool = False,
    ) -> None:
        self.tape, self.page, self.listener = Tape(), Page(), listener
        writer = Writer(default_commands(), full_sentence=full_sentence)
        self.dictation = Dictation(config or DictationConfig(), writer, self.page, hook)
        run = (self.tape, load or (lambda: listener))
        self.thread = threading.Thread(target=self.dictation.run, args=run)

    def __enter__(self) -> Session:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.tape.end()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()

    def wait_until_heard(self, n_blocks: int) -> None:
        wait_for(lambda: self.listener.n_heard >= n_blocks, f"block {n_blocks} to be heard")

    def wait_until(self, state: str) -> None:
        wait_for(lambda: self.dictation.request("status") == state, state)


def test_committed_words_are_typed_while_one_speaks_and_tentative_ones_are_not() -> None:
    listener = Scripted({1: partial("", "hello"), 2: partial("hello", "whirled"), 3: final("hello world")})
    with Session(listener, DictationConfig(live=True)) as session:
        session.tape.play(3)
    assert session.page.edits == [Edit(0, "hello"), Edit(0, " world")]


def test_unless_asked_for_a_sentence_is_written_once_when_it_is_final() -> None:
    listener = Scripted({1: partial("hello"), 2: partial("hello whirled"), 3: final("hello world")})
    with Session(listener) as session:
        session.tape.play(3)
    assert session.page.edits == [Edit(0, "hello world")]


def test_a_final_result_replaces_what_was_typed_before() -> None:
    script = Scripted({1: partial("hello whirled"), 2: final("hello world")})
    with Session(script, DictationConfig(live=True)) as session:
        session.tape.play(2)
    assert session.page.text == "hello world"


def test_an_utterance_that_came_to_nothing_leaves_nothing() -> None:
    with Session(Scripted({1: partial("and"), 2: partial("")}), DictationConfig(live=True)) as session:
        session.tape.play(2)
    assert session.page.text == ""


def test_scratch_that_deletes_what_was_typed() -> None:
    script = Scripted({1: final("one two"), 2: final("three"), 3: final("scratch that")})
    with Session(script, DictationConfig(continuous=True)) as session:
        session.tape.play(3)
    assert session.page.text == "one two"
    assert Edit(len(" three"), "") in session.page.edits


@pytest.mark.parametrize(("continuous", "text"), [(True, "Hello. My friend."), (False, "Hello my friend.")])
def test_pauses_end_sentences_if_the_dictation_is_continuous(continuous: bool, text: str) -> None:
    script = Scripted({1: final("hello"), 2: final("my friend")})
    with Session(script, DictationConfig(continuous=continuous), full_sentence=True) as session:
        session.tape.play(2)
    assert session.page.text == text


def test_deferred_output_comes_once_and_at_the_end() -> None:
    script = Scripted({1: partial("one"), 2: final("one two"), 3: final("scratch that")}, final("three"))
    with Session(script, DictationConfig(defer_output=True)) as session:
        session.tape.play(3)
        session.wait_until_heard(3)
        assert session.page.edits == []
    assert session.page.edits == [Edit(0, "three")]


def test_what_is_said_while_the_model_loads_is_heard() -> None:
    listener = Scripted({5: final("hello")})

    def load() -> Scripted:
        wait_for(session.tape.blocks.empty, "all sound to be read")
        return listener

    session = Session(listener, load=load)
    session.tape.play(5)
    with session:
        pass
    assert session.page.text == "hello"


def test_end_waits_for_the_last_words_and_a_little_more_sound() -> None:
    with Session(Scripted({4: partial("one")}, final("one two"))) as session:
        session.tape.play(2)
        session.wait_until_heard(2)
        threading.Timer(0.2, session.tape.play, [50]).start()
        assert session.dictation.request("end") == "ok"
        assert session.page.text == "one two"
        assert session.dictation.request("status") == "ended"
    assert 3 <= session.listener.n_heard <= 6


def test_end_while_the_model_loads_still_types_what_was_said() -> None:
    is_asked = threading.Event()
    listener = Scripted({1: final("hello")})
    with Session(listener, load=lambda: (is_asked.wait(SECONDS), listener)[1]) as session:
        session.tape.play(3)
        asking = threading.Thread(target=session.dictation.request, args=["end"])
        asking.start()
        is_asked.set()
        with session.tape.playing():
            asking.join(SECONDS)
    assert session.page.text == "hello"


def test_cancel_takes_back_what_is_unfinished_and_nothing_else() -> None:
    script = Scripted({1: final("done"), 2: partial("half an")}, final("half an hour"))
    with Session(script, DictationConfig(live=True)) as session:
        session.tape.play(2)
        wait_for(lambda: session.page.text == "done half an", "the words")
        session.dictation.request("cancel")
        assert session.page.text == "done"


def test_suspend_closes_the_microphone_and_resume_opens_it() -> None:
    script = Scripted({2: partial("one")}, final("one"), final("two"))
    with Session(script) as session, session.tape.playing():
        session.wait_until_heard(2)
        session.dictation.request("suspend")
        wait_for(lambda: not session.tape.is_open, "the microphone to be closed")
        session.wait_until("suspended")
        wait_for(lambda: session.page.text == "one", "the words before the pause")
        n_heard = session.listener.n_heard
        time.sleep(0.1)
        assert session.listener.n_heard == n_heard
        session.dictation.request("resume")
        session.wait_until("listening")
        session.wait_until_heard(n_heard + 1)
        assert session.tape.is_open
        session.dictation.request("end")
    assert session.page.text == "one two"


def test_a_suspended_dictation_can_be_ended() -> None:
    with Session(Scripted({}, final("one"))) as session, session.tape.playing():
        session.wait_until("listening")
        session.dictation.request("suspend")
        session.wait_until("suspended")
        assert session.dictation.request("end") == "ok"
        assert session.page.text == "one"


def test_requests_in_quick_succession_lose_nothing() -> None:
    script = Scripted({1: final("a")}, final("b"), final("c"))
    with Session(script) as session:
        with session.tape.playing():
            session.wait_until_heard(1)
            for line in ("suspend", "resume", "resume", "suspend", "suspend", "resume", "end", "end"):
                session.dictation.request(line)
    assert session.page.text == "a b c"


def test_it_ends_even_when_the_source_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.dictation._STALL", 0.1)
    with Session(Scripted({}, final("hello"))) as session:
        assert session.dictation.request("end") == "ok"
        assert session.page.text == "hello"


def test_it_ends_by_itself_after_a_time_without_words() -> None:
    script = Scripted({3: partial("", "hello"), 8: final("hello")})
    with Session(script, DictationConfig(timeout=1.0)) as session, session.tape.playing():
        wait_for(lambda: session.dictation.request("status") == "ended", "the timeout")
    assert session.listener.n_heard >= 8 + 10
    assert session.page.text == "hello"


def test_an_unknown_request_is_refused() -> None:
    dictation = Dictation(DictationConfig(), Writer({}), Page())
    assert dictation.request("jump") == "error: jump: no such request"


def test_a_source_that_cannot_be_opened_is_reported_before_the_model_is_loaded() -> None:
    @contextmanager
    def broken() -> Iterator[Iterator[np.ndarray]]:
        raise AudioError("no microphone")
        yield iter(())

    def load() -> Scripted:
        raise AssertionError("the model was loaded")

    with pytest.raises(AudioError, match="no microphone"):
        Dictation(DictationConfig(), Writer({}), Page()).run(broken, load)


# --- the hook ---------------------------------------------------------------------------------------


def hook_of(folder: Path, source: str) -> Callable[[str], str] | None:
    (folder / "hook.py").write_text(source)
    return load_hook(folder / "hook.py")


def test_a_hook_changes_the_words_before_commands_are_obeyed(tmp_path: Path) -> None:
    hook = hook_of(tmp_path, "def process(text):\n    return text.replace('smiley', ':-)') + ' period'\n")
    with Session(Scripted({1: partial("a"), 2: final("a smiley")}), hook=hook) as session:
        session.tape.play(2)
    assert session.page.text == "a :-)."
    assert session.page.edits[0] == Edit(0, "a :-).")  # it sees whole utterances


def test_a_hook_of_nerd_dictation_is_understood(tmp_path: Path) -> None:
    hook = hook_of(tmp_path, "def nerd_dictation_process(text):\n    return text.upper()\n")
    assert hook is not None and hook("a") == "A"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return text + 1", "hook: TypeError in line 2; the words"),
        ("pass", r"hook: .*process\(\) gave NoneType"),
        ("import sys; sys.exit(3)", "hook: SystemExit in line 2; the words"),
        ("raise KeyError(text)", "hook: KeyError in line 2; the words"),
    ],
)
def test_an_error_of_the_hook_is_one_line_and_the_words_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, body: str, message: str
) -> None:
    hook = hook_of(tmp_path, f"def process(text):\n    {body}\n")
    with Session(Scripted({1: final("hello")}), hook=hook) as session:
        session.tape.play(1)
    assert session.page.text == "hello"
    (record,) = caplog.records
    assert re.search(message, record.getMessage())
    assert "\n" not in record.getMessage() and "hello" not in record.getMessage()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def process(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "no function process"),
        ("import sys; sys.exit()", "SystemExit"),
    ],
)
def test_a_hook_that_cannot_be_used_is_named(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"hook.py: .*{message}"):
        hook_of(tmp_path, source)


def test_no_hook_is_no_error(tmp_path: Path) -> None:
    assert load_hook(tmp_path / "hook.py") is None


# --- lock and socket --------------------------------------------------------------------------------


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A short path: the name of a socket has room for about a hundred letters."""
    with tempfile.TemporaryDirectory(prefix="asr-test-") as folder:
        yield Path(folder)


def test_a_request_is_answered_by_the_process_that_runs(runtime: Path) -> None:
    assert request(runtime, "d", "status") is None
    control = Control(runtime, "d", lambda line: f"<{line}>")
    assert request(runtime, "d", "status") == "<status>"
    control.close()
    assert request(runtime, "d", "status") is None
    assert not (runtime / "d.sock").exists()


def test_nobody_else_may_use_lock_or_socket(runtime: Path) -> None:
    control = Control(runtime, "d", str)
    for name in ("d.sock", "d.lock"):
        assert stat.S_IMODE((runtime / name).stat().st_mode) == 0o600
    control.close()


def test_only_one_of_many_that_begin_at_once_wins(runtime: Path) -> None:
    controls: list[Control] = []
    refused: list[AsrError] = []
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait()
        try:
            controls.append(Control(runtime, "d", str))
        except AlreadyRunning as error:
            refused.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(controls) == 1 and len(refused) == 7
    assert request(runtime, "d", "hello") == "hello"
    controls[0].close()


def test_what_a_killed_process_left_is_replaced(runtime: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from asr.control import Control;"
        f"c = Control(Path({str(runtime)!r}), 'd', str); print('ready', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert request(runtime, "d", "hello") == "hello"
        with pytest.raises(AlreadyRunning):
            Control(runtime, "d", str)
        process.kill()
    assert (runtime / "d.sock").exists() and (runtime / "d.lock").read_text() == f"{process.pid}\n"
    assert request(runtime, "d", "hello") is None
    control = Control(runtime, "d", lambda line: "new")
    assert request(runtime, "d", "hello") == "new"
    control.close()


def test_the_number_of_a_strangers_process_in_a_stale_lock_means_nothing(runtime: Path) -> None:
    import socket

    (runtime / "d.lock").write_text(f"{os.getppid()}\n")
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(runtime / "d.sock"))
    begin = time.monotonic()
    assert request(runtime, "d", "status") is None
    assert time.monotonic() - begin < 2
    assert not (runtime / "d.sock").exists()


def test_a_lock_that_is_a_link_is_not_followed(runtime: Path) -> None:
    (runtime / "precious").write_text("mine")
    (runtime / "d.lock").symlink_to(runtime / "precious")
    with pytest.raises(OutputError, match="d.lock: cannot be written"):
        Control(runtime, "d", str)
    assert (runtime / "precious").read_text() == "mine"


def test_a_silent_client_keeps_nobody_from_being_answered(runtime: Path) -> None:
    import socket

    control = Control(runtime, "d", str)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(runtime / "d.sock"))
        assert request(runtime, "d", "hello") == "hello"
    control.close()


# --- the command ------------------------------------------------------------------------------------


class CommandLine:
    """`asr dictate` with folders of its own; whatever it leaves running is ended."""

    def __init__(self, folder: Path, desktop: Desktop | None) -> None:
        self.folder = folder
        self.desktop = desktop
        environment = dict(os.environ) if desktop is None else dict(desktop.environment)
        for name in () if desktop else ("DISPLAY", "WAYLAND_DISPLAY"):
            environment.pop(name, None)
        environment |= {"XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": str(ROOT)}
        environment |= {"XDG_CONFIG_HOME": str(folder), "XDG_STATE_HOME": str(folder)}
        self.environment = environment

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "asr", "dictate", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=2 * SECONDS
        )


@pytest.fixture
def asr_dictate(runtime: Path) -> Iterator[CommandLine]:
    command_line = CommandLine(runtime, None)
    yield command_line
    command_line("cancel")


@pytest.fixture
def on_desktop(runtime: Path, tmp_path: Path) -> Iterator[CommandLine]:
    with desktop_with_window(tmp_path) as desktop:
        command_line = CommandLine(runtime, desktop)
        yield command_line
        command_line("cancel")


@pytest.fixture(scope="session")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sentence, and then more silence than any test waits for."""
    samples, sample_rate = soundfile.read(SENTENCE, dtype="float32")
    path = tmp_path_factory.mktemp("recording") / "long.wav"
    soundfile.write(path, np.concatenate([samples, np.zeros(600 * sample_rate, np.float32)]), sample_rate)
    return path


def test_speech_ends_up_in_the_focused_window(
    on_desktop: CommandLine, parrot: Path, long_recording: Path
) -> None:
    desktop = on_desktop.desktop
    assert desktop is not None
    arguments = ("-m", str(parrot), "--simulate", str(long_recording), "--full-sentence")
    begun = on_desktop("begin", *arguments)
    assert (begun.returncode, begun.stdout, begun.stderr) == (0, "", "")
    wait_for(lambda: SENTENCE_WORDS[1:] in desktop.text(), "the words")
    assert on_desktop("status").stdout == "listening\n"

    refused = on_desktop("begin", *arguments)
    assert refused.returncode == 1
    assert refused.stderr == "asr: error: dictate: is already running; asr dictate end stops it\n"

    ended = on_desktop("end")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    wait_for(lambda: desktop.text() == f"{SENTENCE_WORDS.capitalize()}.", "the full stop")
    assert on_desktop("status").stdout == "off\n"


def test_what_is_said_into_a_microphone_ends_up_in_the_focused_window(
    on_desktop: CommandLine, parrot: Path, tmp_path: Path
) -> None:
    desktop, home = on_desktop.desktop, tmp_path / "home"
    assert desktop is not None
    home.mkdir(mode=0o700)
    samples, sample_rate = soundfile.read(SENTENCE, dtype="float32")
    recording = tmp_path / "spoken.wav"
    soundfile.write(recording, np.concatenate([samples, np.zeros(2 * sample_rate, np.float32)]), sample_rate)
    with VirtualMicrophone(home) as microphone:
        ours = {name for name in microphone.environment if name.startswith("PULSE_")} | {"HOME"}
        on_desktop.environment |= {name: microphone.environment[name] for name in ours}
        begun = on_desktop("begin", "-m", str(parrot), "--continuous", "--full-sentence")
        assert (begun.returncode, begun.stderr) == (0, "")
        for n_times in (1, 2):
            microphone.say(recording)
            sentences = " ".join([f"{SENTENCE_WORDS.capitalize()}."] * n_times)
            wait_for(lambda: desktop.text() == sentences, sentences)  # noqa: B023 (waited for at once)
        assert on_desktop("end").returncode == 0
    assert desktop.text() == sentences


def test_toggle_begins_and_ends_and_cancel_leaves_nothing_behind(
    on_desktop: CommandLine, parrot: Path, long_recording: Path
) -> None:
    arguments = ("-m", str(parrot), "--simulate", str(long_recording))
    assert on_desktop("toggle", *arguments).returncode == 0
    assert on_desktop("suspend").returncode == 0
    wait_for(lambda: on_desktop("status").stdout == "suspended\n", "the pause")
    assert on_desktop("resume").returncode == 0
    wait_for(lambda: on_desktop("status").stdout == "listening\n", "the end of the pause")
    assert on_desktop("toggle").returncode == 0
    assert on_desktop("status").stdout == "off\n"
    assert on_desktop("toggle", *arguments).returncode == 0
    assert on_desktop("cancel").returncode == 0
    assert on_desktop("status").stdout == "off\n"
    assert not list(on_desktop.folder.glob("**/*.sock"))


def test_standard_output_holds_the_words_and_nothing_else(
    asr_dictate: CommandLine, parrot: Path, tmp_path: Path
) -> None:
    samples, sample_rate = soundfile.read(SENTENCE, dtype="float32")
    recording = tmp_path / "short.wav"
    soundfile.write(recording, np.concatenate([samples, np.zeros(sample_rate, np.float32)]), sample_rate)
    done = asr_dictate(
        "begin", "-m", str(parrot), "--simulate", str(recording), "--simulate-input-tool", "stdout"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{SENTENCE_WORDS}\n", "")


def test_the_shipped_models_write_what_the_second_pass_found(asr_dictate: CommandLine) -> None:
    written = asr_dictate(
        "begin", "--no-commands", "--simulate", str(SENTENCE), "--simulate-input-tool", "stdout"
    )
    stream = Stream(Recognizer.load("english-streaming"), second_pass=Recognizer.load("english"))
    samples = np.concatenate([read_audio(SENTENCE), np.zeros(8000, np.float32)])
    (final,) = (event for event in [*stream.feed(samples), *stream.finish()] if isinstance(event, Final))
    assert written.stdout == f"{final.segment.text}\n"
    assert len(final.segment.words) > 3


def test_ctrl_c_ends_it_with_what_was_heard(
    asr_dictate: CommandLine, parrot: Path, long_recording: Path
) -> None:
    command = [sys.executable, "-m", "asr", "dictate", "begin", "-m", str(parrot)]
    command += ["--simulate", str(long_recording), "--simulate-input-tool", "stdout"]
    process = subprocess.Popen(
        command, env=asr_dictate.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: asr_dictate("status").stdout == "listening\n", "the model")
        time.sleep(4)  # the sentence takes two seconds
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS) == (f"{SENTENCE_WORDS}\n", "")
        assert process.returncode == 0
    finally:
        process.kill()


@pytest.mark.parametrize("action", ["end", "cancel", "suspend", "resume"])
def test_there_is_nothing_to_end_when_nothing_runs(asr_dictate: CommandLine, action: str) -> None:
    done = asr_dictate(action)
    assert done.returncode == 1
    assert done.stderr == "asr: error: no dictation is running; asr dictate begin starts one\n"


def test_the_state_without_a_dictation_is_off(asr_dictate: CommandLine) -> None:
    done = asr_dictate("status")
    assert (done.returncode, done.stdout, done.stderr) == (0, "off\n", "")
    assert stat.S_IMODE((asr_dictate.folder / "asr").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["jump"], 2, "invalid choice"),
        (["begin", "--timeout", "-1"], 2, "0 or more"),
        (["begin", "-m", "nothing"], 1, "nothing: neither a model file nor a shipped model"),
        (["begin", "-m", "MODEL"], 1, "no display"),
        (["begin", "-m", "MODEL", "--simulate-input-tool", "wtype"], 1, "wtype: "),
        (["begin", "-m", "MODEL", "--simulate", "no.wav", "--simulate-input-tool", "stdout"], 1, "no.wav"),
    ],
)
def test_what_cannot_work_is_one_line(
    asr_dictate: CommandLine, tiny_checkpoint: Path, arguments: list[str], status: int, message: str
) -> None:
    asr_dictate.environment["PATH"] = "/nowhere"
    done = asr_dictate(*[str(tiny_checkpoint) if word == "MODEL" else word for word in arguments])
    assert done.returncode == status
    assert message in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_a_failure_in_the_background_is_reported_in_the_foreground(
    on_desktop: CommandLine, tiny_checkpoint: Path
) -> None:
    done = on_desktop("begin", "-m", str(tiny_checkpoint), "--simulate", str(SENTENCE))
    assert done.returncode == 1
    assert "tiny.safetensors" in done.stderr and done.stderr.count("\n") == 1
    assert on_desktop("status").stdout == "off\n"


def test_a_broken_commands_file_is_reported(asr_dictate: CommandLine, tiny_checkpoint: Path) -> None:
    folder = asr_dictate.folder / "asr"
    folder.mkdir(exist_ok=True)
    (folder / "commands.toml").write_text("[commands")
    done = asr_dictate("begin", "-m", str(tiny_checkpoint))
    assert done.returncode == 2 and "commands.toml: not TOML" in done.stderr
