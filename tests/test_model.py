"""The acoustic model: an item alone, in a batch, or in steps gives the same log-probabilities."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr.model import (
    CELLS,
    AcousticModel,
    MaskedBatchNorm,
    ModelConfig,
    RecurrentLayer,
    flip_index,
    length_mask,
    output_lengths,
)

TINY = ModelConfig(
    n_mels=20,
    outputs={"characters": 7, "phones": 5},
    n_layers=2,
    n_hidden=16,
    n_model=24,
    n_channels=4,
)

SELF_CONDITIONED: dict[str, Any] = {"middle_outputs": ("phones",), "self_conditioning": True}


def model(**changes: Any) -> AcousticModel:
    """A small model, in evaluation, whose running statistics are not those it began with."""
    torch.manual_seed(3)
    built = AcousticModel(dataclasses.replace(TINY, **changes))
    for module in built.modules():
        if isinstance(module, MaskedBatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    for condition in built.conditions.parameters():
        nn.init.normal_(condition)  # they begin as zeros
    return built.eval()


def features(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A zero-padded batch of noise, and its lengths."""
    generator = torch.Generator().manual_seed(seed)
    items = [torch.randn(length, 20, generator=generator) for length in lengths]
    return nn.utils.rnn.pad_sequence(items, batch_first=True), torch.tensor(lengths)


