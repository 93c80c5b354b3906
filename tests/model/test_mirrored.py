"""A network asked about the mirrored clip as well: what it says of a clip and of its mirror image are mirror images."""

import pytest
import torch

from vdpm.errors import UsageError
from vdpm.model import VDPM, Mirrored, mirrored_once, preset_config
from vdpm.model.point_map import PointMaps

FLIP = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))


@pytest.fixture(scope="module")
def network() -> VDPM:
    torch.manual_seed(3)
    return VDPM(preset_config("vdpm-small")).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(1, 3, 3, 24, 40, generator=torch.Generator().manual_seed(4))


def flipped(maps: PointMaps) -> PointMaps:
    return PointMaps(maps.points.flip(-2) * torch.tensor([-1.0, 1.0, 1.0]), maps.confidence.flip(-1))


@torch.inference_mode()
def test_the_mirrored_clip_has_the_mirrored_answer(network: VDPM, images: torch.Tensor) -> None:
    twice = Mirrored(network)
    one, other = twice.encode(images, 1), twice.encode(images.flip(-1), 1)
    for ask in (
        lambda tokens: twice.time_variant(tokens, [2, 0]),
        lambda tokens: twice.decode(tokens, 2),
        lambda tokens: twice.decode(tokens, torch.tensor([0, 2]), [1]),
    ):
        assert torch.allclose(ask(other).points, flipped(ask(one)).points, atol=1e-5)
        assert torch.allclose(ask(other).confidence, flipped(ask(one)).confidence, atol=1e-5)
    here, there = twice.cameras(one), twice.cameras(other)
    assert torch.allclose(there.c2w, FLIP @ here.c2w @ FLIP, atol=1e-5)
    assert torch.allclose(there.intrinsics, here.intrinsics, rtol=1e-5)
    assert torch.allclose(twice.match_descriptors(other), twice.match_descriptors(one).flip(-2), atol=1e-5)

    # A plain network is no such function, or the above would show nothing.
    plain = network.time_variant(network.encode(images.flip(-1), 1)), network.time_variant(network.encode(images, 1))
    assert not torch.allclose(plain[0].points, flipped(plain[1]).points, atol=1e-3)


@torch.inference_mode()
def test_the_answer_is_the_mean_of_both(network: VDPM, images: torch.Tensor) -> None:
    twice = Mirrored(network)
    there = flipped(network.decode(network.encode(images.flip(-1)), 1))
    here = network.decode(network.encode(images), 1)
    answer = twice.decode(twice.encode(images), 1)
    assert torch.allclose(answer.points, (here.points + there.points) / 2, atol=1e-6)
    assert torch.allclose(answer.confidence, (here.confidence + there.confidence) / 2, atol=1e-6)
    assert twice.fingerprint() == network.fingerprint()
    assert mirrored_once(twice) is twice


@torch.inference_mode()
def test_quaternions_of_either_sign_are_one_rotation(network: VDPM, images: torch.Tensor) -> None:
    """The head may say q of the clip and -q of its mirror image; their plain mean would be nothing."""
    told = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.7, -0.5, 0.5, 1.0, 1.1])
    mirror = torch.tensor([-0.1, 0.2, 0.3, -0.2, 1.4, -1.0, -1.0, 1.2, 1.3])  # of twice the length, and negated

    twice = Mirrored(VDPM(network.config))
    tokens = twice.encode(images)
    answers = iter((told, mirror))
    twice.camera_head.forward = lambda _: next(answers).expand(1, 1, 3, 9)  # type: ignore[method-assign]
    found = twice.pose_encodings(tokens)[0, 0, 0]
    assert torch.allclose(found[:3], torch.tensor([0.1, 0.2, 0.3]))
    assert torch.allclose(found[3:7], told[3:7], atol=1e-6)
    assert torch.allclose(found[7:], torch.tensor([1.1, 1.2]))


def test_it_neither_trains_nor_takes_tokens_of_one_pass(network: VDPM, images: torch.Tensor) -> None:
    twice = Mirrored(network)
    with pytest.raises(UsageError, match="not for training"):
        twice(images, torch.tensor([[0]]))
    with torch.inference_mode(), pytest.raises(UsageError, match="tokens are of one pass"):
        twice.time_variant(network.encode(images))
