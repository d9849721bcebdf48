"""From samples to transcripts with the shipped model, and the laws it must keep."""

import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

import asr
from asr import checkpoint, engine, pretrained, recognizer
from asr.audio import read_audio
from asr.decoding.decoder import DecoderOptions
from asr.errors import CheckpointError, LanguageModelError, UsageError
from asr.labels import Labels
from asr.onnx_engine import OnnxEngine
from asr.recognizer import Pending, Recognizer
from asr.searches import Search
from asr.torch_engine import TorchEngine
from asr.transcript import Segment, Word

DATA = Path(__file__).parent / "data"
SPOKEN = {
    "2803-161169-0006.flac": "look a little closer while our guide lets the light of his lamp fall upon the "
    "black wall at your side",
    "1462-170142-0003.flac": "the room was empty when he entered",
}
SECOND = 16_000


@pytest.fixture(scope="module")
def english() -> Recognizer:
    return Recognizer.load("english")


def test_the_language_is_loaded_beside_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=10)  # broken unless two threads meet there
    load_engine, load_language = engine.load, recognizer.find_language

    def meeting(load):
        def loads(*arguments, **options):
            both.wait()
            return load(*arguments, **options)

        return loads

    monkeypatch.setattr(engine, "load", meeting(load_engine))
    monkeypatch.setattr(recognizer, "find_language", meeting(load_language))
    assert Recognizer.load("english").new_decoder.language is not None


def test_the_network_hears_while_the_language_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    has_heard = threading.Event()
    load_language, run = recognizer.find_language, OnnxEngine.log_probs

    def find_language(*arguments):
        assert has_heard.wait(timeout=10)
        return load_language(*arguments)

    def log_probs(*arguments):
        has_heard.set()
        return run(*arguments)

    monkeypatch.setattr(recognizer, "find_language", find_language)
    monkeypatch.setattr(OnnxEngine, "log_probs", log_probs)
    assert Recognizer.load("english").transcribe(DATA / "1462-170142-0003.flac").text


def test_what_the_user_asks_of_the_search_is_checked_when_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match="no such language model"):
        Recognizer.load("english", decoding=DecoderOptions(lm=str(tmp_path / "none.lm")))


def random_noise(seconds: float, level: float) -> np.ndarray:
    samples = np.random.default_rng(1).normal(0, level, int(seconds * SECOND))
    return samples.astype(np.float32)


def test_real_speech_becomes_mostly_the_right_letters(english: Recognizer) -> None:
    heard = " ".join(english.transcribe(DATA / name).text for name in SPOKEN)
    assert jiwer.cer(" ".join(SPOKEN.values()), heard) < 0.6


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.01, 0.1])
def test_silence_and_white_noise_give_empty_text(english: Recognizer, level: float) -> None:
    assert english.transcribe_blocks([random_noise(25, level)]).text == ""


@pytest.mark.parametrize("n_samples", [0, 1, 80, 511, 512, 1_000])
def test_a_blink_of_sound_gives_empty_text(english: Recognizer, n_samples: int) -> None:
    transcript = english.transcribe_blocks([random_noise(1, 0.1)[:n_samples]])
    assert transcript.text == ""
    assert transcript.duration == n_samples / SECOND


def long_recording() -> np.ndarray:
    """Both recordings in turn, about 90 seconds, with short pauses."""
    pieces = [read_audio(DATA / name) for name in SPOKEN]
    return np.concatenate([np.concatenate([piece, np.zeros(8_000, np.float32)]) for piece in pieces * 8])


def test_the_size_of_blocks_and_batches_does_not_matter(english: Recognizer) -> None:
    samples = long_recording()
    whole = english.transcribe_blocks([samples], batch_size=4)
    blocks = [samples[i : i + 12_345] for i in range(0, len(samples), 12_345)]
    parts = english.transcribe_blocks(blocks, batch_size=1)
    assert parts.text == whole.text
    assert parts.duration == whole.duration == len(samples) / SECOND


