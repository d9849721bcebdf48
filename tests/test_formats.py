"""Every format says the same words, in the shape that its readers expect."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from asr.formats import FORMATS, LINE_CHARACTERS, Channels, coloured, render, render_segment
from asr.transcript import Alternative, Segment, Transcript, Word


def segment_of(*words: tuple[str, float, float], channel: int | None = None) -> Segment:
    spoken = tuple(Word(text, start, end, 0.9) for text, start, end in words)
    return Segment(spoken[0].start, spoken[-1].end, spoken, channel)


def steady_segment(texts: list[str], seconds: float = 0.3, start: float = 0.0) -> Segment:
    """The texts one after the other, each as long as `seconds`, without pauses."""
    times = [start + index * seconds for index in range(len(texts))]
    return segment_of(*((text, at, at + seconds) for text, at in zip(texts, times, strict=True)))


def transcript_of(*segments: Segment) -> Transcript:
    return Transcript(segments, duration=max((segment.end for segment in segments), default=0.0))


GREETING = transcript_of(
    segment_of(("good", 0.5, 0.74), ("morning", 0.8, 1.3)),
    segment_of(("everyone", 3661.0, 3661.5004)),
)
EMPTY = Transcript((), 2.0)


def rendered(transcript: Transcript, format: str, **options) -> str:
    return render(transcript, format, file="talks/my talk.wav", model="english", **options)


def cues_of(srt: str) -> list[tuple[float, float, list[str]]]:
    def seconds(clock: str) -> float:
        hours, minutes, rest = clock.replace(",", ".").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    cues = []
    for block in srt.strip().split("\n\n"):
        _, times, *lines = block.split("\n")
        start, end = times.split(" --> ")
        cues.append((seconds(start), seconds(end), lines))
    return cues


def words_of(cues: list[tuple[float, float, list[str]]]) -> list[str]:
    return " ".join(line for _, _, lines in cues for line in lines).split()


def test_text_has_a_line_for_every_segment():
    assert rendered(GREETING, "txt") == "good morning\neveryone\n"


def test_text_names_the_channel_when_channels_were_transcribed_apart():
    transcript = transcript_of(
        segment_of(("hello", 0, 1), channel=1), segment_of(("hi", 1, 2), channel=2)
    )

    assert rendered(transcript, "txt") == "[channel 1] hello\n[channel 2] hi\n"


def test_json_has_the_shape_of_whisper_and_the_file_duration_and_model():
    assert json.loads(rendered(GREETING, "json")) == {
        "text": "good morning everyone",
        "segments": [
            {"id": 0, "start": 0.5, "end": 1.3, "text": "good morning"},
            {"id": 1, "start": 3661.0, "end": 3661.5, "text": "everyone"},
        ],
        "file": "talks/my talk.wav",
        "duration": 3661.5,
        "model": "english",
    }


def test_json_lists_words_when_word_timestamps_are_asked_for():
    document = json.loads(rendered(GREETING, "json", word_timestamps=True))

    assert document["segments"][0]["words"] == [
        {"word": "good", "start": 0.5, "end": 0.74, "probability": 0.9},
        {"word": "morning", "start": 0.8, "end": 1.3, "probability": 0.9},
    ]


def test_json_carries_the_channel():
    transcript = transcript_of(segment_of(("hi", 0, 1), channel=2))

    assert json.loads(rendered(transcript, "json"))["segments"][0]["channel"] == 2


@pytest.mark.parametrize("word_timestamps", [False, True])
def test_jsonl_is_the_same_object_on_one_line(word_timestamps):
    line = rendered(GREETING, "jsonl", word_timestamps=word_timestamps)

    assert line.count("\n") == 1 and line.endswith("\n")
    whole = rendered(GREETING, "json", word_timestamps=word_timestamps)
    assert json.loads(line) == json.loads(whole)


def test_json_of_a_file_name_that_is_not_unicode_can_be_written():
    document = render(GREETING, "json", file="caf\udce9.wav", model="english")

    assert json.loads(document.encode("utf-8"))["file"].startswith("caf")


def test_srt_numbers_cues_from_one_with_hours_and_commas():
    assert rendered(GREETING, "srt") == (
        "1\n00:00:00,500 --> 00:00:01,300\ngood morning\n"
        "\n"
        "2\n01:01:01,000 --> 01:01:01,500\neveryone\n"
    )


def test_vtt_leaves_hours_out_until_they_are_needed():
    assert rendered(GREETING, "vtt") == (
        "WEBVTT\n"
        "\n"
        "00:00.500 --> 00:01.300\ngood morning\n"
        "\n"
        "01:01:01.000 --> 01:01:01.500\neveryone\n"
    )


def test_vtt_escapes_what_would_be_markup():
    transcript = transcript_of(segment_of(("at&t", 0, 1), ("<b>", 1, 2)))

    assert "at&amp;t &lt;b&gt;" in rendered(transcript, "vtt")


def test_tsv_has_a_header_and_whole_milliseconds():
    assert rendered(GREETING, "tsv") == (
        "start\tend\ttext\n500\t1300\tgood morning\n3661000\t3661500\teveryone\n"
    )


def test_ctm_has_file_channel_start_duration_word_confidence():
    assert rendered(GREETING, "ctm").splitlines()[0] == "my_talk 1 0.500 0.240 good 0.9000"


def test_ctm_is_ordered_by_channel_then_time():
    transcript = transcript_of(
        segment_of(("two", 0, 1), channel=2),
        segment_of(("one", 1, 2), channel=1),
        segment_of(("first", 0.5, 1), channel=1),
    )

    columns = [line.split() for line in rendered(transcript, "ctm").splitlines()]
    assert [(row[1], row[4]) for row in columns] == [("1", "first"), ("1", "one"), ("2", "two")]


@pytest.mark.parametrize(
    ("format", "document"),
    [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n"), ("tsv", "start\tend\ttext\n"), ("ctm", "")],
)
@pytest.mark.parametrize("transcript", [EMPTY, Transcript((Segment(0.0, 1.0, ()),), 2.0)])
def test_nothing_said_is_a_valid_document_without_words(transcript, format, document):
    assert rendered(transcript, format) == document


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_nothing_said_is_an_object_without_segments(format):
    document = json.loads(rendered(EMPTY, format))

    assert (document["text"], document["segments"], document["duration"]) == ("", [], 2.0)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_ends_its_last_line(format):
    assert rendered(GREETING, format).endswith("\n")


def test_cues_have_two_lines_of_42_characters_at_most_and_keep_every_word():
    texts = [f"{'word' * (1 + index % 3)}{index}" for index in range(200)]

    cues = cues_of(rendered(transcript_of(steady_segment(texts, seconds=0.05)), "srt"))

    assert words_of(cues) == texts
    assert all(len(lines) <= 2 for _, _, lines in cues)
    assert max(len(line) for _, _, lines in cues for line in lines) <= 42
    assert min(sum(map(len, lines)) for _, _, lines in cues) > 42, "a cue is nearly empty"


def test_cues_take_seven_seconds_at_most():
    texts = [f"slow{index}" for index in range(30)]

    cues = cues_of(rendered(transcript_of(steady_segment(texts, seconds=1.5)), "srt"))

    assert words_of(cues) == texts
    assert max(end - start for start, end, _ in cues) <= 7.0


def test_a_cue_has_the_times_of_its_own_words():
    cues = cues_of(rendered(transcript_of(steady_segment(["slow"] * 10, seconds=1.5)), "srt"))

    heard = 0
    for start, end, lines in cues:
        n_words = len(" ".join(lines).split())
        assert (start, end) == (heard * 1.5, (heard + n_words) * 1.5)
        heard += n_words


def test_a_long_segment_is_cut_where_the_speaker_pauses():
    early = [(f"early{index}", index * 0.3, index * 0.3 + 0.3) for index in range(9)]
    late = [(f"late{index}", 3.2 + index * 0.3, 3.5 + index * 0.3) for index in range(5)]
    transcript = transcript_of(segment_of(*early, *late))

    cues = cues_of(rendered(transcript, "srt"))

    assert [lines[0].split()[0] for _, _, lines in cues] == ["early0", "late0"]


def test_two_lines_are_of_even_length():
    texts = ["a", "sentence", "that", "is", "just", "somewhat", "longer", "than", "one", "line"]

    (_, _, lines), *others = cues_of(rendered(transcript_of(steady_segment(texts)), "srt"))

    assert not others
    assert lines == ["a sentence that is just", "somewhat longer than one line"]


def test_a_word_longer_than_two_lines_is_cut_and_keeps_its_letters():
    transcript = transcript_of(segment_of(("x" * 130, 0.0, 2.6), ("end", 2.6, 3.0)))

    cues = cues_of(rendered(transcript, "srt"))

    assert "".join(words_of(cues)) == "x" * 130 + "end"
    assert max(len(line) for _, _, lines in cues for line in lines) <= 42


def test_a_word_that_lasts_longer_than_seven_seconds_is_shown_for_seven():
    cues = cues_of(rendered(transcript_of(segment_of(("ah", 1.0, 30.0))), "srt"))

    assert cues == [(1.0, 8.0, ["ah"])]


def test_a_cue_ends_after_it_starts():
    vtt = rendered(transcript_of(segment_of(("a", 1.0, 1.0))), "vtt")

    assert "00:01.000 --> 00:01.001" in vtt


def test_formats_need_neither_torch_nor_numpy():
    code = "import sys, asr.formats; print({'torch', 'numpy'} & set(sys.modules))"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert result.stdout == "set()\n"


def test_a_textgrid_tiles_the_time_and_doubles_quotes():
    spoken = segment_of(('say "hi"', 0.5, 0.75), ("now", 0.75, 1.0))
    grid = rendered(Transcript((spoken,), 2.0), "textgrid")
    head, _, tier = grid.partition("item []:\n")
    assert head.splitlines()[:2] == ['File type = "ooTextFile"', 'Object class = "TextGrid"']
    values = [line.partition(" = ")[2] for line in tier.splitlines() if line.startswith(" " * 12)]
    assert [tuple(values[i : i + 3]) for i in range(0, len(values), 3)] == [
        ("0.000", "0.500", '""'),
        ("0.500", "0.750", '"say ""hi"""'),
        ("0.750", "1.000", '"now"'),
        ("1.000", "2.000", '""'),
    ]
    assert "size = 1\n" in head and "intervals: size = 4" in tier


