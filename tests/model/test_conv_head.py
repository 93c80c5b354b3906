import torch
import torch.nn.functional as F

from vdpm.model.conv_head import double_size


def test_double_size_is_bilinear_with_and_without_gradients() -> None:
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(double_size(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(double_size(x), expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (mine,) = torch.autograd.grad((double_size(x) * weights).sum(), x)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(mine, theirs)


def test_the_gradient_of_double_size_keeps_channels_last() -> None:
    """Compiled, a gradient in another order reads across the lines of memory: a fifth of a training step."""
    x = torch.randn(2, 6, 4, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    outer = torch.randn(2, 6, 8, 16, generator=torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)
    (mine,) = torch.autograd.grad(double_size(x), x, outer)
    assert mine.is_contiguous(memory_format=torch.channels_last)
