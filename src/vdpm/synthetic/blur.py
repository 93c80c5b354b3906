"""Blur of pictures: along the motion of each pixel while the shutter is open, and out of focus.

The motion is exact: where the point of each pixel is seen in the frames before and after, by their own cameras.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vdpm.synthetic.fusing import fusable, runs_kernels

_TAPS = 9
_TILE = 8
_LONGEST = 0.12
"""The longest blur, relative to the picture's width."""


def image_motion(
    beside: Float[Tensor, "batch times frames rays 3"],
    c2w: Float[Tensor, "batch frames 4 4"],
    focal: Float[Tensor, "batch frames"],
    timestamps: Float[Tensor, "batch frames"],
    width: int,
) -> Float[Tensor, "batch frames rays 3"]:
    """How fast each pixel's point moves over the picture, in pixels a second (x, y), and the inverse of its depth.

    ``beside``: where the points of each frame's rays are at three times: of the frame before, of the one after, and of
    their own. The speed is that between the first two; ``focal`` in units of the image width.
    """
    count = c2w.shape[1]
    own = torch.arange(count, device=c2w.device)
    times = torch.stack([(own - 1).clamp_min(0), (own + 1).clamp_max(count - 1), own])
    seconds = (timestamps[:, times[1]] - timestamps[:, times[0]]).clamp_min(1e-6)
    return _image_motion(beside, c2w[:, times, None, :3], focal[:, times] * width, seconds)


@fusable
def _image_motion(beside: Tensor, pose: Tensor, focal: Tensor, seconds: Tensor) -> Tensor:
    offset = beside - pose[..., 3]
    x, y, z = (
        offset[..., 0] * pose[..., 0, i] + offset[..., 1] * pose[..., 1, i] + offset[..., 2] * pose[..., 2, i]
        for i in range(3)
    )
    z = torch.where(z < 1e-4, 1e-4, z)
    across, down = (v * focal[..., None] / z for v in (x, y))
    seconds = seconds[..., None]
    right, below = (across[:, 1] - across[:, 0]) / seconds, (down[:, 1] - down[:, 0]) / seconds
    return torch.stack([right, below, 1 / z[:, 2]], -1)


def blur_along_motion(
    picture: Float[Tensor, "count 3 height width"],
    motion: Float[Tensor, "count 2 height width"],
    nearness: Float[Tensor, "count 1 height width"],
) -> Float[Tensor, "count 3 height width"]:
    """Each pixel spread along its ``motion``, the way in pixels (x, y) that it goes while the shutter is open.

    Gathers along the longest motion of the neighbourhood, so that what moves is smeared over what stands still behind
    it (McGuire et al., A reconstruction filter for plausible motion blur, 2012). ``nearness``: inverse depth.
    """
    height, width = picture.shape[-2:]
    length = motion.norm(dim=1, keepdim=True)
    limit = _LONGEST * width / length.clamp_min(1e-6)
    motion = motion * limit.clamp_max(1.0)
    length = length * limit.clamp_max(1.0)

    # The longest motion of each tile, then of its neighbours.
    _, index = F.max_pool2d(length, _TILE, ceil_mode=True, return_indices=True)
    tiles = motion.flatten(2).gather(2, index.flatten(2).expand(-1, 2, -1)).unflatten(2, index.shape[-2:])
    _, index = F.max_pool2d(tiles.norm(dim=1, keepdim=True), 3, stride=1, padding=1, return_indices=True)
    tiles = tiles.flatten(2).gather(2, index.flatten(2).expand(-1, 2, -1)).unflatten(2, index.shape[-2:])
    row = torch.arange(height, device=picture.device) // _TILE
    column = torch.arange(width, device=picture.device) // _TILE
    longest = tiles[:, :, row][:, :, :, column]
    layers = torch.cat([picture, length, nearness], 1)
    if runs_kernels(picture.device):
        from vdpm.synthetic.blur_kernel import gathered_on_gpu

        return gathered_on_gpu(layers, longest, _TAPS)
    return _gathered(layers, longest)


