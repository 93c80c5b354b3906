import pytest
import torch
import torch.nn.functional as F

from vdpm.model.dpt_head import enlarge


@pytest.mark.parametrize("size", [(9, 13), (5, 7), (10, 20), (1, 1)])
def test_enlarging_by_products_is_bilinear_with_aligned_corners_gradients_included(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 7, generator=generator, requires_grad=True)
    ours, theirs = enlarge(x, size), F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn(theirs.shape, generator=generator)
    gradients = [torch.autograd.grad(y, x, weight)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        assert torch.equal(enlarge(x, size), theirs)
