"""asr: offline English speech recognition with deep LSTM networks trained with CTC.

A file goes through these rooms, in this order:

    audio          files, standard input, video sound tracks -> 16 kHz mono blocks
    segment        cut points at pauses in long recordings
    features       torchaudio log-mel frames, whole or as samples arrive
    model          deep LSTM -> log-probabilities of characters and phones
    decoding       log-probabilities -> labels; kernel.c has what the search computes for every frame
    align          where each word sits and how sure we are
    transcript     Word, Segment, Transcript
    formats        Transcript -> txt, json, jsonl, srt, vtt, tsv, ctm, textgrid

A microphone goes another way, with the same features, model, labels and transcripts:

    microphone     live sound -> 16 kHz mono blocks
    vad            whether there is speech in it
    streaming      blocks -> partial and final transcripts, with all state of the recording

Dictation follows on from there:

    spoken         recognised words -> written text: commands, capitals; numerals makes digits
    dictation      one dictation from begin to end; control takes requests from other processes
    keyboard       changes of the text -> key strokes in the focused window

checkpoint keeps a model in one file, metadata says what it is, export makes an ONNX graph of it; engine
runs either, by torch_engine or onnx_engine; recognizer joins all of this; labels and text turn words
into label ids. training/ makes models from manifests, which preparation makes and validation checks;
evaluation counts the models' errors, simulation measures how a stream would do live, benchmark what
time and memory the work takes. lm makes language models; pronouncer gives phones to words that no
lexicon has; alignment finds a given text in a recording, by the words that matching finds in both.
commands/ has one file a verb, arguments the values of its options, and cli the command tree; config
reads TOML into the dataclass beside each room; paths knows the user's folders, interruption Ctrl-C,
extras what only some installations have, and diagnosis looks at all of it.

    >>> from asr import DecoderOptions, HotWord, Recognizer
    >>> Recognizer.load().transcribe("talk.mp3").text
    >>> Recognizer.load(decoding=DecoderOptions(hot_words=(HotWord("anneke", 5.0),)))
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.decoding.decoder import DecoderOptions as DecoderOptions
    from asr.decoding.hotwords import HotWord as HotWord
    from asr.errors import AsrError as AsrError
    from asr.recognizer import Recognizer as Recognizer
    from asr.streaming import Stream as Stream
    from asr.transcript import Final as Final
    from asr.transcript import Partial as Partial
    from asr.transcript import Segment as Segment
    from asr.transcript import Transcript as Transcript
    from asr.transcript import Word as Word

__version__ = "0.1.0"
__all__ = [
    *("AsrError", "DecoderOptions", "Final", "HotWord", "Partial", "Recognizer", "Segment", "Stream"),
    *("Transcript", "Word"),
]

# OpenMP reads these when torch is imported. Threads that spin while they wait make an LSTM up to ten
# times slower as soon as another process wants one of the cores; threads that sleep cost little.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

_HOMES = {
    "AsrError": "asr.errors",
    "DecoderOptions": "asr.decoding.decoder",
    "Final": "asr.transcript",
    "HotWord": "asr.decoding.hotwords",
    "Partial": "asr.transcript",
    "Recognizer": "asr.recognizer",
    "Segment": "asr.transcript",
    "Stream": "asr.streaming",
    "Transcript": "asr.transcript",
    "Word": "asr.transcript",
}


def __getattr__(name: str) -> Any:
    """Public names, imported when first used: `import asr` stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'asr' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
