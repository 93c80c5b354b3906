"""Other decoders on a trained backbone."""

from dataclasses import replace

import pytest
import torch
from network_samples import TINY_OURS, TINY_RELEASED, fill_by_rule

from vdpm.errors import CheckpointError
from vdpm.model import VDPM
from vdpm.model.graft import graft


@pytest.mark.parametrize("base", [TINY_OURS, TINY_RELEASED], ids=lambda c: c.name)
@pytest.mark.parametrize("kind", ["transformer", "head", "pairwise"])
@torch.no_grad()
def test_all_but_the_decoder_is_the_donors(base, kind: str) -> None:
    donor = fill_by_rule(VDPM(base))
    torch.manual_seed(1)
    model = VDPM(replace(base, decoder_kind=kind, mark_target=False))
    decoder = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    graft(model, donor)
    images = torch.rand(1, 2, 3, 2 * base.patch_size, 3 * base.patch_size)
    tokens, of_donor = model.encode(images), donor.encode(images)
    assert torch.equal(model.time_variant(tokens).points, donor.time_variant(of_donor).points)
    assert torch.equal(model.pose_encodings(tokens), donor.pose_encodings(of_donor))
    kept = [
        n for n, v in model.decoder.state_dict().items() if not n.startswith("head.") and torch.equal(v, decoder[n])
    ]
    assert len(kept) == len([n for n in decoder if not n.startswith("head.")])


@pytest.mark.parametrize("base", [TINY_OURS, TINY_RELEASED], ids=lambda c: c.name)
@torch.no_grad()
def test_a_conditioned_head_starts_as_the_point_head(base) -> None:
    donor = fill_by_rule(VDPM(base))
    model = graft(VDPM(replace(base, decoder_kind="head", mark_target=False)), donor)
    model.decoder.head.norm.lin.weight.zero_()
    images = torch.rand(1, 2, 3, 2 * base.patch_size, 3 * base.patch_size)
    tokens = model.encode(images)
    torch.testing.assert_close(model.decode(tokens, 1).points, model.time_variant(tokens).points, rtol=1e-4, atol=1e-5)


def test_another_backbone_is_refused() -> None:
    with pytest.raises(CheckpointError, match="differ beyond their decoders"):
        graft(VDPM(TINY_OURS), VDPM(replace(TINY_OURS, camera_dim=32)))
