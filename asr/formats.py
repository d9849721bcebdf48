"""Transcript -> the text of a document: txt, json, jsonl, srt, vtt, tsv, ctm, textgrid (no torch)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePath

from asr.transcript import Segment, Transcript, Word

LINE_CHARACTERS = 42
CUE_LINES = 2
CUE_SECONDS = 7.0
_SLIVER_MILLISECONDS = 50


def render(
    transcript: Transcript,
    format: str,
    *,
    file: str,
    model: str,
    word_timestamps: bool = False,
    missing: Sequence[Segment] | None = None,
) -> str:
    """The document in one of FORMATS; it is empty or ends with a newline.

    file: what the recording is called, for the formats that say so.
    word_timestamps: JSON lists the words of every segment; the other formats do not change.
    missing: passages of a given text that were not said; JSON lists them.
    """
    if format in {"json", "jsonl"}:
        fields = _fields(transcript, file, model, word_timestamps)
        if missing is not None:
            fields["missing"] = [_passage(passage) for passage in missing]
        return json.dumps(fields, indent=2 if format == "json" else None) + "\n"
    if format == "ctm":
        return _ctm(transcript, file)
    return _PLAIN[format](transcript)


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
    transcript: Transcript, file: str, model: str, word_timestamps: bool
) -> dict[str, object]:
    """whisper's keys, and what it does not say: file, duration, model, the channel if any."""
    segments = []
    for index, segment in enumerate(_spoken(transcript)):
        fields: dict[str, object] = {"id": index, **_passage(segment)}
        if segment.channel is not None:
            fields["channel"] = segment.channel
        if segment.alternatives:
            fields["alternatives"] = [
                {"text": other.text, "score": round(other.score, 3)} for other in segment.alternatives
            ]
        if word_timestamps:
            fields["words"] = [_word(word, "word") for word in segment.words]
        segments.append(fields)
    return {
        "text": transcript.text,
        "segments": segments,
        "file": file,
        "duration": round(transcript.duration, 3),
        "model": model,
    }


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


def _txt(transcript: Transcript) -> str:
    lines = []
    for segment in _spoken(transcript):
        label = "" if segment.channel is None else f"[channel {segment.channel}] "
        lines.append(f"{label}{segment.text}\n")
    return "".join(lines)


def _tsv(transcript: Transcript) -> str:
    rows = ["start\tend\ttext\n"]
    for segment in _spoken(transcript):
        text = segment.text.replace("\t", " ")
        rows.append(f"{_milliseconds(segment.start)}\t{_milliseconds(segment.end)}\t{text}\n")
    return "".join(rows)


def _ctm(transcript: Transcript, file: str) -> str:
    """NIST's columns, a line a word, or a character where words have them.

    Scoring tools split at blanks, so the recording's name and the words have none.
    """
    recording = "_".join(PurePath(file).stem.split()) or "-"
    words = [
        (segment.channel or 1, part)
        for segment in _spoken(transcript)
        for word in segment.words
        for part in word.characters or (word,)
    ]
    words.sort(key=lambda entry: (entry[0], entry[1].start))
    return "".join(
        f"{recording} {channel} {word.start:.3f} {word.end - word.start:.3f}"
        f" {'_'.join(word.text.split())} {word.probability:.4f}\n"
        for channel, word in words
    )


def _srt(transcript: Transcript) -> str:
    cues = []
    for number, (start, end, lines) in enumerate(_cues(transcript), start=1):
        times = f"{_clock(start, ',', hours=True)} --> {_clock(end, ',', hours=True)}"
        cues.append(f"{number}\n{times}\n" + "\n".join(lines) + "\n")
    return "\n".join(cues)


def _vtt(transcript: Transcript) -> str:
    blocks = ["WEBVTT\n"]
    for start, end, lines in _cues(transcript):
        text = "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    return "\n".join(blocks)


def _textgrid(transcript: Transcript) -> str:
    """Praat's long form: a tier of words, and one of characters where words have them."""
    tiers = {"words": list(transcript.words)}
    if characters := [part for word in transcript.words for part in word.characters]:
        tiers["characters"] = characters
    end = max([transcript.duration, *(word.end for word in transcript.words)])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {end:.3f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, words) in enumerate(tiers.items(), start=1):
        intervals = _tiling(words, f"{end:.3f}")
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end:.3f}"]
        lines.append(f"        intervals: size = {len(intervals)}")
        for index, (start, stop, text) in enumerate(intervals, start=1):
            quoted = text.replace('"', '""')
            lines += [f"        intervals [{index}]:", f"            xmin = {start}"]
            lines += [f"            xmax = {stop}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


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


_PLAIN: dict[str, Callable[[Transcript], str]] = {
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
    "textgrid": _textgrid,
}

FORMATS: tuple[str, ...] = ("txt", "json", "jsonl", "srt", "vtt", "tsv", "ctm", "textgrid")


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _clock(milliseconds: int, decimal: str, *, hours: bool = False) -> str:
    """HH:MM:SS.mmm; the hours are left out while they are zero, unless asked for."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    whole_hours, minutes = divmod(minutes, 60)
    prefix = f"{whole_hours:02d}:" if hours or whole_hours else ""
    return f"{prefix}{minutes:02d}:{seconds:02d}{decimal}{thousandths:03d}"


def _cues(transcript: Transcript) -> list[tuple[int, int, list[str]]]:
    """(start ms, end ms, lines) of every subtitle, in order of time."""
    cues = []
    for segment in _spoken(transcript):
        for words in _split(_short_words(segment.words)):
            lines = _wrap(words)
            assert lines is not None, "_split only gives words that fit"
            start = _milliseconds(words[0].start)
            end = min(_milliseconds(words[-1].end), start + _milliseconds(CUE_SECONDS))
            cues.append((start, max(end, start + 1), lines))  # WebVTT: an end must follow its start
    return cues


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


def _wrap(words: Sequence[Word]) -> list[str] | None:
    """The words on one line, or on two of the most even length; None when they do not fit."""
    texts = [word.text for word in words]
    whole = " ".join(texts)
    if len(whole) <= LINE_CHARACTERS:
        return [whole]
    if len(whole) > CUE_LINES * LINE_CHARACTERS + CUE_LINES - 1:
        return None
    pairs = [[" ".join(texts[:cut]), " ".join(texts[cut:])] for cut in range(1, len(texts))]
    fitting = [pair for pair in pairs if max(map(len, pair)) <= LINE_CHARACTERS]
    return min(fitting, key=lambda pair: max(map(len, pair)), default=None)


def _split(words: Sequence[Word]) -> list[Sequence[Word]]:
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
            if len(cue) > 1 and (too_long or _wrap(cue) is None):
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
