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
        if status:
            raise OutputError(
                f"{tool}: failed ({message or f'exit status {status}'});"
                " try another --simulate-input-tool, such as clipboard"
            )
        if message:
            logger.warning("%s: %s", tool, message)


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
            calls.append(Call(("wtype", "--", line)))
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
