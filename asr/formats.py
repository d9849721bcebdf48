"""Transcript -> the text of a document: txt, json, jsonl, srt, vtt, tsv, ctm, textgrid (no torch)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import NamedTuple

from asr.errors import shown
from asr.transcript import Segment, Transcript, Word

LINE_CHARACTERS = 42
LABEL_CHARACTERS = LINE_CHARACTERS - 2  # of a channel's name, which brackets enclose
CUE_LINES = 2
CUE_SECONDS = 7.0
_SLIVER_MILLISECONDS = 50


@dataclass(frozen=True)
class Channels:
    """Channels that were transcribed apart. names: of the first ones; n: how many there are, if known."""

    names: Sequence[str] = ()
    n: int = 0

    def name(self, channel: int) -> str:
        """What a channel, counted from 1, is called."""
        return self.names[channel - 1] if channel <= len(self.names) else f"channel {channel}"

    def label(self, segment: Segment) -> str:
        """What tells a reader whose words these are; empty if there is but one channel."""
        return "" if segment.channel is None else f"[{self.name(segment.channel)}]"


def render(
    transcript: Transcript,
    format: str,
    *,
    file: str,
    model: str,
    word_timestamps: bool = False,
    missing: Sequence[Segment] | None = None,
    channels: Channels = Channels(),
    is_complete: bool = True,
) -> str:
    """The document in one of FORMATS; it is empty or ends with a newline.

    file: what the recording is called, for the formats that say so.
    word_timestamps: JSON lists the words of every segment; the other formats do not change.
    missing: passages of a given text that were not said; JSON lists them.
    channels: how those that were transcribed apart are called.
    is_complete: whether the whole recording was heard; JSON says if it was not.
    """
    if format in {"json", "jsonl"}:
        fields = _fields(transcript, file, model, word_timestamps, channels)
        if missing is not None:
            fields["missing"] = [_passage(passage) for passage in missing]
        if not is_complete:
            fields["incomplete"] = True
        return json.dumps(fields, indent=2 if format == "json" else None) + "\n"
    if format == "ctm":
        return _ctm(transcript, file, channels)
    return _PLAIN[format](transcript, channels)


def render_segment(
    segment: Segment, number: int, format: str, *, file: str, word_timestamps: bool = False
) -> str:
    """A line for one segment while its recording goes on, in one of FOLLOWED. number: counted from 0."""
    if not segment.words:
        return ""
    if format == "txt":
        return f"{segment.text}\n"
    return json.dumps({"file": file, **_segment(segment, number, word_timestamps, Channels())}) + "\n"


def coloured(transcript: Transcript) -> Transcript:
    """The transcript with doubtful words in colour, by ANSI codes: yellow below 0.7, red below 0.4."""

    def paint(word: Word) -> Word:
        colour = "31" if word.probability < 0.4 else "33" if word.probability < 0.7 else ""
        return replace(word, text=f"\x1b[{colour}m{word.text}\x1b[0m") if colour else word

    segments = (replace(s, words=tuple(map(paint, s.words))) for s in transcript.segments)
    return replace(transcript, segments=tuple(segments))


def _spoken(transcript: Transcript) -> list[Segment]:
    return [segment for segment in transcript.segments if segment.words]


def _fields(
    transcript: Transcript, file: str, model: str, word_timestamps: bool, channels: Channels
) -> dict[str, object]:
    """whisper's keys, and what it does not say: file, duration, model, the channel if any."""
    return {
        "text": transcript.text,
        "segments": [
            _segment(segment, number, word_timestamps, channels)
            for number, segment in enumerate(_spoken(transcript))
        ],
        "file": file,
        "duration": round(transcript.duration, 3),
        "model": model,
    }


def _segment(segment: Segment, number: int, word_timestamps: bool, channels: Channels) -> dict[str, object]:
    fields: dict[str, object] = {"id": number, **_passage(segment)}
    if segment.channel is not None:
        fields["channel"] = segment.channel
        if channels.names:
            fields["channel_name"] = channels.name(segment.channel)
    if segment.alternatives:
        fields["alternatives"] = [
            {"text": other.text, "score": round(other.score, 3)} for other in segment.alternatives
        ]
    if word_timestamps:
        fields["words"] = [_word(word, "word") for word in segment.words]
    return fields


def _passage(segment: Segment) -> dict[str, object]:
    return {"start": round(segment.start, 3), "end": round(segment.end, 3), "text": segment.text}


def _word(word: Word, name: str) -> dict[str, object]:
    fields: dict[str, object] = {
        name: word.text,
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "probability": round(word.probability, 4),
    }
    if word.characters:
        fields["characters"] = [_word(character, "character") for character in word.characters]
    return fields


def _txt(transcript: Transcript, channels: Channels) -> str:
    return "".join(
        f"{channels.label(segment)} {segment.text}\n".lstrip(" ") for segment in _spoken(transcript)
    )


