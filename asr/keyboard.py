"""Edits -> key strokes in the focused window, or the clipboard, through the tools that desktops have.

Enter is pressed for a new line in the text, which somebody has asked for, and never else.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asr.errors import OutputError
from asr.spoken import Edit

logger = logging.getLogger(__name__)

TOOLS = ("xdotool", "wtype", "dotool", "ydotool", "clipboard")
# Mutter and KWin do not have the virtual-keyboard protocol that wtype needs.
_DESKTOPS_WITHOUT_VIRTUAL_KEYBOARD = {"GNOME", "KDE"}
_X11_DELAY_MS = 12  # between keys
# For a character that no key has, xdotool lends it one for as long as this. A program that looks up the
# key later than that sees another character or none: with 12 ms, a Tk window missed one in twenty.
_X11_LENT_KEY_MS = 100
_SECONDS_PER_CHARACTER = 0.1  # far more than any tool takes
_SECONDS_FOR_WINDOW = 10.0
_MOST_WORDS = 3  # that a correction may delete unasked
_KEYS_AT_ONCE = 8  # backspaces between two looks at which window has the focus
_REMEDIES = {
    "xdotool": "apt-get install xdotool",
    "wtype": "apt-get install wtype",
    "dotool": "see https://git.sr.ht/~geb/dotool",
    "ydotool": "version 1.0 or newer, with its ydotoold running",
    "clipboard": "apt-get install wl-clipboard on Wayland, xclip on X11",
}


@dataclass(frozen=True)
class Call:
    """One run of a tool: its command line, and what it reads from standard input."""

    arguments: tuple[str, ...]
    stdin: str = ""


class Keyboard:
    """Types into whatever window has the focus."""

    def __init__(self, tool: str, environment: Mapping[str, str] = os.environ) -> None:
        """tool: one of TOOLS or auto. Raises OutputError when it cannot work here."""
        self.tool = choose(environment) if tool == "auto" else tool
        self._environment = {**environment, "LC_ALL": "C.UTF-8"}  # else wtype and xdotool read bytes
        self._calls = _calls(self.tool, environment)

    def apply(self, edit: Edit) -> None:
        """Delete with backspaces, then type. The clipboard gets the text instead. Raises OutputError."""
        for call in self._calls(edit) if edit.n_deleted or edit.text else ():
            self._run(call)

    @property
    def tells_window(self) -> bool:
        """Whether window() can tell windows apart; no tool of Wayland can."""
        return self.tool == "xdotool"

    def window(self) -> str | None:
        """The number of the window that has the focus; None if it cannot be told."""
        if not self.tells_window:
            return None
        try:
            asked = subprocess.run(
                ("xdotool", "getwindowfocus"),
                capture_output=True,
                encoding="utf-8",
                timeout=_SECONDS_FOR_WINDOW,
                env=self._environment,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return asked.stdout.strip() or None if asked.returncode == 0 else None

    def _run(self, call: Call) -> None:
        tool = call.arguments[0]
        seconds = 10 + _SECONDS_PER_CHARACTER * (len(call.stdin) + sum(map(len, call.arguments)))
        # A file, not a pipe: xclip and wl-copy go on in the background, and would keep a pipe open.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as messages:
            try:
                status = subprocess.run(
                    call.arguments,
                    input=call.stdin,
                    encoding="utf-8",
                    stdout=subprocess.DEVNULL,
                    stderr=messages,
                    timeout=seconds,
                    env=self._environment,
                ).returncode
            except OSError as error:
                raise OutputError(f"{tool}: cannot be run ({error.strerror})") from None
            except subprocess.TimeoutExpired:
                raise OutputError(f"{tool}: not done in {seconds:.0f} s; is the screen locked?") from None
            messages.seek(0)
            message = " ".join(messages.read().split())
        if any(len(word) > 1 and word in message for word in call.stdin.split()):
            message = "its message quotes the text"  # what was said belongs in no log
        if status:
            raise OutputError(
                f"{tool}: failed ({message or f'exit status {status}'});"
                " try another --simulate-input-tool, such as clipboard"
            )
        if message:
            logger.warning("%s: %s", tool, message)


class Typist:
    """Edits -> a keyboard, so that nothing is deleted but what was typed in the same window.

    A correction that would delete more than a few words, or reach into the sentence before, is left out
    as well: the words that are new are typed, those that are there stay. What the speaker wants
    deleted ("scratch that") may be longer, but in the same window only.
    """

    def __init__(self, keyboard: Keyboard, *, live: bool = False) -> None:
        """live: where the focused window cannot be told, correct all the same."""
        self._keyboard = keyboard
        self._trusts_blindly = live and not keyboard.tells_window
        self._text = ""  # as the edits have it
        self._typed = ""  # what was typed in the window without a change of focus in between
        self._window: str | None = None

    def apply(self, edit: Edit) -> None:
        """Raises OutputError when the tool fails."""
        kept = self._text[: len(self._text) - edit.n_deleted]
        deleted = self._text[len(kept) :]
        self._text = kept + edit.text
        text = edit.text
        if deleted and not (self._may_delete(deleted, edit) and self._delete(len(deleted))):
            logger.warning("nothing is deleted: the text is not known to end with what was typed here")
            text = _continuation(deleted, edit.text)
        if text:
            self._type(text)

    def _may_delete(self, deleted: str, edit: Edit) -> bool:
        if not self._typed.endswith(deleted):
            return False
        reaches_back = re.search(r"[.!?\n]\s*\S", deleted)
        return edit.is_wanted or (len(deleted.split()) <= _MOST_WORDS and not reaches_back)

    def _delete(self, n_characters: int) -> bool:
        """Whether all of them were deleted; False once another window has the focus."""
        while n_characters:
            if not self._has_focus(self._keyboard.window()):
                self._typed = ""
                return False
            n_keys = min(n_characters, _KEYS_AT_ONCE)
            self._keyboard.apply(Edit(n_keys, ""))
            self._typed = self._typed[:-n_keys]
            n_characters -= n_keys
        return True

    def _type(self, text: str) -> None:
        window = self._keyboard.window()
        if not self._has_focus(window):
            self._window, self._typed = window, ""
        self._keyboard.apply(Edit(0, text))
        self._typed += text
        if not self._has_focus(self._keyboard.window()):  # some of it may have gone elsewhere
            self._typed = ""

    def _has_focus(self, window: str | None) -> bool:
        return self._trusts_blindly or (window is not None and window == self._window)


def _continuation(old: str, new: str) -> str:
    """What of a new end of a text comes after the words of the old one, whichever of them have changed."""
    tokens = re.findall(r"\s*\S+|\s+$", new)
    words = [token.strip() for token in tokens]
    # Edit distances between the old words and each beginning of the new ones.
    distances = list(range(len(words) + 1))
    for old_word in old.split():
        diagonal, distances[0] = distances[0], distances[0] + 1
        for i, word in enumerate(words, start=1):
            diagonal, distances[i] = (
                distances[i],
                min(distances[i] + 1, distances[i - 1] + 1, diagonal + (word != old_word)),
            )
    nearest = min(range(len(distances)), key=lambda i: (distances[i], -i))
    return "".join(tokens[nearest:])


def choose(environment: Mapping[str, str]) -> str:
    """The tool that suits this session: of X11, of Wayland, or neither. Raises OutputError."""
    if environment.get("WAYLAND_DISPLAY"):
        desktops = set(environment.get("XDG_CURRENT_DESKTOP", "").upper().split(":"))
        session, candidates = "Wayland", ["dotool", "ydotool"]
        if not desktops & _DESKTOPS_WITHOUT_VIRTUAL_KEYBOARD:
            candidates.insert(0, "wtype")
    elif environment.get("DISPLAY"):
        session, candidates = "X11", ["xdotool", "dotool", "ydotool"]
    else:
        session, candidates = "no display", ["dotool", "ydotool"]
    for tool in candidates:
        if _find(tool, environment):
            return tool
    if session == "no display":
        raise OutputError(
            "no display: neither WAYLAND_DISPLAY nor DISPLAY is set; start this inside a desktop session,"
            " or use --simulate-input-tool stdout"
        )
    raise OutputError(
        f"{session}: none of {', '.join(candidates)} found in PATH; install {candidates[0]}"
        f" ({_REMEDIES[candidates[0]]}), or use --simulate-input-tool clipboard"
    )


def _find(program: str, environment: Mapping[str, str]) -> str | None:
    return shutil.which(program, path=environment.get("PATH", os.defpath))


def _calls(tool: str, environment: Mapping[str, str]) -> Callable[[Edit], list[Call]]:
    """What a tool is to be run with for an edit. Raises OutputError when it cannot work here."""
    if tool == "clipboard":
        return _clipboard(environment)
    if not _find(tool, environment):
        raise OutputError(f"{tool}: not found in PATH; install it ({_REMEDIES[tool]}), or use another tool")
    if tool == "xdotool" and not environment.get("DISPLAY"):
        raise OutputError("xdotool: needs an X11 display, and DISPLAY is not set; use another tool")
    if tool == "wtype" and not environment.get("WAYLAND_DISPLAY"):
        raise OutputError("wtype: needs Wayland, and WAYLAND_DISPLAY is not set; use another tool")
    return {"xdotool": _xdotool, "wtype": _wtype, "dotool": _dotool, "ydotool": _ydotool}[tool]


def _xdotool(edit: Edit) -> list[Call]:
    calls = []
    if edit.n_deleted:
        keys = ("BackSpace",) * edit.n_deleted
        calls.append(Call(("xdotool", "key", "--clearmodifiers", "--delay", f"{_X11_DELAY_MS}", *keys)))
    for run in re.findall("[\0-\x7f]+|[^\0-\x7f]+", edit.text):
        delay = _X11_DELAY_MS if run.isascii() else _X11_LENT_KEY_MS
        calls.append(Call(("xdotool", "type", "--clearmodifiers", "--delay", f"{delay}", "--file", "-"), run))
    return calls


def _wtype(edit: Edit) -> list[Call]:
    calls = []
    if edit.n_deleted:
        calls.append(Call(("wtype", *("-k", "BackSpace") * edit.n_deleted)))
    for number, line in enumerate(edit.text.split("\n")):
        if number:
            calls.append(Call(("wtype", "-k", "Return")))
        if line:
            # Not as an argument: those of a process can be read by every user of the machine.
            calls.append(Call(("wtype", "-"), line))
    return calls


def _dotool(edit: Edit) -> list[Call]:
    actions = ["key backspace"] * edit.n_deleted
    for number, line in enumerate(edit.text.split("\n")):
        if number:
            actions.append("key enter")
        if line:
            actions.append(f"type {line}")
    return [Call(("dotool",), "".join(f"{action}\n" for action in actions))]


def _ydotool(edit: Edit) -> list[Call]:
    foreign = next((character for character in edit.text if not character.isascii()), None)
    if foreign:
        raise OutputError(f"ydotool: cannot type '{foreign}'; use wtype, dotool or clipboard for such text")
    backspace = ("14:1", "14:0")  # key codes of Linux, pressed and released
    calls = [Call(("ydotool", "key", *backspace * edit.n_deleted))] if edit.n_deleted else []
    return calls + ([Call(("ydotool", "type", "--file", "-"), edit.text)] if edit.text else [])


def _clipboard(environment: Mapping[str, str]) -> Callable[[Edit], list[Call]]:
    wayland, x11 = environment.get("WAYLAND_DISPLAY"), environment.get("DISPLAY")
    programs: list[tuple[str, ...]] = [("wl-copy",)] if wayland else []
    programs += [("xclip", "-selection", "clipboard"), ("xsel", "--clipboard", "--input")] if x11 else []
    for arguments in programs:
        if _find(arguments[0], environment):
            return lambda edit: [Call(arguments, edit.text)]
    if not programs:
        raise OutputError("clipboard: there is no display; use --simulate-input-tool stdout")
    names = " or ".join(arguments[0] for arguments in programs)
    raise OutputError(f"clipboard: no {names} found in PATH; install it ({_REMEDIES['clipboard']})")
