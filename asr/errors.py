"""What can go wrong through no fault of the program, and the exit statuses that say so.

Every error that a user can cause is an AsrError whose message is one line: what, where, what to do.
"""

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


class BenchmarkError(AsrError):
    """A program that was to be measured failed; the message is its own."""


class OutputError(AsrError):
    """A result could not be written: missing folder, no permission, disk full."""


class ExitStatus(IntEnum):
    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
