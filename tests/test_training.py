"""The training loop: it learns, survives a kill, and says what is wrong with its input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from singing import (
    CHARACTERS_ONLY,
    NO_PHONES,
    ROOT,
    asr,
    metrics,
    prepared,
    run_config,
    sing,
    torchrun,
    write_config,
    write_manifest,
)

from asr import checkpoint, cli
from asr.audio import read_audio
from asr.decoding.greedy import best_path
from asr.errors import AsrError, AudioError, CheckpointError, ConfigError, ManifestError
from asr.features import FeatureConfig, LogMel
from asr.manifest import Utterance
from asr.model import AcousticModel
from asr.training import dataset as datasets
from asr.training.config import DataConfig, TrainingConfig, schedule
from asr.training.dataset import why_unusable
from asr.training.distributed import choose_device
from asr.training.loss import ctc_loss
from asr.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("own_random_numbers_and_one_thread")

# --- it learns ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on characters and phones."""
    folder = tmp_path_factory.mktemp("learnt")
    trainer = prepared(folder, corpus, "training.max_updates=150")
    trainer.train()
    return folder


def test_a_tiny_model_learns_words_and_phones(learnt: Path) -> None:
    results = [entry for entry in metrics(learnt) if entry["event"] == "validation"]
    best = min(results, key=lambda entry: entry["word_error"])
    assert best["word_error"] < 0.2 and best["phones_error"] < 0.2
    assert results[0]["word_error"] > 0.8  # it did not know before


def test_characters_alone_are_learnt_too(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus, *CHARACTERS_ONLY, "training.max_updates=150")
    trainer.train()
    assert trainer.results["word_error"] < 0.2
    assert set(trainer.results) == {"characters_error", "word_error"}


def test_the_best_model_transcribes_audio_it_has_not_heard(learnt: Path) -> None:
    loaded = checkpoint.load(learnt / "run" / "best.safetensors")
    samples = torch.from_numpy(sing("bad dead cab", np.random.default_rng(99)))
    with torch.inference_mode():
        frames = loaded.front_end(samples)
        outputs, _ = loaded.model(frames[None], torch.tensor([len(frames)]))
    characters = loaded.labels["characters"].decode(best_path(outputs["characters"][0].numpy()))
    phones = loaded.labels["phones"].decode(best_path(outputs["phones"][0].numpy()))
    assert characters == "bad dead cab" and phones == "B AH D D IY AH D K AH B"


def test_every_line_of_the_metrics_is_json_with_a_finite_loss(learnt: Path) -> None:
    entries = metrics(learnt)
    assert [entry["event"] for entry in entries[:1]] == ["data"]
    training = [entry for entry in entries if entry["event"] == "training"]
    assert [entry["update"] for entry in training] == [50, 100, 150]
    losses = [entry["loss/characters"] for entry in training]
    assert losses[2] < 0.5 * losses[0] and all(entry["skipped"] == 0 for entry in training)
    assert all({"loss/phones", "loss/phones@middle"} < set(entry) for entry in training)


def test_a_finished_run_leaves_its_files_and_no_temporary_ones(learnt: Path) -> None:
    names = {path.name for path in (learnt / "run").iterdir()}
    names.discard("tensorboard")  # there where the package is installed
    models = {"last.pt", "last.safetensors", "best.safetensors"}
    assert names == models | {"metrics.jsonl", "curves.png", "cache"}
    info = checkpoint.load(learnt / "run" / "last.safetensors").info
    assert info["training"]["updates"] == 150 and info["config"]["training"]["max_updates"] == 150


def test_a_finished_run_has_nothing_left_to_do(learnt: Path, corpus: Path) -> None:
    trainer = prepared(learnt, corpus, "training.max_updates=150")
    assert trainer.resume()
    trainer.train()
    assert trainer.update == 150


