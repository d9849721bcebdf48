"""Recognised words -> written text: spoken punctuation and commands, capitals, spaces, digits.

    >>> writer = Writer(default_commands())
    >>> writer.hear("dear anna comma new line how are you question mark")
    Edit(n_deleted=0, text='dear anna,\\nhow are you?')
    >>> writer.close()
    Edit(n_deleted=0, text='')
    >>> writer.hear("scratch that")
    Edit(n_deleted=23, text='')

What a phrase does is a table: the default one, changed by the user's commands.toml. No torch, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import commonprefix
from pathlib import Path

from asr import config, numerals
from asr.errors import ConfigError
from asr.transcript import Segment, Transcript, Word

SCRATCH, CAP, ALL_CAPS = "scratch that", "cap", "all caps"
CAPS_ON, CAPS_OFF, NO_SPACE, LITERAL = "caps on", "caps off", "no space", "literal"
ACTIONS = (SCRATCH, CAP, ALL_CAPS, CAPS_ON, CAPS_OFF, NO_SPACE, LITERAL)
_END_OF_SENTENCE = "end of sentence"  # nothing that one can say: Writer puts it where a sentence ends


@dataclass(frozen=True)
class Command:
    """What a spoken phrase does: it writes a text of its own, or acts on the words around it."""

    write: str = ""
    space_before: bool = True  # False: joined to what is before it, as a comma is
    space_after: bool = True  # False: joined to what follows, as an opening quote is
    ends_sentence: bool = False  # the next word gets a capital
    do: str = ""  # one of ACTIONS


Commands = Mapping[tuple[str, ...], Command]  # the words of a phrase -> what it does


def default_commands() -> dict[tuple[str, ...], Command]:
    """The phrases that are known without a commands.toml."""
    table: dict[str, Command] = {action: Command(do=action) for action in ACTIONS}
    table["capital"] = table[CAP]
    for phrases, mark in {
        "comma": ",",
        "semicolon, semi colon": ";",
        "colon": ":",
        "close quote, close quotes, end quote, unquote": '"',
        "close paren, close parenthesis, close parentheses": ")",
        "close bracket": "]",
        "percent sign": "%",
        "ellipsis": "...",
    }.items():
        table |= dict.fromkeys(phrases.split(", "), Command(mark, space_before=False))
    for phrases, mark in {
        "period, full stop": ".",
        "question mark": "?",
        "exclamation mark, exclamation point": "!",
    }.items():
        table |= dict.fromkeys(phrases.split(", "), Command(mark, space_before=False, ends_sentence=True))
    for phrases, mark in {
        "open quote, open quotes": '"',
        "open paren, open parenthesis, open parentheses": "(",
        "open bracket": "[",
        "dollar sign": "$",
        "hash sign": "#",
    }.items():
        table |= dict.fromkeys(phrases.split(", "), Command(mark, space_after=False))
    for phrases, mark in {
        "hyphen": "-",
        "slash, forward slash": "/",
        "backslash, back slash": "\\",
        "underscore": "_",
        "at sign": "@",
        "new line, newline": "\n",
        "new paragraph": "\n\n",
    }.items():
        joined = Command(mark, space_before=False, space_after=False)
        table |= dict.fromkeys(phrases.split(", "), joined)
    table |= {"dash": Command("–"), "ampersand": Command("&"), "asterisk": Command("*")}
    table |= {"plus sign": Command("+"), "equals sign": Command("=")}
    return {tuple(phrase.split()): command for phrase, command in table.items()}


def load_commands(path: Path) -> Commands:
    """The default phrases, changed by a TOML file if it exists. Raises ConfigError.

    Its table [commands] has a line for a phrase: "my name" = "Ada Lovelace"; "arrow" = {write = "->",
    space_before = false}; "erase that" = {do = "scratch that"}; "period" = "" makes a plain word of it.
    """
    table = default_commands()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return table
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    data = config.read_toml(path)
    phrases = data.pop("commands", {})
    if data or not isinstance(phrases, dict):
        raise ConfigError(f"{path}: {next(iter(data), 'commands')}: everything belongs in a table [commands]")
    for phrase, value in phrases.items():
        words = tuple(phrase.lower().split())
        place = f'{path}: commands: "{phrase}"'
        if not words:
            raise ConfigError(f"{place}: a phrase needs a word")
        if value == "":
            table.pop(words, None)
            continue
        fields = {"write": value} if isinstance(value, str) else value
        if not isinstance(fields, dict):
            raise ConfigError(f"{place}: expected a text or a table such as {{write = ...}}, got {value!r}")
        command = config.from_mapping(fields, Command, place)
        if command.do and command.do not in ACTIONS:
            raise ConfigError(f"{place}: no action '{command.do}'; there are {', '.join(ACTIONS)}")
        if bool(command.do) == bool(command.write):
            raise ConfigError(f"{place}: needs either write or do")
        table[words] = command
    return table


@dataclass(frozen=True)
class Edit:
    """A change at the end of a text: first delete so many characters, then add this.

    is_wanted: the speaker has asked for the deletion, with "scratch that" or by cancelling.
    """

    n_deleted: int
    text: str
    is_wanted: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True)
class _Piece:
    """Spoken words, or a command, and which words [first, last) it stands for."""

    text: str
    first: int
    last: int
    command: Command | None = None


class Writer:
    """The written text of one dictation, utterance by utterance.

    It keeps all that was said, because "scratch that" may remove any of it, and it writes the whole anew:
    what it returns is the difference at the end of the text.
    """

    def __init__(
        self, commands: Commands, *, full_sentence: bool = False, numbers_as_digits: bool = False
    ) -> None:
        self._commands = commands
        self._full_sentence = full_sentence
        self._numbers_as_digits = numbers_as_digits
        self._closed: list[list[_Piece]] = []
        self._open: list[_Piece] = []
        self.text = ""

    def hear(self, words: str) -> Edit:
        """What changes when the open utterance holds these words (all of them, not the new ones)."""
        tokens = re.findall(r"\n+|\S+", words)  # recognised words hold no new line, those of a hook may
        self._open = _parse(tokens, self._commands, numbers_as_digits=self._numbers_as_digits)
        is_scratched = any(piece.command and piece.command.do == SCRATCH for piece in self._open)
        return replace(self._write(), is_wanted=is_scratched)

    def close(self, *, ends_sentence: bool = True) -> Edit:
        """What changes when the utterance is complete: a full stop, if sentences are to be full.

        The stop gives way to a mark that the next utterance begins with.
        """
        self._closed = _with_utterance(self._closed, self._open)
        self._open = []
        if ends_sentence and self._closed:
            self._closed[-1] = [*self._closed[-1], _Piece("", 0, 0, Command(do=_END_OF_SENTENCE))]
        return self._write()

    def drop(self) -> Edit:
        """What changes when the open utterance is forgotten."""
        self._open = []
        return replace(self._write(), is_wanted=True)

    def _write(self) -> Edit:
        utterances = _with_utterance(self._closed, self._open)
        written = _layout(utterances, full_sentence=self._full_sentence)
        text = "".join(separator + token for separator, token, _ in written)
        n_kept = len(commonprefix([self.text, text]))
        edit = Edit(len(self.text) - n_kept, text[n_kept:])
        self.text = text
        return edit


def rewrite(
    transcript: Transcript,
    commands: Commands,
    *,
    full_sentence: bool = False,
    numbers_as_digits: bool = False,
) -> Transcript:
    """The transcript as it is written: a word is what stands between two blanks, with its marks.

    It spans the times of the words that it was made from and has the lowest of their probabilities. A new
    line begins a new segment. Channels do not hear each other's commands.
    """
    segments: list[Segment] = []
    for channel in dict.fromkeys(segment.channel for segment in transcript.segments):
        heard = [segment for segment in transcript.segments if segment.channel == channel]
        utterances: list[list[_Piece]] = []
        first = 0
        for segment in heard:
            tokens = [word.text for word in segment.words]
            pieces = _parse(tokens, commands, numbers_as_digits=numbers_as_digits, first=first)
            utterances = _with_utterance(utterances, pieces)
            if utterances and pieces:
                utterances[-1] = [*utterances[-1], _Piece("", 0, 0, Command(do=_END_OF_SENTENCE))]
            first += len(tokens)
        written = _layout(utterances, full_sentence=full_sentence)
        segments += _segments(written, heard)
    segments.sort(key=lambda segment: segment.start)
    return replace(transcript, segments=tuple(segments))


def _segments(written: Iterable[tuple[str, str, _Piece]], heard: Sequence[Segment]) -> list[Segment]:
    """Segments of one channel from what was written of the segments that were heard."""
    words = [word for segment in heard for word in segment.words]
    origin = [index for index, segment in enumerate(heard) for _ in segment.words]
    groups: list[list[Word]] = []
    group_origin = -1
    is_new_line = True
    for separator, token, piece in written:
        if token.isspace():
            is_new_line = True
            continue
        said = words[piece.first : piece.last]
        probability = min((word.probability for word in said), default=1.0)
        if said and (separator or is_new_line):
            if is_new_line or origin[piece.first] != group_origin:
                groups.append([])
                group_origin = origin[piece.first]
            groups[-1].append(Word(token, said[0].start, said[-1].end, probability))
            is_new_line = False
            continue
        word = groups[-1][-1]
        groups[-1][-1] = replace(
            word,
            text=word.text + token,
            # A mark is not a sound of the word; what was said with "no space" between is.
            end=said[-1].end if said and piece.command is None else word.end,
            probability=min(word.probability, probability),
        )
    channel = heard[0].channel
    return [Segment(group[0].start, group[-1].end, tuple(group), channel) for group in groups]


def _parse(
    tokens: Sequence[str], commands: Commands, *, numbers_as_digits: bool, first: int = 0
) -> list[_Piece]:
    """Words and commands in their order. first: number of the first token."""
    pieces: list[_Piece] = []
    plain: list[str] = []  # words since the last command
    at = 0

    def write_plain() -> None:
        read = numerals.to_digits(plain) if numbers_as_digits else [(word, 1) for word in plain]
        place = first + at - len(plain)
        for text, n_words in read:
            pieces.append(_Piece(text, place, place + n_words))
            place += n_words
        plain.clear()

    while at < len(tokens):
        if tokens[at].isspace():
            phrase, command = 1, Command(tokens[at], space_before=False, space_after=False)
        else:
            phrase = _phrase_length(tokens, at, commands)
            command = commands[_key(tokens[at : at + phrase])] if phrase else Command()
        if not phrase:
            plain.append(tokens[at])
            at += 1
            continue
        write_plain()
        place = first + at
        at += phrase
        if command.do == LITERAL:
            n_words = min(max(1, _phrase_length(tokens, at, commands)), len(tokens) - at)
            pieces += [_Piece(tokens[at + i], first + at + i, first + at + i + 1) for i in range(n_words)]
            at += n_words
        else:
            pieces.append(_Piece(command.write, place, place + phrase, command))
    write_plain()
    return pieces


def _phrase_length(tokens: Sequence[str], at: int, commands: Commands) -> int:
    """How many words the longest phrase that begins there has; 0 if none does."""
    longest = max(map(len, commands), default=0)
    for length in range(min(longest, len(tokens) - at), 0, -1):
        if _key(tokens[at : at + length]) in commands:
            return length
    return 0


def _key(tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(token.lower() for token in tokens)


def _with_utterance(closed: Sequence[list[_Piece]], pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """The utterances with one more, after what it scratches: itself so far, or else the one before."""
    utterances = list(closed)
    current: list[_Piece] = []
    for piece in pieces:
        if piece.command is None or piece.command.do != SCRATCH:
            current.append(piece)
        elif current:
            current = []
        elif utterances:
            utterances.pop()
    return [*utterances, current] if current else utterances


def _layout(
    utterances: Iterable[Iterable[_Piece]], *, full_sentence: bool
) -> Iterator[tuple[str, str, _Piece]]:
    """(separator, text, piece) of all that is to be written, the separator a blank or nothing."""
    last = ""  # what was written last
    is_joined = True  # no blank before the next piece
    starts_sentence = full_sentence
    owes_stop = False
    case = held_case = ""  # CAP or ALL_CAPS: of the next word; of all words
    for piece in (piece for utterance in utterances for piece in utterance):
        command = piece.command or Command(piece.text)
        if command.do == _END_OF_SENTENCE:
            owes_stop = full_sentence and (last[-1:].isalnum() or last[-1:] in set("\"')]%"))
            continue
        if command.do:
            is_joined = is_joined or command.do == NO_SPACE
            if command.do in {CAP, ALL_CAPS}:
                case = command.do
            elif command.do in {CAPS_ON, CAPS_OFF}:
                held_case = CAP if command.do == CAPS_ON else ""
            continue
        is_mark = not command.space_before and not command.write.isspace()
        if owes_stop and not is_mark:
            yield "", ".", replace(piece, last=piece.first)  # it stands for no word
            last, starts_sentence = ".", True
        owes_stop = False
        separator = "" if is_joined or not command.space_before else " "
        text = command.write
        if piece.command is None:
            text = _cased(text, case or held_case or (CAP if starts_sentence else ""))
            case, starts_sentence = "", False
        yield separator, text, piece
        last = text
        is_joined = not command.space_after
        if command.ends_sentence or (full_sentence and text.isspace()):
            starts_sentence = True
    if owes_stop:
        yield "", ".", _Piece(".", 0, 0)


def _cased(word: str, case: str) -> str:
    if case == ALL_CAPS:
        return word.upper()
    if case == CAP or word == "i" or word.startswith("i'"):
        return word[:1].upper() + word[1:]
    return word
