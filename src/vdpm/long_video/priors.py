"""What the user knows beforehand: lenses, camera poses, one distance."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.rigid import is_rigid, rotation_angle

COMPARED = 400
"""Known poses, spread over all, that are compared with each other to begin with."""


@dataclass(frozen=True)
class KnownDistance:
    """``length`` between two points of the scene, each a pixel (x, y) of a frame, or between two frames' cameras where
    no pixels are given. The result is in the unit of ``length``.
    """

    frame_a: int
    frame_b: int
    length: float
    pixel_a: tuple[float, float] | None = None
    pixel_b: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.length > 0:
            raise UsageError(f"a known distance of {self.length} must be above 0")
        if (self.pixel_a is None) != (self.pixel_b is None):
            raise UsageError("a known distance is between two pixels or between two cameras; give both pixels or none")
        if self.frame_a == self.frame_b and self.pixel_a == self.pixel_b:
            what = f"frame {self.frame_a}" if self.pixel_a is None else f"a pixel of frame {self.frame_a}"
            raise UsageError(f"{what} is at no distance from itself; give two frames, or two pixels")

    @property
    def pixels(self) -> tuple[tuple[float, float], ...]:
        """Both, or none where the distance is between cameras."""
        return () if self.pixel_a is None or self.pixel_b is None else (self.pixel_a, self.pixel_b)


@dataclass(frozen=True, eq=False)
class Priors:
    """``intrinsics``: of every frame, or one for all, in pixels of the network's images; held fixed.

    ``pose_frames``, ``c2w``: frames whose poses are known, in any common world of the user's; held fixed. Two or more
    with different centres set the scale. ``distance`` sets it where poses do not. ``shared_focal``: one focal length
    for the clip, else one a frame (a lens that zooms); without effect where intrinsics are known.
    """

    intrinsics: Float[Tensor, "*frames 3 3"] | None = None
    pose_frames: tuple[int, ...] = ()
    c2w: Float[Tensor, "known 4 4"] | None = None
    distance: KnownDistance | None = None
    shared_focal: bool = True

    def check(self, num_frames: int) -> None:
        """Raises UsageError for what does not fit a clip of ``num_frames``."""
        if self.intrinsics is not None:
            if self.intrinsics.ndim == 3 and len(self.intrinsics) != num_frames:
                count = len(self.intrinsics)
                raise UsageError(f"{count} known intrinsics do not fit {num_frames} frames; give one each")
            if not bool(self.intrinsics.isfinite().all()):
                raise UsageError("known intrinsics hold something that is not a finite number")
            below = self.intrinsics[..., [1, 2, 2, 2], [0, 0, 1, 2]]
            if not bool(((below - below.new_tensor([0, 0, 0, 1])).abs() < 1e-3).all()):
                raise UsageError("known intrinsics are not rows of [fx, 0, cx], [0, fy, cy], [0, 0, 1]")
            if not bool((self.intrinsics[..., 0, 0] > 0).all() & (self.intrinsics[..., 1, 1] > 0).all()):
                raise UsageError("known intrinsics have a focal length that is not above 0")
        known = 0 if self.c2w is None else len(self.c2w)
        if known != len(self.pose_frames):
            raise UsageError(f"{known} known poses do not fit {len(self.pose_frames)} frames named; give one each")
        if len({*self.pose_frames}) != known:
            raise UsageError("a frame is named twice among the known poses")
        _check_frames("known pose", self.pose_frames, num_frames)
        if self.distance is not None:
            _check_frames("known distance", (self.distance.frame_a, self.distance.frame_b), num_frames)
            if self.sets_scale_by_poses:
                raise UsageError("known poses set the scale already; leave the known distance away")
        if self.c2w is not None and not bool((sound := is_rigid(self.c2w)).all()):
            frame = self.pose_frames[sound.tolist().index(False)]
            raise UsageError(
                f"the known pose of frame {frame} is not a rigid motion; give c2w as four rows, a rotation with the "
                "translation in the last column and 0, 0, 0, 1 below"
            )

    @property
    def sets_scale_by_poses(self) -> bool:
        """Whether known poses have different centres."""
        if self.c2w is None or len(self.c2w) < 2:
            return False
        centres = self.c2w[:, :3, 3].double()
        return float((centres - centres[0]).norm(dim=-1).max()) > 1e-6 * (1 + float(centres.abs().max()))


def into_known_world(
    found: Float[Tensor, "frames 4 4"], known: Float[Tensor, "frames 4 4"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Scale, rotation and translation: world of ``found`` -> that of ``known``, from the same cameras in both.

    Rotations are averaged over the cameras and over the lines between their centres, robustly; two known cameras do,
    and one does but for the scale (then 1).
    """
    every = torch.linspace(0, len(known) - 1, min(len(known), COMPARED)).long()
    found, known = found.double()[every], known.double()[every]
    each = known[:, :3, :3] @ found[:, :3, :3].mT
    # The one that the others agree with most, then the mean of those near it.
    apart = torch.stack([rotation_angle(one.mT @ each) for one in each])
    best = each[apart.median(dim=1).values.argmin()]
    near = rotation_angle(best.mT @ each) < torch.pi / 6
    u, _, vt = torch.linalg.svd(each[near].sum(0))
    sign = torch.eye(3, dtype=torch.float64, device=u.device)
    sign[2, 2] = torch.linalg.det(u @ vt).sign()
    rotation = u @ sign @ vt
    a, b = (rotation @ found[:, :3, 3, None])[..., 0], known[:, :3, 3]
    steps_a, steps_b = (a[:, None] - a).norm(dim=-1), (b[:, None] - b).norm(dim=-1)
    far = steps_b > 0.3 * steps_b.max()
    scale = (steps_b / steps_a.clamp(min=1e-12))[far].median() if bool(steps_b.max() > 0) else torch.ones_like(a[0, 0])
    return scale, rotation, (b - scale * a).median(dim=0).values


def _check_frames(name: str, frames: Sequence[int], num_frames: int) -> None:
    for frame in frames:
        if not 0 <= frame < num_frames:
            raise UsageError(f"{name}: frame {frame} is outside 0..{num_frames - 1}")