def test_a_textgrid_has_no_gaps_that_nobody_could_hear():
    words = [("one", 0.03, 0.41), ("two", 0.42, 0.75), ("three", 0.80, 1.0), ("four", 1.06, 1.96)]
    grid = rendered(Transcript((segment_of(*words),), 2.0), "textgrid")
    values = [line.partition(" = ")[2] for line in grid.splitlines() if line.startswith(" " * 12)]
    assert [tuple(values[i : i + 3]) for i in range(0, len(values), 3)] == [
        ("0.000", "0.420", '"one"'),
        ("0.420", "0.800", '"two"'),
        ("0.800", "1.000", '"three"'),
        ("1.000", "1.060", '""'),
        ("1.060", "2.000", '"four"'),
    ]


def test_letters_are_a_tier_rows_and_fields_where_words_have_them():
    word = Word("hi", 0.0, 0.4, 0.9, (Word("h", 0.0, 0.1, 0.8), Word("i", 0.1, 0.4, 0.7)))
    transcript = Transcript((Segment.of((word,)).shifted(1.0),), 2.0)
    assert 'name = "characters"' in rendered(transcript, "textgrid")
    assert [line.split()[2:5] for line in rendered(transcript, "ctm").splitlines()] == [
        ["1.000", "0.100", "h"],
        ["1.100", "0.300", "i"],
    ]
    (segment,) = json.loads(rendered(transcript, "json", word_timestamps=True))["segments"]
    assert [c["character"] for c in segment["words"][0]["characters"]] == ["h", "i"]


