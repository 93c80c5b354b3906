"""What a network says through the protocol is what it says itself, whatever is in the batch."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fixtures.tiny_network import tiny_network
from vdpm.errors import UsageError
from vdpm.evaluation.protocol import ClipByClip, NetworkPredictor, Prediction, Predictor


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def test_a_network_answers_in_the_world_of_frame_0(images: Tensor) -> None:
    network = tiny_network()
    with torch.inference_mode():
        tokens = network.encode(images, reference=0)
        decoded = network.decode(tokens, torch.tensor([2, 0])).points
        own = network.time_variant(tokens).points
    answer = NetworkPredictor(network).predict(images, [2, 0], [0, 1])
    assert isinstance(NetworkPredictor(network), Predictor)
    torch.testing.assert_close(answer.time_variant, own)
    torch.testing.assert_close(answer.at_targets, decoded[:, :, :2])
    assert answer.c2w.shape == (2, 3, 4, 4)


def test_a_clip_does_not_depend_on_its_batch(images: Tensor) -> None:
    predictor = NetworkPredictor(tiny_network())
    both, alone = predictor.predict(images, [1]), predictor.predict(images[1], [1])
    assert alone.at_targets.shape == (1, 3, 16, 24, 3)
    assert alone.visible is None
    for name in ("time_variant", "at_targets", "c2w", "intrinsics"):
        value = getattr(alone, name)
        torch.testing.assert_close(value, getattr(both, name)[1], rtol=1e-4, atol=1e-5)


def test_two_views_are_a_clip(images: Tensor) -> None:
    answer = NetworkPredictor(tiny_network()).predict(images[:, [0, 2]], [0, 1])
    assert answer.at_targets.shape == (2, 2, 2, 16, 24, 3)
    assert answer.time_variant.dtype == torch.float32


def test_frames_that_do_not_exist_are_refused(images: Tensor) -> None:
    predictor = NetworkPredictor(tiny_network())
    with pytest.raises(UsageError, match="target times"):
        predictor.predict(images, [3])
    with pytest.raises(UsageError, match="sources"):
        predictor.predict(images, [0], [3])


def test_one_clip_at_a_time_makes_the_same_answer(images: Tensor) -> None:
    predictor = NetworkPredictor(tiny_network())

    def one(clip: Tensor, targets: Sequence[int]) -> Prediction:
        assert clip.dim() == 4
        return predictor.predict(clip, targets)

    slow, fast = (p.predict(images, [0, 2], [1]) for p in (ClipByClip(one), predictor))
    for name in ("time_variant", "at_targets", "c2w", "intrinsics"):
        value = getattr(fast, name)
        torch.testing.assert_close(getattr(slow, name), value, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="no clip"):
        ClipByClip(one).predict(images[:0], [0])
