"""The unknowns of the alignment but the depths, and how they are looked for."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vdpm.geometry.alignment import Similarity
from vdpm.geometry.rigid import rotation_vector_to_matrix

LENS = math.log(4.0)
"""Most by which the focal length may leave what the windows say: in a scene that fits nothing it would go anywhere."""


@dataclass(frozen=True)
class AdjustmentConfig:
    """``iterations``: of the solver. ``scale``: errors of more than so many medians weigh little. ``finest``: median
    below which no error is told from noise. ``cameras``: weight of a window's camera head, in sampled points.
    ``lens``: the same of what it says of the focal length. ``focal``: "shared", "per-frame" or "fixed".
    """

    iterations: int = 30
    scale: float = 4.0
    finest: float = 5e-4
    cameras: float = 5.0
    lens: float = 1.0
    focal: str = "shared"


@dataclass(frozen=True, eq=False)
class State:
    """The unknowns but the depths. ``log_focal``: logarithm of the factor on ``intrinsics``' focal lengths."""

    windows: Similarity
    c2w: Float[Tensor, "frames 4 4"]
    log_focal: Float[Tensor, "frames"]
    intrinsics: Float[Tensor, "frames 3 3"]

    def focal_scaled(self) -> Float[Tensor, "frames 3 3"]:
        """Intrinsics with the focal lengths found."""
        k = self.intrinsics.clone()
        k[:, 0, 0] = k[:, 0, 0] * self.log_focal.exp()
        k[:, 1, 1] = k[:, 1, 1] * self.log_focal.exp()
        return k


def moved(windows: Similarity, step: Float[Tensor, "windows 7"]) -> Similarity:
    """S exp(step), to first order in the translation."""
    rotation = rotation_vector_to_matrix(step[:, 3:6])
    turned = (windows.rotation @ step[:, :3, None])[..., 0]
    return Similarity(
        windows.scale * step[:, 6].exp(),
        windows.rotation @ rotation,
        windows.translation + windows.scale[:, None] * turned,
    )
