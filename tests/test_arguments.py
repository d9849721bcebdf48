"""Options that are numbers: each has a range, and what is outside costs one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asr import cli
from asr.decoding.decoder import DecoderOptions
from asr.decoding.hotwords import HotWord
from asr.errors import UsageError

# Options with a value that none may have, for every verb that has them.
NUMBERS = [
    *(("transcribe", option) for option in ("--lm-weight", "--word-score", "--acoustic-scale")),
    *(("transcribe", option) for option in ("--prior-weight", "--rnn-share", "--beam-size", "--nbest")),
    *(("transcribe", option) for option in ("--offset", "--duration", "--batch-size", "--threads")),
    *(("transcribe", option) for option in ("--sample-rate",)),
    *(("evaluate", option) for option in ("--lm-weight", "--limit", "--threads")),
    *(("align", option) for option in ("--word-score", "--beam-size", "--threads")),
    *(("listen", option) for option in ("--timeout", "--samplerate", "--prior-weight", "--threads")),
    *(("lm", option) for option in ("--order", "--entropy-prune", "--spelling", "--epochs", "--cells")),
    *(("data", option) for option in ("--validation-share",)),
    *(("bench", option) for option in ("--runs", "--threads")),
    *(("train", option) for option in ("--threads",)),
]


@pytest.mark.parametrize(("verb", "option"), NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e39", "-1e39", "9" * 5000, "²", "", "1_0e9"])
def test_a_number_out_of_range_is_refused_with_its_option(
    capsys: pytest.CaptureFixture[str], verb: str, option: str, value: str
) -> None:
    assert cli.main([verb, "x", "y", f"{option}={value}"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and len(err) < 300
    assert option in err and " is " in err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("lm_weight", value) for value in (float("nan"), float("inf"), -1.0)),
        *(("word_score", value) for value in (float("nan"), -1e9)),
        ("acoustic_scale", 0.0),
        ("prior_weight", float("inf")),
        ("recurrent_share", 1.0),
        ("beam_size", 2_000_000),
        ("n_best", 0),
        ("hot_words", (HotWord("guide", float("nan")),)),
        ("hot_words", (HotWord("guide", 1e39),)),
    ],
)
def test_python_gets_the_same_ranges(name: str, value: object) -> None:
    with pytest.raises(UsageError, match="which is not .* to "):
        DecoderOptions(**{name: value})  # type: ignore[arg-type]


def test_more_threads_than_can_be_meant_are_as_many_as_there_are_cores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from asr.commands import evaluate

    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    used = []
    monkeypatch.setattr(evaluate, "run", lambda args: used.append(args.threads) or 0)
    for n in ("9999", "1000000", "64", "4"):
        assert cli.main(["evaluate", str(tmp_path), "-t", n]) == 0
    assert used == [3, 3, 64, 4]
    assert capsys.readouterr().err.splitlines() == [
        "asr: warning: --threads 9999: this machine has 3 cores; using so many",
        "asr: warning: --threads 1000000: this machine has 3 cores; using so many",
    ]


def test_align_and_evaluate_offer_only_what_they_use(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, unused in (("align", ("--grammar", "--nbest")), ("evaluate", ("--nbest",))):
        assert cli.main([verb, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "--beam-size" in shown
        assert not [option for option in unused if option in shown]