def test_json_lists_what_a_text_has_and_the_recording_lacks():
    lost = Segment.of((Word("well", 0.74, 0.8, 0.0),))
    document = render(GREETING, "json", file="x", model="m", missing=(lost,))
    assert json.loads(document)["missing"] == [{"start": 0.74, "end": 0.8, "text": "well"}]


def test_doubtful_words_are_coloured() -> None:
    words = tuple(Word(text, 0, 1, p) for text, p in [("sure", 0.7), ("perhaps", 0.69), ("hardly", 0.39)])
    painted = coloured(Transcript((Segment(0, 1, words),), 1.0))
    assert render(painted, "txt", file="a", model="m") == (
        "sure \x1b[33mperhaps\x1b[0m \x1b[31mhardly\x1b[0m\n"
    )


def test_json_lists_the_alternatives_there_are() -> None:
    others = (Alternative("two cats", -1.0), Alternative("to cats", -2.5))
    segment = Segment(0, 1, (Word("two", 0, 0.5, 0.9), Word("cats", 0.5, 1, 0.9)), alternatives=others)
    fields = json.loads(render(Transcript((segment,), 1.0), "jsonl", file="a", model="m"))["segments"][0]
    assert fields["alternatives"] == [{"text": "two cats", "score": -1.0}, {"text": "to cats", "score": -2.5}]


TWO_SPEAKERS = Transcript(
    (
        segment_of(("good", 0.0, 0.5), ("morning", 4.0, 4.5), channel=1),
        segment_of(("hello", 0.2, 0.6), ("there", 0.6, 1.0), channel=2),
    ),
    6.0,
)
NAMED = Channels(("Ann", "Bob <b>"), 2)