@fusable
def _gathered(layers: Tensor, longest: Tensor) -> Tensor:
    """The mean of samples of ``layers`` (colour, length of the motion, nearness) along the ``longest`` motion around,
    as far as they reach the pixel."""
    height, width = layers.shape[-2:]
    steps = torch.arange(_TAPS, device=layers.device) / (_TAPS - 1) - 0.5
    y = torch.arange(height, device=layers.device) + 0.5
    x = torch.arange(width, device=layers.device) + 0.5
    centre = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)])
    places = centre[:, None] + longest[:, :, None] * steps[:, None, None]
    size = torch.stack([torch.full_like(steps[0], width), torch.full_like(steps[0], height)])
    grid = (places.permute(0, 2, 3, 4, 1) / size * 2 - 1).flatten(1, 2)
    taken = F.grid_sample(layers, grid, padding_mode="border", align_corners=False).unflatten(2, (_TAPS, height))
    colour, reach, near = taken[:, :3], taken[:, 3] / 2, taken[:, 4]
    away = longest.norm(dim=1)[:, None] * steps.abs()[:, None, None]
    own_reach, own_near = layers[:, 3:4] / 2, layers[:, 4:]
    # 1 where the sample is in front of the pixel, 0 where it is behind by a tenth of its depth.
    before = (0.5 + 5 * (near / own_near.clamp_min(1e-9) - 1)).clamp(0, 1)
    covers = (1 - away / reach.clamp_min(0.5)).clamp_min(0)
    uncovers = (1 - away / own_reach.clamp_min(0.5)).clamp_min(0)
    both = ((reach - away + 0.5).clamp(0, 1)) * ((own_reach - away + 0.5).clamp(0, 1))
    weight = before * covers + (1 - before) * uncovers + 2 * both + 1e-4 * (away < 0.5)
    return (colour * weight[:, None]).sum(2) / weight.sum(1, keepdim=True)


def soften(
    picture: Float[Tensor, "batch frames 3 height width"], sigma: Float[Tensor, "batch"]
) -> Float[Tensor, "batch frames 3 height width"]:
    """A Gaussian of ``sigma`` pixels; about 0 leaves the picture as it is."""
    height, width = picture.shape[-2:]
    down, across = _gaussian(sigma, height), _gaussian(sigma, width)
    return down[:, None, None] @ picture @ across[:, None, None].transpose(-1, -2)


def _gaussian(sigma: Float[Tensor, "batch"], size: int) -> Float[Tensor, "batch size size"]:
    place = torch.arange(size, device=sigma.device, dtype=torch.float32)
    away = (place[:, None] - place) / sigma.clamp_min(0.05)[:, None, None]
    weight = torch.exp(-0.5 * away * away)
    return weight / weight.sum(-1, keepdim=True)


def shift_colours(
    picture: Float[Tensor, "batch frames 3 height width"], shift: Float[Tensor, "batch"]
) -> Float[Tensor, "batch frames 3 height width"]:
    """Red a little larger and blue a little smaller than green: by ``shift`` pixels at the corners of the picture."""
    batch, frames, _, height, width = picture.shape
    relative = shift / (0.5 * (height**2 + width**2) ** 0.5)
    scale = 1 + relative[:, None] * torch.arange(-1, 2, device=shift.device)
    scale = scale[:, None].expand(-1, frames, -1).reshape(-1, 1, 1)
    y = (torch.arange(height, device=shift.device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=shift.device) + 0.5) / width * 2 - 1
    grid = torch.stack([scale * x.expand(height, -1), scale * y[:, None].expand(-1, width)], -1)
    layers = picture.reshape(-1, 1, height, width)
    moved = F.grid_sample(layers, grid, padding_mode="border", align_corners=False)
    return moved.view(batch, frames, 3, height, width)
