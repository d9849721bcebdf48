"""Typing into windows: the choice of a tool, its command lines, and a true window on a true X server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from asr.errors import OutputError
from asr.keyboard import TOOLS, Keyboard, Typist, choose
from asr.spoken import Edit
from tests.desktop import Desktop, another_window, desktop_with_window, wait_for


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    with desktop_with_window(tmp_path_factory.mktemp("desktop")) as desktop:
        yield desktop


@pytest.fixture
def clean(desktop: Desktop) -> Desktop:
    """The window with an empty text field."""
    keyboard = Keyboard("xdotool", desktop.environment)
    keyboard.apply(Edit(len(desktop.text()), ""))
    wait_for(lambda: desktop.text() == "", "an empty field")
    return desktop


def environment(folder: Path, *tools: str, **variables: str) -> dict[str, str]:
    """An environment whose PATH has nothing but tools that note how they are called, in folder/log."""
    programs = folder / "bin"
    programs.mkdir()
    for tool in tools:
        script = programs / tool
        script.write_text(
            "#!/bin/sh\n"
            f'{{ echo "$0 $*" | /usr/bin/sed "s|.*/bin/||"; /bin/cat; }} >> {folder}/log\n'
            f"[ ! -e {folder}/fail ] || {{ echo no such luck >&2; exit 1; }}\n"
        )
        script.chmod(0o755)
    return {"PATH": str(programs), **variables}


def log(folder: Path) -> str:
    return (folder / "log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("installed", "variables", "chosen"),
    [
        (["xdotool", "wtype", "dotool"], {"DISPLAY": ":0"}, "xdotool"),
        (["wtype", "ydotool"], {"DISPLAY": ":0"}, "ydotool"),
        (["xdotool", "wtype", "dotool"], {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}, "wtype"),
        (["xdotool", "dotool"], {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}, "dotool"),
        (
            ["wtype", "ydotool"],
            {"WAYLAND_DISPLAY": "wayland-0", "XDG_CURRENT_DESKTOP": "ubuntu:GNOME"},
            "ydotool",
        ),
        (["dotool"], {}, "dotool"),
    ],
)
def test_the_tool_suits_the_session(
    tmp_path: Path, installed: list[str], variables: dict[str, str], chosen: str
) -> None:
    assert choose(environment(tmp_path, *installed, **variables)) == chosen


@pytest.mark.parametrize(
    ("installed", "variables", "message"),
    [
        ([], {"DISPLAY": ":0"}, "X11: none of xdotool, .* install xdotool .apt-get install xdotool"),
        (["xdotool"], {"DISPLAY": ":0", "WAYLAND_DISPLAY": "w"}, "Wayland: none of wtype, .* install wtype"),
        (["wtype"], {"WAYLAND_DISPLAY": "w", "XDG_CURRENT_DESKTOP": "KDE"}, "Wayland: none of dotool"),
        (["xdotool"], {}, "no display: .*--simulate-input-tool stdout"),
    ],
)
def test_a_session_without_a_tool_is_one_line_with_the_remedy(
    tmp_path: Path, installed: list[str], variables: dict[str, str], message: str
) -> None:
    with pytest.raises(OutputError, match=message) as caught:
        choose(environment(tmp_path, *installed, **variables))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_is_not_there_is_said_at_once(tmp_path: Path, tool: str) -> None:
    with pytest.raises(OutputError, match=f"{tool}: .*(found in PATH)"):
        Keyboard(tool, environment(tmp_path, DISPLAY=":0", WAYLAND_DISPLAY="wayland-0"))


@pytest.mark.parametrize(("tool", "variable"), [("xdotool", "DISPLAY"), ("wtype", "WAYLAND_DISPLAY")])
def test_a_tool_of_another_session_is_said_at_once(tmp_path: Path, tool: str, variable: str) -> None:
    with pytest.raises(OutputError, match=f"{tool}: needs .*{variable} is not set"):
        Keyboard(tool, environment(tmp_path, tool))


@pytest.mark.parametrize(
    ("tool", "called"),
    [
        ("wtype", "wtype -k BackSpace -k BackSpace\nwtype -\n-éwtype -k Return\nwtype -\nb"),
        ("dotool", "dotool \nkey backspace\nkey backspace\ntype -é\nkey enter\ntype b\n"),
        ("xdotool", "xdotool key --clearmodifiers --delay 12 BackSpace BackSpace\n"
                    "xdotool type --clearmodifiers --delay 12 --file -\n-"
                    "xdotool type --clearmodifiers --delay 100 --file -\né"
                    "xdotool type --clearmodifiers --delay 12 --file -\n\nb"),
    ],
)  # fmt: skip
def test_each_tool_deletes_then_types_text_that_looks_like_an_option(
    tmp_path: Path, tool: str, called: str
) -> None:
    Keyboard(tool, environment(tmp_path, tool, DISPLAY=":0", WAYLAND_DISPLAY="w")).apply(Edit(2, "-é\nb"))
    assert log(tmp_path) == called


def test_ydotool_refuses_what_it_would_mistype(tmp_path: Path) -> None:
    keyboard = Keyboard("ydotool", environment(tmp_path, "ydotool"))
    keyboard.apply(Edit(1, "ok"))
    assert log(tmp_path) == "ydotool key 14:1 14:0\nydotool type --file -\nok"
    with pytest.raises(OutputError, match="ydotool: cannot type 'é'"):
        keyboard.apply(Edit(0, "café"))


@pytest.mark.parametrize("tool", ["xdotool", "wtype", "dotool", "ydotool"])
def test_no_tool_is_run_for_an_edit_of_nothing(tmp_path: Path, tool: str) -> None:
    Keyboard(tool, environment(tmp_path, tool, DISPLAY=":0", WAYLAND_DISPLAY="w")).apply(Edit(0, ""))
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("tool", ["xdotool", "wtype", "dotool", "ydotool"])
def test_enter_is_pressed_for_a_new_line_only(tmp_path: Path, tool: str) -> None:
    keyboard = Keyboard(tool, environment(tmp_path, tool, DISPLAY=":0", WAYLAND_DISPLAY="w"))
    keyboard.apply(Edit(1, "no enter here"))
    assert "eturn" not in log(tmp_path) and "key enter" not in log(tmp_path)
    assert not log(tmp_path).endswith("here\n") or tool == "dotool"


def test_a_failing_tool_is_one_line_with_its_own_words(tmp_path: Path) -> None:
    keyboard = Keyboard("wtype", environment(tmp_path, "wtype", WAYLAND_DISPLAY="w"))
    (tmp_path / "fail").touch()
    with pytest.raises(OutputError, match="wtype: failed .no such luck.; try another"):
        keyboard.apply(Edit(0, "a"))


def test_the_clipboard_of_wayland_is_chosen_on_wayland(tmp_path: Path) -> None:
    variables = {"DISPLAY": ":0", "WAYLAND_DISPLAY": "w"}
    Keyboard("clipboard", environment(tmp_path, "wl-copy", "xclip", **variables)).apply(Edit(0, "a\nb"))
    assert log(tmp_path) == "wl-copy \na\nb"


def test_a_message_that_quotes_the_text_is_kept_out_of_errors(tmp_path: Path) -> None:
    variables = environment(tmp_path, "wtype", WAYLAND_DISPLAY="w")
    tool = tmp_path / "bin" / "wtype"
    tool.write_text("#!/bin/sh\n/bin/cat >&2\nexit 1\n")
    with pytest.raises(OutputError) as caught:
        Keyboard("wtype", variables).apply(Edit(0, "my secret"))
    assert "secret" not in str(caught.value)


class Windows(Keyboard):
    """Windows that hold text; focus: the one that has the focus, which nobody may be able to tell."""

    def __init__(self, *, tells_window: bool = True) -> None:
        self.tool = "xdotool" if tells_window else "wtype"
        self.text = {"A": "mine: ", "B": "theirs: "}
        self.focus = "A"
        self.n_deleted = 0
        self.moves_after: int | None = None  # deletions, after which the focus is B's

    def window(self) -> str | None:
        return self.focus if self.tells_window else None

    def apply(self, edit: Edit) -> None:
        text = self.text[self.focus]
        self.text[self.focus] = text[: len(text) - edit.n_deleted] + edit.text
        self.n_deleted += edit.n_deleted
        if self.moves_after is not None and self.n_deleted >= self.moves_after:
            self.focus = "B"


def test_a_correction_is_made_in_the_window_that_got_the_text() -> None:
    windows = Windows()
    typist = Typist(windows)
    typist.apply(Edit(0, "hello whirled"))
    typist.apply(Edit(6, "orld"))
    assert windows.text["A"] == "mine: hello world"


@pytest.mark.parametrize("is_wanted", [False, True])
def test_nothing_is_deleted_in_another_window_and_new_words_go_there(is_wanted: bool) -> None:
    windows = Windows()
    typist = Typist(windows)
    typist.apply(Edit(0, "hello whirled"))
    windows.focus = "B"
    typist.apply(Edit(6, "orld my friend", is_wanted))
    typist.apply(Edit(6, "fiend", is_wanted))  # typed there, and so deleted there
    assert windows.text == {"A": "mine: hello whirled", "B": "theirs:  my fiend"}


def test_nothing_is_deleted_where_the_focus_has_come_back_to() -> None:
    windows = Windows()
    typist = Typist(windows)
    typist.apply(Edit(0, "one"))
    windows.focus = "B"
    typist.apply(Edit(0, " two"))
    windows.focus = "A"
    typist.apply(Edit(4, "", is_wanted=True))
    assert windows.text == {"A": "mine: one", "B": "theirs:  two"}


def test_a_long_deletion_stops_when_the_focus_moves() -> None:
    windows = Windows()
    typist = Typist(windows)
    typist.apply(Edit(0, "a sentence of some length"))
    windows.moves_after = 16
    typist.apply(Edit(25, "", is_wanted=True))
    assert windows.text == {"A": "mine: a sentenc"[:15], "B": "theirs: "}


@pytest.mark.parametrize(
    ("typed", "edit", "text"),
    [
        ("one two three four", Edit(18, "on to tree for five"), "one two three four five"),
        ("one two three four", Edit(14, "to tree for five"), "one to tree for five"),
        ("stop. go", Edit(5, ", go on"), "stop. go on"),
        ("stop.", Edit(1, ", go on"), "stop, go on"),
        ("it is", Edit(2, "was"), "it was"),
    ],
)
def test_a_correction_deletes_a_few_words_of_the_sentence_at_most(typed: str, edit: Edit, text: str) -> None:
    windows = Windows()
    typist = Typist(windows)
    typist.apply(Edit(0, typed))
    typist.apply(edit)
    assert windows.text["A"] == f"mine: {text}"


@pytest.mark.parametrize(("live", "text"), [(False, "hello whirled"), (True, "hello world")])
def test_a_tool_that_tells_no_window_corrects_only_if_asked_to(live: bool, text: str) -> None:
    windows = Windows(tells_window=False)
    typist = Typist(windows, live=live)
    typist.apply(Edit(0, "hello whirled"))
    typist.apply(Edit(6, "orld"))
    assert windows.text["A"] == f"mine: {text}"


def test_a_window_receives_what_is_typed(clean: Desktop) -> None:
    keyboard = Keyboard("auto", clean.environment)
    assert keyboard.tool == "xdotool"
    keyboard.apply(Edit(0, "Hello, world.\n--file \"x\" $HOME 'y' \\n"))
    wait_for(lambda: clean.text() == "Hello, world.\n--file \"x\" $HOME 'y' \\n", "the text")


def test_a_window_receives_letters_that_no_key_has(clean: Desktop) -> None:
    keyboard = Keyboard("xdotool", clean.environment)
    keyboard.apply(Edit(0, "naïve café – Łódź, “€5”"))
    wait_for(lambda: clean.text() == "naïve café – Łódź, “€5”", "the text")


def test_backspaces_take_back_the_end_of_the_text(clean: Desktop) -> None:
    keyboard = Keyboard("xdotool", clean.environment)
    keyboard.apply(Edit(0, "one two\nthré"))
    keyboard.apply(Edit(5, " three"))
    wait_for(lambda: clean.text() == "one two three", "the text")


def test_a_true_window_keeps_its_text_when_the_focus_has_moved_to_it(clean: Desktop, tmp_path: Path) -> None:
    typist = Typist(Keyboard("xdotool", clean.environment))
    typist.apply(Edit(0, "hello whirled"))
    wait_for(lambda: clean.text() == "hello whirled", "the text")
    with another_window(clean, tmp_path, "IMPORTANT") as other:
        typist.apply(Edit(6, "orld"))
        typist.apply(Edit(5, "", is_wanted=True))
        typist.apply(Edit(0, " and more"))
        wait_for(lambda: other() == "IMPORTANT and more", "the text")
        typist.apply(Edit(5, "", is_wanted=True))
        wait_for(lambda: other() == "IMPORTANT and", "the deletion")
    assert clean.text() == "hello whirled"


@pytest.mark.skipif(not shutil.which("xclip"), reason="needs the Debian package xclip")
def test_the_clipboard_holds_the_text(desktop: Desktop) -> None:
    variables = {"DISPLAY": desktop.environment["DISPLAY"], "PATH": os.environ["PATH"]}
    Keyboard("clipboard", variables).apply(Edit(0, "naïve\ncafé"))
    paste = ["xclip", "-selection", "clipboard", "-o"]
    held = subprocess.run(paste, env=variables, capture_output=True, timeout=60, check=True).stdout
    assert held.decode() == "naïve\ncafé"
