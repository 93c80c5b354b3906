"""Colours as the world has them: most are muted, some are of skin, leaves, wood, stone or cloth, a few are loud."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.hashing import Draws, constant

_GROUPS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "skin": ((224, 172, 140), (198, 134, 98), (141, 85, 60), (90, 56, 40), (240, 205, 180)),
    "leaves": ((86, 110, 48), (60, 90, 40), (110, 125, 60), (50, 70, 35), (130, 140, 80), (40, 60, 30)),
    "earth": ((150, 110, 75), (120, 80, 50), (180, 140, 95), (90, 60, 40), (200, 170, 130), (110, 95, 75)),
    "sand": ((200, 180, 140), (215, 200, 165), (180, 155, 115), (170, 110, 80)),
    "brick": ((150, 80, 60), (170, 95, 70), (120, 65, 50), (185, 150, 115)),
    "grey": ((150, 150, 148), (120, 120, 118), (180, 178, 172), (90, 92, 95), (205, 203, 196), (65, 66, 70)),
    "neutral": ((235, 232, 226), (246, 246, 246), (30, 30, 32), (52, 52, 56), (20, 20, 22), (222, 214, 200)),
    "water": ((110, 150, 200), (70, 100, 150), (150, 180, 205), (60, 90, 95)),
    "cloth": (
        (40, 60, 110), (60, 80, 120), (150, 40, 45), (200, 60, 50), (210, 170, 60), (60, 110, 90), (120, 60, 110),
        (230, 140, 60), (90, 130, 170), (40, 90, 60), (235, 225, 215), (35, 35, 40), (110, 110, 115),
    ),
    "signs": ((220, 30, 40), (20, 60, 170), (245, 200, 0), (0, 130, 60), (240, 110, 20), (0, 140, 190)),
    "fur": ((120, 80, 45), (70, 45, 30), (200, 165, 115), (235, 225, 210), (40, 34, 30), (160, 110, 60)),
}  # fmt: skip
ANCHORS = tuple(colour for group in _GROUPS.values() for colour in group)


def group(*names: str) -> tuple[int, ...]:
    """Indices into ANCHORS of all colours of the named groups."""
    starts, start = {}, 0
    for name, colours in _GROUPS.items():
        starts[name] = range(start, start + len(colours))
        start += len(colours)
    return tuple(index for name in names for index in starts[name])


EVERY = tuple(range(len(ANCHORS)))


def sample_colours(
    draws: Draws, name: str, anchor: Int[Tensor, "batch count"], wild_share: float
) -> Float[Tensor, "batch count 3"]:
    """Linear RGB near the anchors (indices into ANCHORS); a fifth has a random muted hue instead, ``wild_share`` a
    random loud one."""
    count = anchor.shape[1]
    table = constant(ANCHORS, draws.device).float() / 255
    near = table[anchor] * draws.log_uniform(name + ".shade", count, 1, low=0.7, high=1.3)
    near = near * draws.uniform(name + ".tint", count, 3, low=0.93, high=1.07)
    wild = draws.chance(name + ".wild", wild_share, count)
    muted = draws.chance(name + ".muted", 0.2, count)
    hue = draws.uniform(name + ".hue", count)
    saturation = draws.uniform(name + ".saturation", count)
    saturation = torch.where(wild, 0.5 + 0.5 * saturation, 0.5 * saturation.square())
    value = draws.uniform(name + ".value", count, low=0.15, high=0.95)
    shifts = constant((0.0, 2 / 3, 1 / 3), draws.device)
    ramp = ((((hue[..., None] + shifts) % 1.0) * 6 - 3).abs() - 1).clamp(0, 1)
    free = value[..., None] * (1 - saturation[..., None] * (1 - ramp))
    return torch.where((wild | muted)[..., None], free, near).clamp(0.01, 0.97) ** 2.2