def _tsv(transcript: Transcript, channels: Channels) -> str:
    """whisper's columns, and the channel's name if the channels are apart."""
    segments = _spoken(transcript)
    apart = any(segment.channel is not None for segment in segments)
    rows = ["start\tend\ttext\tchannel\n" if apart else "start\tend\ttext\n"]
    for segment in segments:
        text = segment.text.replace("\t", " ")
        name = "" if segment.channel is None else f"\t{channels.name(segment.channel)}"
        rows.append(f"{_milliseconds(segment.start)}\t{_milliseconds(segment.end)}\t{text}{name}\n")
    return "".join(rows)


def _ctm(transcript: Transcript, file: str, channels: Channels) -> str:
    """NIST's columns, a line a word, or a character where words have them.

    Scoring tools split at blanks, so the recording's name, the channels' and the words have none.
    """
    recording = "_".join(shown(PurePath(file).stem).split()) or "-"
    words = [
        (segment.channel or 1, part)
        for segment in _spoken(transcript)
        for word in segment.words
        for part in word.characters or (word,)
    ]
    words.sort(key=lambda entry: (entry[0], entry[1].start))

    def column(channel: int) -> str:
        return "_".join(channels.name(channel).split()) if channel <= len(channels.names) else str(channel)

    return "".join(
        f"{recording} {column(channel)} {word.start:.3f} {word.end - word.start:.3f}"
        f" {'_'.join(word.text.split())} {word.probability:.4f}\n"
        for channel, word in words
    )


def _srt(transcript: Transcript, channels: Channels) -> str:
    cues = []
    for number, cue in enumerate(_cues(transcript, channels.label), start=1):
        times = f"{_clock(cue.start, ',', hours=True)} --> {_clock(cue.end, ',', hours=True)}"
        cues.append(f"{number}\n{times}\n" + "\n".join(cue.lines) + "\n")
    return "\n".join(cues)