def test_the_cache_is_read_instead_of_the_audio(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(tmp_path, corpus)
    monkeypatch.setattr(datasets, "read_audio", None)
    second = prepared(tmp_path, corpus)
    for ours, theirs in zip(first.training_set.frames, second.training_set.frames, strict=True):
        assert np.array_equal(ours, theirs)


def test_reading_audio_leaves_the_number_of_threads_alone(corpus: Path, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    prepared(tmp_path, corpus)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert n_threads == 2


def test_many_recordings_are_read_by_several_processes_in_order(
    corpus: Path, tmp_path: Path
) -> None:
    entries = [json.loads(line) for line in (corpus / "train.jsonl").read_text().splitlines()]
    utterances = [
        Utterance(f"{i}", corpus / entry["audio"], entry["text"], entry["duration"])
        for i, entry in enumerate([*entries, *entries[:20]])
    ]
    counts = []
    data = datasets.build(
        utterances, {}, None, FeatureConfig(), tmp_path, lambda done, total: counts.append(done)
    )
    assert counts == [64, 80]
    for i in (0, 5, 19):
        assert np.array_equal(data.frames[i], data.frames[60 + i])
    expected = LogMel().raw(torch.from_numpy(read_audio(utterances[7].audio)))
    np.testing.assert_allclose(data.frames[7], expected, atol=0.01)


def test_mean_and_deviation_are_those_of_all_frames(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus)
    frames = np.concatenate([f.astype(np.float64) for f in trainer.training_set.frames])
    np.testing.assert_allclose(trainer.front_end.mean, frames.mean(0), rtol=1e-5)
    np.testing.assert_allclose(trainer.front_end.deviation, frames.std(0), rtol=1e-4)


# --- a killed run ---------------------------------------------------------------------------------

DROPOUT_AND_MASKS = [
    "model.dropout=0.2",
    "augment.warm_up_updates=10",
    "training.validate_updates=25",
    "training.mixed_precision=true",
]
KILLED = """
import os, signal, sys, torch
from asr import config
from asr.training.config import RunConfig
from asr.training.trainer import Trainer
torch.set_num_threads(1)
trainer = Trainer(config.load(sys.argv[1], sys.argv[2:], RunConfig), torch.device("cpu"))
trainer.prepare()
trainer.train(lambda t: t.update == 47 and os.kill(os.getpid(), signal.SIGKILL))
"""


def assert_equal_states(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal_states(first[key], second[key])
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_equal_states(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def test_a_run_resumed_after_kill_9_equals_one_that_was_not_killed(
    corpus: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    # Checkpoints fall at other updates, for when they are due depends on the clock.
    trainer = prepared(whole, corpus, *DROPOUT_AND_MASKS, "training.checkpoint_minutes=1000")
    n_batches = len(trainer._batches())
    assert not {40 % n_batches, 47 % n_batches} & {0}  # saved and killed in mid-epoch
    trainer.train()

    path = write_config(killed, corpus)
    overrides = [*DROPOUT_AND_MASKS, "training.checkpoint_minutes=0"]
    died = subprocess.run(
        [sys.executable, "-c", KILLED, path, *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert torch.load(killed / "run" / "last.pt", weights_only=True)["update"] == 40
    resumed = asr("train", path, *overrides, "--device", "cpu", "--threads", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == f"{killed}/run/best.safetensors\n"
    assert resumed.stderr.startswith(f"resuming {killed}/run at update 40\n")

    states = [torch.load(f / "run" / "last.pt", weights_only=True) for f in (whole, killed)]
    for state in states:
        del state["seconds"]
    assert_equal_states(*states)
    for name in ("last.safetensors", "best.safetensors"):
        first, second = (checkpoint.load(f / "run" / name).model.state_dict() for f in (whole, killed))
        assert_equal_states(dict(first), dict(second))
    for entry in metrics(killed):
        assert {"update", "epoch", "event"} < set(entry)


def test_saving_and_validating_leave_the_random_numbers_alone(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus)
    before = torch.get_rng_state()
    trainer.validate()
    trainer.save()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_or_foreign_state_is_refused_in_one_line(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus, "training.max_updates=3")
    trainer.train()
    other = Trainer(run_config(tmp_path, corpus, "model.n_hidden=20"), torch.device("cpu"))
    path = tmp_path / "run" / "last.pt"
    whole = path.read_bytes()
    with pytest.raises(CheckpointError, match="does not fit this configuration") as error:
        other.resume()
    assert "\n" not in str(error.value)
    for content in (b"", b"junk", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"last\.pt: .*damaged") as error:
            trainer.resume()
        assert "\n" not in str(error.value)
    torch.save({"model": trainer.model.state_dict()}, path)
    with pytest.raises(CheckpointError, match=r"last\.pt: .*damaged"):
        trainer.resume()


def test_restart_begins_anew_even_if_it_is_interrupted_at_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = prepared(tmp_path, corpus, "training.max_updates=3")
    old.train()

    def interrupt(self: Trainer, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train", interrupt)
    path = str(write_config(tmp_path, corpus))
    assert cli.main(["train", path, "--restart", "--device", "cpu"]) == 130
    assert not prepared(tmp_path, corpus).resume()
    assert {entry["update"] for entry in metrics(tmp_path)} == {0}


# --- one step -------------------------------------------------------------------------------------


def test_a_gradient_that_is_not_a_number_changes_no_weight(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus)
    totals: dict[str, float] = defaultdict(float)
    trainer.step([0, 1], totals)
    parameters = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    hook = trainer.model.get_parameter("outputs.phones.weight").register_hook(lambda g: g * torch.nan)
    trainer.step([0, 1], totals)
    hook.remove()
    assert totals["skipped"] == 1 and trainer.update == 2
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, parameters[name])
    assert all(value.isfinite().all() for value in trainer.average.values())
    trainer.step([0, 1], totals)
    assert totals["skipped"] == 1
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_a_process_without_a_share_of_a_batch_has_no_weight(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = prepared(tmp_path, corpus)
    weights = []

    def average_gradients(
        parameters: object, weight: float, progress: float, failed: bool
    ) -> tuple[float, bool]:
        weights.append(weight)
        return progress, failed

    monkeypatch.setattr(trainer.group, "average_gradients", average_gradients)
    monkeypatch.setattr(trainer.group, "size", 2)
    for rank in (0, 1):
        monkeypatch.setattr(trainer.group, "rank", rank)
        for indices in ([7], [7, 8, 9]):
            trainer.step(indices, defaultdict(float))
    assert weights == [1, 2 / 3, 0, 1 / 3]


def test_a_batch_does_not_depend_on_the_others_in_it(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus, "augment.warm_up_updates=0")
    together = trainer.batch(trainer.training_set, [3, 4, 5], augmented=True)
    alone = trainer.batch(trainer.training_set, [4], augmented=True)
    n = int(alone.lengths[0])
    assert n == together.lengths[1]
    assert torch.equal(together.features[1, :n], alone.features[0])
    assert not together.features[1, n:].any()
    assert together.targets["phones"][1] == alone.targets["phones"][0]


def test_the_learning_rate_rises_holds_and_falls_to_zero() -> None:
    values = [schedule(p / 1000, TrainingConfig(warm_up=0.1, hold=0.5)) for p in range(1001)]
    assert values[:100] == sorted(values[:100]) and values[0] == 0 and values[50] == pytest.approx(0.5)
    assert set(values[100:500]) == {1.0}
    assert values[500:] == sorted(values[500:], reverse=True)
    assert values[750] == pytest.approx(0.5) and values[1000] == pytest.approx(0)
    assert schedule(1.0, TrainingConfig(warm_up=0.0, hold=1.0)) in (0.0, 1.0)


def test_the_ctc_loss_is_a_mean_per_label_of_the_items_that_have_labels() -> None:
    log_probs = torch.randn(3, 20, 5).log_softmax(-1)
    lengths = torch.tensor([20, 15, 10])
    first, second = (
        ctc_loss(log_probs[i : i + 1], lengths[i : i + 1], [target])
        for i, target in ((0, [1, 2, 2]), (1, [3]))
    )
    both = ctc_loss(log_probs, lengths, [[1, 2, 2], [3], None])
    torch.testing.assert_close(both, (first + second) / 2)
    single = torch.log_softmax(torch.tensor([[[1.0, 2.0, 0.0]]]), -1)
    torch.testing.assert_close(ctc_loss(single, torch.tensor([1]), [[1]]), -single[0, 0, 1])


def test_items_without_any_labels_give_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 20, 5, requires_grad=True)
    loss = ctc_loss(logits.log_softmax(-1), torch.tensor([20, 15]), [None, None])
    loss.backward()
    assert loss == 0 and logits.grad is not None and not logits.grad.any()


def test_noise_is_trained_to_be_blank() -> None:
    log_probs = torch.randn(1, 16, 5).log_softmax(-1)
    loss = ctc_loss(log_probs, torch.tensor([16]), [[]])
    torch.testing.assert_close(loss, -log_probs[0, :, 0].sum() / 2)  # as of 16 / 8 labels


# --- what is left out, and what is refused --------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds", "targets", "expected"),
    [
        ("one two", 2.0, [[1, 2, 3]], ""),
        ("one two", 0.0, [[1, 2, 3]], "without sound"),
        ("one two", 30.0, [[1, 2, 3]], "longer than data.max_seconds (20 s)"),
        ("a b c d e f g h i j k l", 1.0, [[1, 2, 3]], "more than data.max_words_per_second"),
        ("one", 1.0, [list(range(1, 21))], ""),  # 25 outputs, 21 of them at the fastest speed
        ("one", 1.0, [list(range(1, 24))], "sound too short for its text"),
        ("one", 1.0, [[1, 1] * 8], "sound too short"),  # a blank must stand between repeats
        ("one", 1.0, [[1, 2] * 8], ""),
        ("", 1.0, [[]], "no text"),
        ("one", 1.0, [[1], None], ""),  # no pronunciation: characters alone
        ("one", 1.0, [None], "no word pronounced"),
    ],
)
def test_only_utterances_that_ctc_can_learn_are_used(
    text: str, seconds: float, targets: list[list[int] | None], expected: str
) -> None:
    utterance = Utterance("u", Path("u.wav"), text, seconds)
    reason = why_unusable(utterance, int(100 * seconds), targets, DataConfig("", ""))
    assert reason.startswith(expected) and bool(reason) == bool(expected)


def test_room_for_the_labels_is_needed_at_the_fastest_speed_of_the_augmentation() -> None:
    utterance, targets = Utterance("u", Path("u.wav"), "one", 1.0), [list(range(1, 21))]
    faults = [why_unusable(utterance, 100, targets, DataConfig("", ""), speed) for speed in (0.0, 0.1, 0.3)]
    assert faults == ["", "", "sound too short for its text"]


def test_utterances_too_long_for_their_audio_are_left_out_and_named(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (corpus / "train.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        entry["audio"] = str(corpus / entry["audio"])
    entries[0]["text"] = "abba" * 40
    entries[1]["text"] = "..."
    train = write_manifest(tmp_path / "train.jsonl", entries)
    trainer = prepared(tmp_path, corpus, f"data.train={train}")
    assert len(trainer.training_set) == 58
    assert metrics(tmp_path)[0] | {"utterances": 58, "left_out": 2} == metrics(tmp_path)[0]
    assert caplog.messages == [
        f"{train}: 2 of 60 utterances are not trained on: "
        f"1 sound too short for its text ({corpus}/train0.wav); 1 no text ({corpus}/train1.wav)"
    ]


def test_empty_and_tiny_references_do_not_stop_validation(corpus: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.zeros(100), 16_000)
    entries: list[dict[str, Any]] = [
        {"audio": str(corpus / "dev0.wav"), "text": "...", "duration": 1.0},
        {"audio": str(tmp_path / "click.wav"), "text": "bad", "duration": 0.006},
        {"audio": str(corpus / "dev1.wav"), "text": "bad", "duration": 1.0},
        {"audio": str(corpus / "dev2.wav"), "text": "unpronounceable", "duration": 1.0},
    ]
    dev = write_manifest(tmp_path / "dev.jsonl", entries)
    trainer = prepared(tmp_path, corpus, f"data.validation={dev}", "training.max_updates=2")
    trainer.train()
    assert 0 < trainer.results["word_error"]
    dev = write_manifest(tmp_path / "dev.jsonl", entries[:2])
    with pytest.raises(ConfigError, match="no utterance has both sound and text"):
        prepared(tmp_path, corpus, f"data.validation={dev}")


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["data.train=gone.jsonl"], ManifestError, r"^gone\.jsonl: No such file"),
        (["data.validation=gone.jsonl"], ManifestError, r"^gone\.jsonl: No such file"),
        (["data.validation_corpus=x"], ConfigError, "no utterances of corpus x"),
        (["data.lexicon="], ConfigError, r"data\.lexicon is missing"),
        (["data.lexicon=gone.tsv"], ManifestError, r"^gone\.tsv: lexicon not found"),
        (["data.max_seconds=0.1"], ConfigError, "no utterance is usable"),
        (["model.outputs={characters=28}"], ConfigError, "losses: phones|has 29 labels|middle"),
        (["training.losses={characters=1.0}"], ConfigError, "nothing trains the output phones"),
        (["training.losses.word=1.0"], ConfigError, "word is not an output"),
        (["training.max_updates=0"], ConfigError, "max_hours or training.max_updates"),
        (["model.n_mels=40"], ConfigError, "n_mels.*differ"),
        (["model.cell=lstn"], ConfigError, "choose from lstm, gru, rnn"),
        (["model.outputs={words=29}", *NO_PHONES, "training.losses={words=1.0}"], AsrError, "words"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(
    corpus: Path, tmp_path: Path, overrides: list[str], error: type[AsrError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        prepared(tmp_path, corpus, *overrides)
    assert "\n" not in str(raised.value)


def test_an_empty_lexicon_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(ManifestError, match=r"empty\.tsv: holds no pronunciations"):
        prepared(tmp_path, corpus, f"data.lexicon={tmp_path}/empty.tsv")


def test_a_lexicon_of_other_words_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "other.tsv").write_text("dog\tD AO G\n")
    with pytest.raises(ConfigError, match=r"other\.tsv: pronounces no utterance of .*phones"):
        prepared(tmp_path, corpus, f"data.lexicon={tmp_path}/other.tsv")


def test_unreadable_audio_is_named_with_its_utterance_and_the_others_are_trained_on(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.wav").write_text("this is not sound")
    files = [str(corpus / "dev0.wav"), "text.wav", "gone.wav", str(corpus / "dev1.wav")]
    entries = [
        {"id": f"u{i}", "audio": audio, "text": "bad", "duration": 1.0} for i, audio in enumerate(files)
    ]
    train = write_manifest(tmp_path / "train.jsonl", entries)
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        trainer = prepared(tmp_path, corpus, f"data.train={train}", f"data.validation={train}")
        assert [u.id for u in trainer.training_set.utterances] == ["u0", "u3"]
        assert [u.id for u in trainer.validation_set.utterances] == ["u0", "u3"]
        for id, name in (("u1", "text.wav"), ("u2", "gone.wav")):
            assert sum(f"left out: utterance {id}: " in m and name in m for m in caplog.messages) == 2
        assert "2 of 4 utterances are not trained on: 2 without sound that can be read (u1, " in caplog.text


def test_audio_that_can_be_read_again_is_trained_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> np.ndarray:
        if path.name == "train7.wav":
            raise AudioError(f"{path}: Permission denied")
        return read_audio(path)

    monkeypatch.setattr(datasets, "read_audio", fail)
    assert len(prepared(tmp_path, corpus).training_set) == 59
    monkeypatch.setattr(datasets, "read_audio", read_audio)
    assert len(prepared(tmp_path, corpus).training_set) == 60


def test_where_no_audio_can_be_read_nothing_is_trained(corpus: Path, tmp_path: Path) -> None:
    entry = {"id": "u7", "audio": "gone.wav", "text": "bad", "duration": 1.0}
    train = write_manifest(tmp_path / "train.jsonl", [entry])
    with pytest.raises(ConfigError, match=r"no utterance is usable for training; 1 without sound .*u7"):
        prepared(tmp_path, corpus, f"data.train={train}")


def test_noise_is_heard_with_empty_labels(corpus: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    soundfile.write(tmp_path / "hum.wav", 0.1 * random.standard_normal(16_000 * 11), 16_000)
    entry = {"audio": "hum.wav", "text": "", "duration": 11.0}
    noise = write_manifest(tmp_path / "noise.jsonl", [entry])
    speech = prepared(tmp_path, corpus)
    trainer = prepared(
        tmp_path, corpus, f"data.noise={noise}", "training.max_updates=4", "augment.warm_up_updates=0"
    )
    added = trainer.training_set.subset(range(60, len(trainer.training_set)))
    assert len(speech.training_set) == 60 and len(added) >= 2
    assert all(target == [] for labels in added.labels.values() for target in labels)
    assert torch.equal(trainer.front_end.mean, speech.front_end.mean)
    trainer.train()
    assert all(p.isfinite().all() for p in trainer.model.parameters())


# --- the command line -----------------------------------------------------------------------------


def test_an_unknown_key_gives_exit_status_2_and_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, corpus)
    path.write_text(path.read_text().replace("batch_seconds", "batch_second"))
    assert cli.main(["train", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "training: batch_second: unknown key; did you mean batch_seconds?" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["data.train=gone.jsonl"], 1, "gone.jsonl: No such file"),
        (["training.seed=one"], 2, "training: seed: expected int, got 'one'"),
        (["seed"], 2, "an override is key=value"),
        (["--threads", "0"], 2, "threads"),
    ],
)
def test_bad_input_gives_its_exit_status_and_one_line(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    path = str(write_config(tmp_path, corpus))
    assert cli.main(["train", path, *arguments, "--device", "cpu"]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err


def test_two_processes_train_as_one(corpus: Path, tmp_path: Path) -> None:
    overrides = ["training.max_updates=50", "model.dropout=0.0"]
    losses = []
    for name, launcher in (("one", ()), ("two", torchrun(2))):
        folder = tmp_path / name
        folder.mkdir()
        if launcher:
            path = write_config(folder, corpus)
            run = asr("train", path, *overrides, "--device", "cpu", "-t", "1", launcher=launcher)
            assert run.returncode == 0, run.stderr
            assert run.stdout == f"{folder}/run/best.safetensors\n"
        else:
            prepared(folder, corpus, *overrides).train()
        (training,) = (entry for entry in metrics(folder) if entry["event"] == "training")
        losses.append(training["loss/characters"])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    states = [
        torch.load(tmp_path / name / "run" / "last.pt", weights_only=True) for name in ("one", "two")
    ]
    assert len(states[1]["random"]) == 2
    assert states[0]["update"] == states[1]["update"] == 50
    assert AcousticModel(checkpoint.load(tmp_path / "two/run/best.safetensors").model.config)


def test_every_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device() == choose_device("cuda") == torch.device("cuda", 3)
    assert chosen == [torch.device("cuda", 3)] * 2
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