@pytest.mark.skipif(sys.platform != "linux", reason="needs forks")
def test_searching_in_processes_changes_nothing(english: Recognizer) -> None:
    samples = long_recording()
    alone = english.transcribe_blocks([samples])
    with english.in_processes(2) as faster:
        first, second = faster.begin([samples]), faster.begin([samples[: 20 * SECOND]])
        assert first.result() == alone
        assert first.done()
        assert second.result() == english.transcribe_blocks([samples[: 20 * SECOND]])


def test_words_of_a_long_recording_are_in_order_and_inside_it(english: Recognizer) -> None:
    transcript = english.transcribe_blocks([long_recording()])
    assert len(transcript.words) > 50
    for before, after in pairwise(transcript.words):
        assert before.start <= before.end <= after.start + 1e-6
    assert all(0 <= word.start <= word.end <= transcript.duration + 0.2 for word in transcript.words)
    assert all(0 < word.probability <= 1 for word in transcript.words)


def test_joined_outputs_equal_those_of_the_whole_recording(english: Recognizer) -> None:
    """Cutting with context changes next to nothing: the likeliest labels agree almost everywhere."""
    samples = long_recording()[: 45 * SECOND]
    joined = np.concatenate([outputs["phones"] for outputs in english.log_probs([samples])])
    whole = english._engine.log_probs([samples])[0]["phones"]
    assert len(joined) == len(whole)
    assert (joined.argmax(-1) == whole.argmax(-1)).mean() > 0.97


