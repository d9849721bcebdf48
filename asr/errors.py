"""What can go wrong through no fault of the program, and the exit statuses that say so.

Every error that a user can cause is an AsrError whose message is one line: what, where, what to do.
"""

import re
from enum import IntEnum


class AsrError(Exception):
    """Base of all errors that a user can cause; its text is shown as it is, without a traceback."""


class UsageError(AsrError):
    """The command line or a configuration asks for something that does not exist or contradicts itself."""


class MissingExtraError(UsageError):
    """What was asked for needs packages that come with an extra, its attribute, not installed here."""

    def __init__(self, message: str, extra: str) -> None:
        super().__init__(message)
        self.extra = extra


class ConfigError(UsageError):
    """A configuration file has an unknown key, a value of the wrong type, or does not parse."""


class AudioError(AsrError):
    """An audio source is missing, unreadable, damaged, or holds no sound that can be decoded."""


class MicrophoneError(AsrError):
    """There is no microphone, or it cannot be opened."""


class ManifestError(AsrError):
    """A manifest, lexicon or text file is missing or has a line that cannot be used."""


class CheckpointError(AsrError):
    """A model is missing, damaged, foreign, or of a newer format."""


class LanguageModelError(AsrError):
    """A language model is missing, damaged, foreign, or does not fit the acoustic model."""


class GrammarError(UsageError):
    """A grammar is missing, empty, or has a line that cannot be used."""


class AlignmentError(AsrError):
    """A text and a recording do not belong together, or one of them holds nothing to align."""


class TrainingError(AsrError):
    """Training cannot go on: its data or its settings make the loss lose its value."""


class SearchError(AsrError):
    """A segment could not be searched: every process that tried was killed."""


class BenchmarkError(AsrError):
    """A program that was to be measured failed; the message is its own."""


class OutputError(AsrError):
    """A result could not be written: missing folder, no permission, disk full."""


class DiskFullError(OutputError):
    """There is no room for a result, nor for the next ones: a full disk, a quota, a read-only file system."""


class ExitStatus(IntEnum):
    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


# Control characters, line and paragraph separators, marks that reverse the direction, lone surrogates.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: object) -> str:
    """A text from outside, such as a file's name, on one line that no terminal obeys: ESC is \\x1b."""
    return _UNSHOWN.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))