def tiers_of(textgrid: str) -> dict[str, list[str]]:
    """The texts of each tier, without the empty ones."""
    tiers = {}
    for tier in textgrid.split('class = "IntervalTier"')[1:]:
        name = re.search('name = "(.*)"', tier)
        assert name is not None
        tiers[name[1]] = [text for text in re.findall('text = "(.*)"', tier) if text]
    return tiers


def test_a_textgrid_has_a_tier_for_every_channel_and_loses_no_word():
    words = [["good", "morning"], ["hello", "there"]]

    assert list(tiers_of(rendered(TWO_SPEAKERS, "textgrid")).values()) == words
    assert tiers_of(rendered(TWO_SPEAKERS, "textgrid", channels=NAMED)) == {
        "Ann": words[0],
        "Bob <b>": words[1],
    }
    assert tiers_of(rendered(EMPTY, "textgrid", channels=Channels((), 2))) == {
        "channel 1": [],
        "channel 2": [],
    }


def test_channels_with_misleading_names_keep_tiers_of_their_own():
    grid = rendered(TWO_SPEAKERS, "textgrid", channels=Channels(("channel 2",), 2))
    assert [grid.count(f'"{word}"') for word in ("good", "morning", "hello", "there")] == [1, 1, 1, 1]


def test_cues_of_several_channels_are_in_order_of_time_and_name_their_channel():
    long_pause = Transcript(
        (
            segment_of(*((f"word{i}", 5.0 * i, 5.0 * i + 1) for i in range(4)), channel=1),
            segment_of(("yes", 6.0, 6.5), channel=2),
        ),
        20.0,
    )
    cues = cues_of(rendered(long_pause, "srt", channels=NAMED))
    starts = [start for start, _, _ in cues]
    assert starts == sorted(starts)
    assert [lines for _, _, lines in cues if "yes" in lines[-1]] == [["[Bob <b>] yes"]]
    assert sum(lines[0].startswith("[Ann]") for _, _, lines in cues) == len(cues) - 1
    assert "00:06.000 --> 00:06.500\n<v Bob &lt;b&gt;>yes\n" in rendered(long_pause, "vtt", channels=NAMED)
    assert "\n[channel 2] yes\n" in rendered(long_pause, "srt")


@pytest.mark.parametrize("name", ["A", "A name of forty characters, not one more"])
def test_lines_stay_short_with_the_name_of_a_channel(name):
    texts = ["characteristically", "a", "b" * LINE_CHARACTERS, "c" * 90, "word", "another"] * 3
    spoken = replace(steady_segment(texts), channel=1)
    for _, _, lines in cues_of(rendered(Transcript((spoken,), 9.0), "srt", channels=Channels((name,)))):
        assert len(lines) <= 2 and max(map(len, lines)) <= LINE_CHARACTERS
        assert lines[0].startswith(f"[{name}]")


def test_a_channel_has_its_name_in_tables_too():
    assert rendered(TWO_SPEAKERS, "tsv", channels=NAMED) == (
        "start\tend\ttext\tchannel\n0\t4500\tgood morning\tAnn\n200\t1000\thello there\tBob <b>\n"
    )
    ctm = rendered(TWO_SPEAKERS, "ctm", channels=NAMED).splitlines()
    assert [line.split(" ")[1] for line in ctm] == ["Ann", "Ann", "Bob_<b>", "Bob_<b>"]
    assert rendered(TWO_SPEAKERS, "ctm").splitlines()[2].split(" ")[1] == "2"
    assert rendered(TWO_SPEAKERS, "txt", channels=NAMED) == "[Ann] good morning\n[Bob <b>] hello there\n"
    segments = json.loads(rendered(TWO_SPEAKERS, "json", channels=NAMED))["segments"]
    assert [(s["channel"], s["channel_name"]) for s in segments] == [(1, "Ann"), (2, "Bob <b>")]


def test_json_says_when_not_all_was_heard():
    assert json.loads(rendered(GREETING, "json", is_complete=False))["incomplete"] is True
    assert "incomplete" not in json.loads(rendered(GREETING, "json"))


def test_segments_can_be_written_one_by_one():
    first = GREETING.segments[0]
    assert render_segment(first, 0, "txt", file="a.wav") == "good morning\n"
    line = json.loads(render_segment(first, 3, "jsonl", file="a.wav", word_timestamps=True))
    assert (line["file"], line["id"], line["text"], len(line["words"])) == ("a.wav", 3, "good morning", 2)