def assert_same(first: Tensor, second: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(first, second, atol=tolerance, rtol=0)


@torch.inference_mode()
def in_steps(network: AcousticModel, frames: Tensor, sizes: list[int]) -> dict[str, Tensor]:
    """All outputs of step() for (frames, mels) cut into blocks of these sizes and an empty last one."""
    state = network.initial_state()
    parts: list[dict[str, Tensor]] = []
    for block in [*frames.split(sizes), frames[:0]]:
        last = len(parts) == len(sizes)
        part, state = network.step(block[None], state, last=last)
        parts.append(part)
    return {name: torch.cat([part[name] for part in parts], 1)[0] for name in parts[0]}


def random_sizes(total: int, largest: int, seed: int) -> list[int]:
    random = np.random.default_rng(seed)
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(min(int(random.integers(0, largest + 1)), total - sum(sizes)))
    return sizes


# --- batch = alone --------------------------------------------------------------------------------


@pytest.mark.parametrize("lookahead", [None, 0, 4])
@pytest.mark.parametrize("changes", [*({"cell": cell} for cell in CELLS), SELF_CONDITIONED])
@torch.inference_mode()
def test_an_item_in_a_batch_equals_the_item_alone(changes: dict[str, Any], lookahead: int | None) -> None:
    network = model(**changes, bidirectional=lookahead is None, lookahead=lookahead or 0)
    batch, lengths = features(61, 3, 1, 40, 7, 60)
    outputs, n_frames = network(batch, lengths)
    for i, length in enumerate(lengths):
        alone, (n_alone,) = network(batch[i : i + 1, :length], lengths[i : i + 1])
        assert n_alone == n_frames[i] == -(-length // 4)
        for name in TINY.outputs:
            assert_same(outputs[name][i, :n_alone], alone[name][0])


@pytest.mark.parametrize("changes", [{}, {"bidirectional": False, "lookahead": 4}, SELF_CONDITIONED])
@torch.inference_mode()
def test_what_stands_in_the_padding_does_not_matter(changes: dict[str, Any]) -> None:
    network = model(**changes)
    batch, lengths = features(50, 9, 30)
    outputs, n_frames = network(batch, lengths)
    dirty = torch.where(length_mask(lengths, 50)[..., None], batch, 1e4)
    dirty_outputs, _ = network(dirty, lengths)
    for i, n in enumerate(n_frames):
        assert_same(outputs["phones"][i, :n], dirty_outputs["phones"][i, :n])


def test_padding_has_no_part_in_the_loss_or_its_gradient_in_training() -> None:
    gradients = []
    for filling in (0.0, 100.0):
        network = model(dropout=0.0).train()
        batch, lengths = features(50, 9, 30)
        batch = torch.where(length_mask(lengths, 50)[..., None], batch, filling)
        outputs, n_frames = network(batch, lengths)
        mask = length_mask(n_frames, outputs["phones"].shape[1])
        (outputs["phones"] * mask[..., None]).square().sum().backward()
        gradients.append([p.grad for p in network.layers.parameters()])
    for clean, dirty in zip(*gradients, strict=True):
        torch.testing.assert_close(clean, dirty, atol=1e-4, rtol=1e-4)


# --- step = forward -------------------------------------------------------------------------------


@pytest.mark.parametrize("lookahead", [0, 4])
@pytest.mark.parametrize("changes", [*({"cell": cell} for cell in CELLS), SELF_CONDITIONED])
@torch.inference_mode()
def test_steps_of_any_sizes_equal_the_whole(changes: dict[str, Any], lookahead: int) -> None:
    network = model(**changes, bidirectional=False, lookahead=lookahead)
    for seed, length in enumerate([*range(1, 10), 16, 17, 63, 64, 101]):
        batch, lengths = features(length, seed=seed)
        whole, _ = network(batch, lengths)
        for largest in (1, 5, 40):
            stepped = in_steps(network, batch[0], random_sizes(length, largest, seed))
            for name in TINY.outputs:
                assert_same(stepped[name], whole[name][0])


@torch.inference_mode()
def test_a_recording_without_frames_gives_no_outputs() -> None:
    network = model(bidirectional=False, lookahead=4)
    assert in_steps(network, torch.zeros(0, 20), [0, 0])["characters"].shape == (0, 7)


@torch.inference_mode()
def test_an_output_waits_for_its_lookahead_and_no_longer() -> None:
    network = model(bidirectional=False, lookahead=4)
    batch, _ = features(200)
    outputs, _ = network.step(batch, network.initial_state())
    assert outputs["phones"].shape[1] == 200 // 4 - 4


@torch.inference_mode()
def test_the_state_of_a_stream_does_not_grow() -> None:
    network = model(bidirectional=False, lookahead=4)
    state = network.initial_state()
    sizes = set()
    for _ in range(20):
        _, state = network.step(features(8)[0], state)
        sizes.add(sum(x.numel() for x in (*state.convolutions, state.future)))
    assert len(sizes) <= 3  # while it fills, then steady


def test_a_bidirectional_model_refuses_to_run_in_steps() -> None:
    with pytest.raises(ValueError, match="bidirectional"):
        model().initial_state()


@torch.inference_mode()
def test_one_direction_does_not_see_beyond_its_lookahead() -> None:
    network = model(bidirectional=False, lookahead=2)
    batch, lengths = features(80)
    changed = batch.clone()
    changed[:, 60:] = 0
    first, second = network(batch, lengths)[0], network(changed, lengths)[0]
    n_same = 60 // 4 - 2
    assert_same(first["phones"][:, :n_same], second["phones"][:, :n_same])
    assert not torch.allclose(first["phones"][:, n_same], second["phones"][:, n_same])


# --- parts ----------------------------------------------------------------------------------------


class _Unchanged(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("cell", CELLS)
@torch.inference_mode()
def test_two_directions_with_flips_equal_torchs_packed_bidirectional_layer(cell: str) -> None:
    torch.manual_seed(0)
    layer = RecurrentLayer(dataclasses.replace(TINY, cell=cell)).eval()
    layer.norm = _Unchanged()  # type: ignore[assignment]
    packed = CELLS[cell](24, 16, batch_first=True, bidirectional=True)
    for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=True):
        for name, weight in direction.named_parameters():
            packed.get_parameter(name + suffix).copy_(weight)

    lengths = torch.tensor([9, 1, 6])
    x = torch.randn(3, 9, 24)
    mask = length_mask(lengths, 9)
    # The layer adds its input of 24 numbers, so the 32 outputs of both directions come in two parts.
    halves = []
    for half in torch.eye(32).split(16):
        layer.project = nn.Linear(32, 24, bias=False)
        layer.project.weight.copy_(nn.functional.pad(half, (0, 0, 0, 8)))
        halves.append((layer(x, mask, flip_index(lengths, 9)) - x)[..., :16])
    ours = torch.cat(halves, -1)

    sequence = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
    theirs, _ = nn.utils.rnn.pad_packed_sequence(packed(sequence)[0], batch_first=True)
    assert_same(ours * mask[..., None], theirs)


def test_a_flip_reverses_each_item_and_is_its_own_inverse() -> None:
    index = flip_index(torch.tensor([3, 5, 0]), 5)
    assert index.tolist() == [[2, 1, 0, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]
    assert torch.equal(index.gather(1, index), torch.arange(5).expand(3, 5))


def test_the_gradient_of_a_flip_is_right() -> None:
    from asr.model import _Gather

    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    index = flip_index(torch.tensor([3, 5]), 5)
    assert torch.autograd.gradcheck(lambda x: _Gather.apply(x, index), x)


def test_statistics_of_a_batch_leave_out_the_padding() -> None:
    norm = MaskedBatchNorm(6).train()
    x, lengths = torch.randn(3, 8, 6) * 3 + 2, torch.tensor([8, 2, 5])
    mask = length_mask(lengths, 8)
    x[~mask] = 1e3
    kept = norm(x, mask)[mask]
    torch.testing.assert_close(kept.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(kept.var(0, correction=0), torch.ones(6), atol=1e-3, rtol=0)
    assert norm.running_mean is not None and norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, 0.1 * x[mask].mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x[mask].var(0, correction=0))


def test_without_padding_the_normalisation_is_torchs() -> None:
    ours, theirs = MaskedBatchNorm(6).train(), nn.BatchNorm1d(6).train()
    x = torch.randn(4, 10, 6)
    mask = torch.ones(4, 10, dtype=torch.bool)
    expected = theirs(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours(x, mask), expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_outputs_are_log_probabilities() -> None:
    outputs, _ = model()(*features(33, 20))
    assert outputs["characters"].shape == (2, 9, 7) and outputs["phones"].shape == (2, 9, 5)
    for log_probs in outputs.values():
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 9))


def test_outputs_stay_in_single_precision_under_autocast() -> None:
    # Every processor has a GRU for it, in which the layers around it are bfloat16.
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = model(cell="gru")(*features(33, 20))
    assert outputs["characters"].dtype == torch.float32


def test_middle_outputs_are_there_in_training_only() -> None:
    network = model(middle_outputs=("phones",))
    assert "phones@middle" not in network(*features(33))[0]
    assert network.train()(*features(33))[0]["phones@middle"].shape == (1, 9, 5)


@torch.inference_mode()
def test_the_layers_above_hear_the_middle_outputs_once_they_have_learned_to() -> None:
    network, batch = model(**SELF_CONDITIONED), features(33)
    without = model(middle_outputs=("phones",))
    without.load_state_dict(network.state_dict(), strict=False)
    assert not torch.allclose(network(*batch)[0]["characters"], without(*batch)[0]["characters"])
    for condition in network.conditions.parameters():
        nn.init.zeros_(condition)  # as they begin
    assert_same(network(*batch)[0]["characters"], without(*batch)[0]["characters"])


@pytest.mark.parametrize("n_frames", range(1, 10))
def test_four_input_frames_make_one_output_frame_rounded_up(n_frames: int) -> None:
    assert int(output_lengths(torch.tensor(n_frames))) == -(-n_frames // 4)


def test_forget_gates_begin_open() -> None:
    lstm = next(module for module in model().modules() if isinstance(module, nn.LSTM))
    assert torch.equal(lstm.get_parameter("bias_hh_l0")[16:32], torch.ones(16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "transformer"}, "lstm, gru, rnn"),
        ({"lookahead": 4}, "lookahead"),
        ({"middle_outputs": ("words",)}, "words"),
        ({"self_conditioning": True}, "middle_outputs"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


# --- CUDA -----------------------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize("cell", CELLS)
@torch.inference_mode()
def test_the_gpu_agrees_with_the_cpu(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    network = model(cell=cell)
    batch, lengths = features(61, 3, 40)
    on_cpu, n_frames = network(batch, lengths)
    on_gpu, _ = network.cuda()(batch.cuda(), lengths.cuda())
    for i, n in enumerate(n_frames):
        assert_same(on_gpu["phones"][i, :n].cpu(), on_cpu["phones"][i, :n], 1e-4)


@needs_cuda
def test_recurrence_on_the_gpu_is_cudnns() -> None:
    network = model(n_hidden=128, n_model=128).cuda().train()
    batch, lengths = features(*[64] * 8)
    with (
        torch.profiler.profile() as profile,
        torch.autocast("cuda", torch.float16),
    ):
        outputs, _ = network(batch.cuda(), lengths.cuda())
        outputs["phones"].sum().backward()
    called = {event.key for event in profile.key_averages()}
    assert "aten::_cudnn_rnn" in called and "aten::_cudnn_rnn_backward" in called
    assert not called & {"aten::_thnn_fused_lstm_cell", "aten::lstm_cell"}
