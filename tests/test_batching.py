"""Batches: every utterance once, of similar length, and the same for the same seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest

from asr.training.batching import make_batches

LENGTHS = np.random.default_rng(0).integers(50, 1500, 500).tolist()


def padding(batches: list[list[int]]) -> float:
    padded = sum(len(batch) * max(LENGTHS[i] for i in batch) for batch in batches)
    return 1 - sum(LENGTHS) / padded


@pytest.mark.parametrize("shortest_first", [False, True])
def test_each_index_stands_in_exactly_one_batch(shortest_first: bool) -> None:
    batches = make_batches(LENGTHS, 9000, seed=1, epoch=0, shortest_first=shortest_first)
    assert sorted(i for batch in batches for i in batch) == list(range(500))


@pytest.mark.parametrize("epoch", range(5))
def test_no_batch_is_larger_than_allowed_once_padded(epoch: int) -> None:
    for batch in make_batches(LENGTHS, 9000, seed=1, epoch=epoch):
        assert len(batch) * max(LENGTHS[i] for i in batch) <= 9000


def test_batches_are_nearly_full_and_hardly_padded() -> None:
    batches = make_batches(LENGTHS, 9000, seed=1, epoch=0)
    assert len(batches) < 1.2 * sum(LENGTHS) / 9000 + 2
    assert padding(batches) < 0.1


def test_an_item_longer_than_a_batch_stands_alone() -> None:
    batches = make_batches([10, 500, 12], 100, seed=1, epoch=0)
    assert [1] in batches and len(batches) == 2


def test_the_same_seed_and_epoch_give_the_same_batches() -> None:
    first = make_batches(LENGTHS, 9000, seed=1, epoch=3)
    assert first == make_batches(LENGTHS, 9000, seed=1, epoch=3)
    assert first != make_batches(LENGTHS, 9000, seed=1, epoch=4)
    assert first != make_batches(LENGTHS, 9000, seed=2, epoch=3)


def test_members_and_not_only_order_change_between_epochs() -> None:
    first, second = (
        {frozenset(batch) for batch in make_batches(LENGTHS, 9000, seed=1, epoch=epoch)}
        for epoch in (0, 1)
    )
    assert len(first & second) < len(first) / 2


def test_shortest_first_goes_from_short_to_long() -> None:
    batches = make_batches(LENGTHS, 9000, seed=1, epoch=0, shortest_first=True)
    longest = [max(LENGTHS[i] for i in batch) for batch in batches]
    assert all(later > 0.9 * earlier for earlier, later in zip(longest, longest[1:], strict=False))
    shuffled = make_batches(LENGTHS, 9000, seed=1, epoch=0)
    assert sorted(shuffled) == sorted(batches) and shuffled != batches


def test_no_items_make_no_batches() -> None:
    assert make_batches([], 9000, seed=1, epoch=0) == []
