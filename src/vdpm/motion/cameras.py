"""Cameras found from the point maps alone, as a check on the network's camera head."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import unit_mean_distance
from vdpm.geometry.camera_recovery import focal_weiszfeld, pose_pnp
from vdpm.geometry.pinhole import intrinsics_from_focal, pixel_grid, square_pixels
from vdpm.geometry.rigid import invert_rigid, rotation_angle, transform_points
from vdpm.structures import Cameras, Reconstruction

PNP_PIXELS = 2000
"""Pixels a frame, evenly spread, that its pose is fitted to. More do not make it better, only slower."""


@dataclass(frozen=True, eq=False)
class CameraAgreement:
    """Cameras of the network's head against those found from its point maps, one entry for each of ``frames``.

    ``rotation``: angle between the two, degrees. ``translation``: distance between their centres, over the mean
    distance of the scene's points from the reference camera. ``focal_ratio``: focal length of the head over that
    of the maps.
    """

    frames: tuple[int, ...]
    rotation: Float[Tensor, "frames"]
    translation: Float[Tensor, "frames"]
    focal_ratio: Float[Tensor, "frames"]

    def line(self) -> str:
        """Medians and worst in one line of text."""
        off = (self.focal_ratio - 1).abs() * 100
        return (
            f"cameras and point maps differ by {self.rotation.median():.2f} deg (worst {self.rotation.max():.2f}), "
            f"{100 * self.translation.median():.2f} % of the scene's distance (worst "
            f"{100 * self.translation.max():.2f}), "
            f"focal length {off.median():.1f} % (worst {off.max():.1f})"
        )


def recovered_cameras(reconstruction: Reconstruction, *, generator: torch.Generator | None = None) -> Cameras:
    """Cameras of the kept sources, in their order, from P_i(t_i, pi_0) alone: c2w and one focal length in the video's
    own pixels (fx / fy is the transform's ``square_ratio``), centred.

    A frame's points at its own time project onto its own pixels whether they move or not, so motion does not disturb
    this. The reference view's points are in its own camera, which gives its focal length (Weiszfeld's median over all
    pixels). With that each frame's pose follows by PnP (RANSAC, robust to wrong points), and then its own focal length
    from its points in the camera found. ``generator`` makes the draws (default: seed 0 for each frame).

    Limit: the pose is found under the focal length of the reference view. Noisy points cannot tell a longer lens
    from a nearer camera, so a lens that zooms is followed in part, and the rest shows as translation.

    Raises UsageError when the reference view is not among the sources, or when points determine no camera.
    """
    maps = reconstruction.maps
    if reconstruction.reference not in maps.sources:
        raise UsageError(
            f"recovering cameras needs the reference view {reconstruction.reference} among the sources; "
            "reconstruct with --sources all"
        )
    size, content = maps.size, reconstruction.content
    ratio = reconstruction.transform.square_ratio
    # A lens of fx / fy = ratio sees the points as one with square pixels sees these.
    stretch = torch.tensor((ratio**0.5, ratio**-0.5, 1.0))
    first = focal_weiszfeld(maps.time_variant(reconstruction.reference).points * stretch, content)
    k = square_pixels(intrinsics_from_focal(first, first, size), ratio)
    spread = content & _spread(size)
    pixels = pixel_grid(*size)[spread]
    poses, intrinsics = [], []
    for source in maps.sources:
        points, confidence = maps.time_variant(source)
        w2c = pose_pnp(points[spread], pixels, k, confidence[spread], generator=generator)
        focal = focal_weiszfeld(transform_points(w2c, points) * stretch, content)
        poses.append(invert_rigid(w2c))
        intrinsics.append(square_pixels(intrinsics_from_focal(focal, focal, size), ratio))
    return Cameras(c2w=torch.stack(poses), intrinsics=torch.stack(intrinsics), size=size)


def camera_agreement(reconstruction: Reconstruction, *, generator: torch.Generator | None = None) -> CameraAgreement:
    """How far the network's cameras are from those its point maps imply (``recovered_cameras``, raises as it does)."""
    frames = reconstruction.maps.sources
    recovered = recovered_cameras(reconstruction, generator=generator)
    c2w = reconstruction.cameras.c2w[list(frames)].float()
    k = reconstruction.cameras.intrinsics[list(frames)].float()
    scene = reconstruction.maps.time_variant(reconstruction.reference).points
    scale = unit_mean_distance(scene, reconstruction.content, batch_axes=0)
    head_focal, recovered_focal = ((m[:, 0, 0] * m[:, 1, 1]).sqrt() for m in (k, recovered.intrinsics))
    return CameraAgreement(
        frames=frames,
        rotation=torch.rad2deg(rotation_angle(c2w[:, :3, :3].mT @ recovered.c2w[:, :3, :3])),
        translation=(c2w[:, :3, 3] - recovered.centers).norm(dim=-1) / scale,
        focal_ratio=head_focal / recovered_focal,
    )


def _spread(size: tuple[int, int]) -> Bool[Tensor, "height width"]:
    """About ``PNP_PIXELS`` pixels on a regular grid."""
    stride = max(1, math.floor(math.sqrt(size[0] * size[1] / PNP_PIXELS)))
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[stride // 2 :: stride, stride // 2 :: stride] = True
    return chosen
