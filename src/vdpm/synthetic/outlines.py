"""Outlines of extruded things: polygons of twelve corners that are seen whole from their middle."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.synthetic.hashing import constant

CORNERS = 12


def _star(tips: int, inner: float) -> list[tuple[float, float]]:
    corners = []
    for i in range(CORNERS):
        # Where fewer corners are wanted, the rest lie on the straight edges.
        place = i / CORNERS * 2 * tips
        low, share = int(place), place - int(place)
        (ax, ay), (bx, by) = (
            ((1.0, inner)[k % 2] * math.cos(math.pi * k / tips), (1.0, inner)[k % 2] * math.sin(math.pi * k / tips))
            for k in (low, low + 1)
        )
        corners.append((ax + share * (bx - ax), ay + share * (by - ay)))
    return corners


_CROSS = [(1, .33), (.33, .33), (.33, 1), (-.33, 1), (-.33, .33), (-1, .33), (-1, -.33), (-.33, -.33), (-.33, -1),
          (.33, -1), (.33, -.33), (1, -.33)]  # fmt: skip
_ANGLE = [(1.4, -.2), (1.4, .2), (.8, .2), (.2, .2), (.2, .8), (.2, 1.4), (-.2, 1.4), (-.2, .8), (-.2, .2), (-.2, -.2),
          (.2, -.2), (.8, -.2)]  # fmt: skip
_TEE = [(1, -.2), (1, .2), (.6, .2), (-.6, .2), (-1, .2), (-1, -.2), (-.6, -.2), (-.2, -.2), (-.2, -1.4), (.2, -1.4),
        (.2, -.2), (.6, -.2)]  # fmt: skip
_ARROW = [(1, 0), (.5, .4), (0, .8), (0, .3), (-.5, .3), (-1, .3), (-1, 0), (-1, -.3), (-.5, -.3), (0, -.3), (0, -.8),
          (.5, -.4)]  # fmt: skip
_GEAR = [(radius * math.cos(angle), radius * math.sin(angle))
         for k in range(3) for angle, radius in (
             (2 * math.pi * (k + 0.0) / 3, 1.0), (2 * math.pi * (k + 0.4) / 3, 1.0),
             (2 * math.pi * (k + 0.5) / 3, 0.6), (2 * math.pi * (k + 0.9) / 3, 0.6))]  # fmt: skip
_OUTLINES = (
    _star(6, 0.55), _star(4, 0.45), _star(3, 0.5), _star(6, 0.87), _star(3, 0.35), _CROSS, _ANGLE, _TEE, _ARROW, _GEAR,
)  # fmt: skip
"""Stars of six, four and three tips, a near circle, a caltrop, a cross, an L, a T, an arrow, a cam."""


def outlines(choice: Float[Tensor, "*#shape"], u: Float[Tensor, "*shape"]) -> tuple[Tensor, Tensor]:
    """(x, y) of the corner at ``u`` (multiples of 1 / 12) of the outline that ``choice``, in [0, 1), picks."""
    table = constant(tuple(tuple((float(x), float(y)) for x, y in outline) for outline in _OUTLINES), u.device)
    number = (choice * len(_OUTLINES)).long().clamp(0, len(_OUTLINES) - 1)
    corner = torch.round(u * CORNERS).long() % CORNERS
    x, y = table[number.expand_as(corner), corner].unbind(-1)
    return x, y