def _vtt(transcript: Transcript, channels: Channels) -> str:
    """WebVTT; a voice tag tells the channel, which players show as they like."""
    blocks = ["WEBVTT\n"]
    for cue in _cues(transcript):
        voice = "" if cue.channel is None else f"<v {_vtt_text(channels.name(cue.channel))}>"
        text = _vtt_text("\n".join(cue.lines))
        blocks.append(f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{voice}{text}\n")
    return "\n".join(blocks)


def _vtt_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _textgrid(transcript: Transcript, channels: Channels) -> str:
    """Praat's long form: for each channel a tier of words, and one of characters where words have them."""
    tiers: list[tuple[str, list[Word]]] = []
    apart = {segment.channel for segment in transcript.segments if segment.channel is not None}
    for channel in range(1, max([channels.n, *apart]) + 1) if apart or channels.n else [None]:
        words = [word for s in transcript.segments if s.channel == channel for word in s.words]
        name = "" if channel is None else channels.name(channel)
        tiers.append((name or "words", words))
        if characters := [part for word in words for part in word.characters]:
            tiers.append((f"{name} characters".lstrip(), characters))
    end = max([transcript.duration, *(word.end for word in transcript.words)])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {end:.3f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, words) in enumerate(tiers, start=1):
        intervals = _tiling(words, f"{end:.3f}")
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{_praat_text(name)}"', "        xmin = 0", f"        xmax = {end:.3f}"]
        lines.append(f"        intervals: size = {len(intervals)}")
        for index, (start, stop, text) in enumerate(intervals, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {start}"]
            lines += [f"            xmax = {stop}", f'            text = "{_praat_text(text)}"']
    return "\n".join(lines) + "\n"


def _praat_text(text: str) -> str:
    return text.replace('"', '""')


def _tiling(words: Sequence[Word], end: str) -> list[tuple[str, str, str]]:
    """(start, end, text) of intervals without gaps, as Praat wants them; those between words are empty.

    Where less than a pause is between words, the one before lasts until the next: nobody could hear the gap.
    """
    intervals: list[tuple[str, str, str]] = []
    last = "0.000"
    for word in words:
        start, stop = f"{word.start:.3f}", f"{word.end:.3f}"
        if _is_sliver(last, start):
            if intervals:
                intervals[-1] = (intervals[-1][0], start, intervals[-1][2])
                last = start
            else:
                start = last
        if float(start) > float(last):
            intervals.append((last, start, ""))
        if float(stop) > max(float(start), float(last)):
            intervals.append((max(start, last, key=float), stop, word.text))
            last = stop
    if intervals and _is_sliver(last, end):
        intervals[-1] = (intervals[-1][0], end, intervals[-1][2])
    elif float(end) > float(last):
        intervals.append((last, end, ""))
    return intervals


def _is_sliver(start: str, end: str) -> bool:
    """Whether seconds, as they are written, are too close together for a pause: up to 50 ms."""
    return 0 < round(1000 * (float(end) - float(start))) <= _SLIVER_MILLISECONDS


_PLAIN: dict[str, Callable[[Transcript, Channels], str]] = {
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
    "textgrid": _textgrid,
}

FORMATS: tuple[str, ...] = ("txt", "json", "jsonl", "srt", "vtt", "tsv", "ctm", "textgrid")
FOLLOWED: tuple[str, ...] = ("txt", "jsonl")  # can be written segment by segment
SEVERAL: frozenset[str] = frozenset({"txt", "json", "jsonl", "ctm"})  # documents may follow one another


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _clock(milliseconds: int, decimal: str, *, hours: bool = False) -> str:
    """HH:MM:SS.mmm; the hours are left out while they are zero, unless asked for."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    whole_hours, minutes = divmod(minutes, 60)
    prefix = f"{whole_hours:02d}:" if hours or whole_hours else ""
    return f"{prefix}{minutes:02d}:{seconds:02d}{decimal}{thousandths:03d}"


class _Cue(NamedTuple):
    """A subtitle; start, end: milliseconds."""

    start: int
    end: int
    lines: list[str]
    channel: int | None


def _cues(transcript: Transcript, label: Callable[[Segment], str] = lambda segment: "") -> list[_Cue]:
    """Every subtitle in order of time, with the segment's label before its text."""
    cues = []
    for segment in _spoken(transcript):
        for words in _split(_short_words(segment.words), label(segment)):
            lines = _wrap(words, label(segment))
            assert lines is not None, "_split only gives words that fit"
            start = _milliseconds(words[0].start)
            end = min(_milliseconds(words[-1].end), start + _milliseconds(CUE_SECONDS))
            end = max(end, start + 1)  # WebVTT: an end must follow its start
            cues.append(_Cue(start, end, lines, segment.channel))
    return sorted(cues, key=lambda cue: cue.start)


def _short_words(words: Sequence[Word]) -> list[Word]:
    """The words, those longer than a line cut into pieces that share the word's time."""
    pieces = []
    for word in words:
        n_pieces = math.ceil(len(word.text) / LINE_CHARACTERS)
        if n_pieces <= 1:
            pieces.append(word)
            continue
        seconds = (word.end - word.start) / n_pieces
        for index in range(n_pieces):
            text = word.text[index * LINE_CHARACTERS : (index + 1) * LINE_CHARACTERS]
            start = word.start + index * seconds
            pieces.append(replace(word, text=text, start=start, end=start + seconds))
    return pieces


def _wrap(words: Sequence[Word], label: str) -> list[str] | None:
    """The label and words on one line, or on two of the most even length; None when they do not fit."""
    texts = [*([label] if label else []), *(word.text for word in words)]
    whole = " ".join(texts)
    if len(whole) <= LINE_CHARACTERS:
        return [whole]
    if len(whole) > CUE_LINES * LINE_CHARACTERS + CUE_LINES - 1:
        return None
    pairs = [[" ".join(texts[:cut]), " ".join(texts[cut:])] for cut in range(1, len(texts))]
    fitting = [pair for pair in pairs if max(map(len, pair)) <= LINE_CHARACTERS]
    return min(fitting, key=lambda pair: max(map(len, pair)), default=None)


def _split(words: Sequence[Word], label: str) -> list[Sequence[Word]]:
    """The words of one segment as cues: few, evenly filled, and broken where the speaker paused.

    The cheapest split is found by dynamic programming over the places where a cue can end.
    """
    costs = [0.0]  # costs[n]: of the cheapest cues for the first n words
    starts = [0]  # starts[n]: where the last of these cues begins
    for end in range(1, len(words) + 1):
        best_cost, best_start = math.inf, end - 1
        for start in range(end - 1, -1, -1):
            cue = words[start:end]
            too_long = cue[-1].end - cue[0].start > CUE_SECONDS
            # A lone word fits whatever its times say: its cue is shown for CUE_SECONDS at most.
            if len(cue) > 1 and (too_long or _wrap(cue, label) is None):
                break
            n_characters = sum(len(word.text) + 1 for word in cue) - 1
            emptiness = max(0.0, 1.0 - n_characters / (CUE_LINES * LINE_CHARACTERS))
            pause = 0.0 if start == 0 else words[start].start - words[start - 1].end
            cost = costs[start] + 1.0 + emptiness**2 - min(max(pause, 0.0), 0.5)
            if cost < best_cost:
                best_cost, best_start = cost, start
        costs.append(best_cost)
        starts.append(best_start)
    cues: list[Sequence[Word]] = []
    end = len(words)
    while end > 0:
        cues.append(words[starts[end] : end])
        end = starts[end]
    return cues[::-1]