def test_progress_reaches_the_end(english: Recognizer) -> None:
    seen: list[float] = []
    samples = long_recording()
    english.transcribe_blocks([samples], on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(len(samples) / SECOND, abs=0.1)


def test_an_unknown_model_is_named_with_those_there_are() -> None:
    with pytest.raises(CheckpointError, match="englsh: neither a model file nor a shipped model"):
        Recognizer.load("englsh")


def test_a_model_without_characters_cannot_spell(tiny_checkpoint: Path) -> None:
    model = checkpoint.load(tiny_checkpoint)
    model.labels = {"phones": Labels.of_kind("phones")}
    with pytest.raises(UsageError, match="the model has no characters"):
        Recognizer(TorchEngine(model), "phones-only", DecoderOptions(beam_size=1))
    Recognizer(TorchEngine(model), "phones-only")


def test_models_with_the_same_labels_share_their_language_and_search(english: Recognizer) -> None:
    streaming = english.beside("english-streaming")
    assert streaming.new_decoder.language is english.new_decoder.language
    alone, sentence = Recognizer.load("english-streaming"), DATA / "1462-170142-0003.flac"
    assert streaming.transcribe(sentence) == alone.transcribe(sentence)


def test_a_model_with_other_labels_has_a_search_of_its_own(
    english: Recognizer, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoint.load(tiny_checkpoint)
    model.labels = {"characters": model.labels["characters"]}
    monkeypatch.setattr(engine, "load", lambda path, **rest: TorchEngine(model))
    assert english.beside(tiny_checkpoint).new_decoder.output == "characters"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_asking_for_cuda_without_one_is_a_usage_error(tiny_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="no usable CUDA device"):
        Recognizer.load(tiny_checkpoint, device="cuda")


def test_the_shipped_model_is_small_and_described() -> None:
    path = pretrained.find("english")
    assert path.stat().st_size <= 30e6
    assert (path.parent / "MODEL_CARD.md").is_file()
    info = checkpoint.load(path).info
    assert {"training", "config", "validation"} <= set(info)


def test_the_command_prints_words_of_real_speech() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "asr", "transcribe", str(DATA / "1462-170142-0003.flac")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert jiwer.cer(SPOKEN["1462-170142-0003.flac"], result.stdout.strip()) < 0.6
    assert result.stderr == ""


def test_memory_does_not_grow_with_the_recording(english: Recognizer) -> None:
    """The peak over eight minutes stays close to that over two."""
    program = """
import resource, sys
import numpy as np
from asr.recognizer import Pending, Recognizer
from asr.searches import Search
recognizer = Recognizer.load("english")
noise = np.random.default_rng(1)
syllables = np.abs(np.sin(np.arange(160_000) / 2000)) * 0.1
blocks = ((syllables * noise.normal(0, 1, 160_000)).astype(np.float32) for _ in range(int(sys.argv[1]) * 6))
recognizer.transcribe_blocks(blocks)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    peaks = [
        float(subprocess.run([sys.executable, "-c", program, minutes], capture_output=True, text=True).stdout)
        for minutes in ("2", "8")
    ]
    assert peaks[1] - peaks[0] < 100


# --- from Python ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def room() -> np.ndarray:
    return read_audio(DATA / "1462-170142-0003.flac")


def test_an_array_gives_what_its_file_gives(english: Recognizer, room: np.ndarray) -> None:
    of_file = english.transcribe(DATA / "1462-170142-0003.flac")
    assert english.transcribe(room) == of_file
    assert english.transcribe((room * 32_768).astype(np.int16)) == of_file
    assert english.transcribe(room.astype(np.float64)[:, np.newaxis]) == of_file


def test_an_array_of_another_rate_is_resampled(english: Recognizer, room: np.ndarray) -> None:
    twice = english.transcribe(np.repeat(room, 2), sample_rate=32_000)
    assert twice.text == english.transcribe(room).text
    assert twice.duration == pytest.approx(len(room) / SECOND, abs=0.05)


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (np.zeros((2, 9)), SECOND, r"shape \(2, 9\), not \(samples,\)"),
        (np.zeros(0), SECOND, "is empty"),
        (np.zeros(9, np.uint8), SECOND, "holds uint8; give float32"),
        (np.array(["a"]), SECOND, "give float32"),
        (np.array([0, 0.5, np.nan]), SECOND, r"sample 2 \(at 0.00 s\) is not a finite number"),
        (np.array([np.inf]), SECOND, "sample 0 .* is not a finite number"),
        (np.zeros(9), 0, "a sample rate of 0 Hz is not speech"),
    ],
)
def test_an_array_that_is_no_sound_is_refused(
    english: Recognizer, array: np.ndarray, rate: int, message: str
) -> None:
    with pytest.raises(asr.AsrError, match=message):
        english.transcribe(array, sample_rate=rate)


def test_public_names_are_listed_and_can_be_used(english: Recognizer, room: np.ndarray) -> None:
    assert set(asr.__all__) <= set(dir(asr)) and all(getattr(asr, name) for name in asr.__all__)
    options = asr.DecoderOptions(beam_size=100, hot_words=(asr.HotWord("entered", 5.0),))
    assert Recognizer.load(decoding=options).transcribe(room).text == SPOKEN["1462-170142-0003.flac"]


def test_the_examples_of_the_readme_work(
    english: Recognizer, room: np.ndarray, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    readme = (DATA.parent.parent / "README.md").read_text(encoding="utf-8")
    examples = [block.split("```")[0] for block in readme.split("```python\n")[1:]]
    audio = str(DATA / "1462-170142-0003.flac")
    values = {"samples": np.repeat(room, 3)[::2], "blocks_of_16_khz_float32": np.array_split(room, 9)}
    for example in examples:
        exec(example.replace("talk.mp3", audio).replace("my.lm", "auto").replace("44_100", "24_000"), values)
    shown = capsys.readouterr().out.splitlines()
    assert values["transcript"].text == SPOKEN["1462-170142-0003.flac"]
    assert len(examples) == 3 and "room" in shown[1] and "entered" in shown[-1]


@pytest.fixture(scope="module")
def several_pieces() -> np.ndarray:
    """Half a minute: the two recordings twice, cut where they are quietest."""
    spoken = [read_audio(DATA / name) for name in SPOKEN]
    return np.concatenate([*spoken, *spoken])


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 2), (2, 1), (3, 1), (3, 3), (7, 2)])
def test_neither_batch_nor_threads_change_a_word_a_time_or_a_probability(
    english: Recognizer, several_pieces: np.ndarray, batch_size: int, threads: int
) -> None:
    graph = pretrained.find("english").with_suffix(".onnx")
    other = Recognizer(OnnxEngine(graph, threads), "english", new_decoder=english._coming)
    expected = english.transcribe_blocks([several_pieces], batch_size=1)
    assert len(expected.words) > 50
    assert other.transcribe_blocks([several_pieces], batch_size=batch_size) == expected


def test_companions_change_no_log_probability(english: Recognizer, several_pieces: np.ndarray) -> None:
    alone = english._engine.log_probs([several_pieces[: 9 * SECOND]])[0]
    loud = np.clip(9 * several_pieces, -1, 1)
    for companions in ([several_pieces], [loud, several_pieces[:SECOND]]):
        beside = english._engine.log_probs([several_pieces[: 9 * SECOND], *companions])[0]
        for name, log_probs in alone.items():
            np.testing.assert_array_equal(beside[name], log_probs)


def test_a_segment_without_a_believable_word_is_left_out() -> None:
    probabilities = {"achoo": (0.4,), "up up": (0.27, 0.27), "so it was": (0.5, 0.5, 0.5), "yes": (0.75,)}
    probabilities["it is expected to keep it"] = (0.29, 0.26, 0.31, 0.29, 0.4, 0.31)  # found in drums

    def found(text: str) -> Search:
        words = zip(text.split(), probabilities[text], strict=True)
        segment = Segment.of(tuple(Word(word, 0.0, 1.0, probability) for word, probability in words))
        search = Search.__new__(Search)
        search._group, search._place = Future(), 0
        search._group.set_result([segment])
        return search

    pending = Pending([found(text) for text in probabilities], 4.0)
    assert pending.result().text == "so it was yes"
    assert replace(pending, min_confidence=0.0).result().text == " ".join(probabilities)
    assert replace(pending, min_confidence=0.9).result().text == ""


def drums(random: np.random.Generator) -> np.ndarray:
    """Bursts of noise that die away, two a second."""
    beats = random.normal(0, 0.3, 20 * SECOND) * np.exp(-8 * (np.arange(20 * SECOND) % 8000) / 8000)
    return beats.astype(np.float32)


def wind(random: np.random.Generator) -> np.ndarray:
    """Brown noise that swells."""
    brown = np.cumsum(random.normal(0, 1, 20 * SECOND))
    brown -= np.convolve(brown, np.ones(2001) / 2001, "same")
    swell = 0.2 + np.sin(np.pi * np.arange(len(brown)) / (1.5 * SECOND)) ** 2
    return (0.2 * brown / np.abs(brown).max() * swell).astype(np.float32)


def beeps(random: np.random.Generator) -> np.ndarray:
    times = np.arange(20 * SECOND) / SECOND
    return (0.3 * np.sin(2 * np.pi * 880 * times) * (times % 1 < 0.3)).astype(np.float32)


@pytest.mark.parametrize("noise", [drums, wind, beeps])
def test_no_words_are_found_in_noise(english: Recognizer, noise) -> None:
    assert english.transcribe_blocks([noise(np.random.default_rng(3))]).words == ()


@pytest.mark.parametrize("seconds", [0, 0.01, 0.5, 9, 25, 47.3])
def test_the_network_does_not_hear_what_cannot_be_speech(
    english: Recognizer, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blanks in its place are as many as its frames."""
    silence = np.zeros(round(seconds * SECOND), np.float32)
    monkeypatch.setattr(recognizer, "may_hold_speech", lambda samples: True)
    heard = [len(stretch["phones"]) for stretch in english.log_probs([silence])]
    monkeypatch.undo()
    monkeypatch.setattr(OnnxEngine, "log_probs", None)  # would fail if called
    assert [len(stretch["phones"]) for stretch in english.log_probs([silence])] == heard
