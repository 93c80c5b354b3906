"""Pixels of each frame looked for in frames after it: where the pictures show them again."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vdpm.long_video.patches import LEVELS, Patches, Pursuit, blurred, cut_patches, grey
from vdpm.long_video.still_scene import Scene

ALIKE = 0.9
"""Correlation from which a patch counts as found."""
ASTRAY = 8.0
"""Pixels from the guess beyond which it does not."""
EDGE = 4.0
"""Pixels from the edge of what shows the video within which nothing is looked for: padding has an edge that stands
still."""
VAGUE = 0.5
"""Pixels of error in the best direction beyond which a patch does not count as found."""
SHRUNK = 3.0
"""Most by which a patch may lie larger or smaller there, in either direction: surfaces seen from aside show little."""
TOGETHER = 32
"""Frames whose pixels are looked for, and whose derivatives are in memory, at once."""


class Sightings(NamedTuple):
    """``places`` (x, y) where the pixels of each frame are found in frames after it. ``sureness``: inverse of
    the covariance of that, 1 / pixels^2; 0 where a pixel was not found.
    """

    places: Float[Tensor, "frames ahead samples 2"]
    sureness: Float[Tensor, "frames ahead samples 2 2"]

    @property
    def sure(self) -> Bool[Tensor, "frames ahead samples"]:
        """Pixels that were found."""
        return self.sureness[..., 0, 0] + self.sureness[..., 1, 1] > 0


class Search:
    """Looks in ``pictures`` for the pixels of a scene, ``ahead`` so many frames after each. ``content``: where pictures
    show the video, if not everywhere.
    """

    def __init__(
        self,
        pictures: UInt8[Tensor, "frames height width 3"],
        scene: Scene,
        ahead: tuple[int, ...],
        content: Bool[Tensor, "height width"] | None,
    ) -> None:
        self.pictures, self.ahead = pictures, ahead
        shown = torch.ones(pictures.shape[1:3], dtype=torch.bool) if content is None else content
        y, x = (shown.any(axis).nonzero()[:, 0] for axis in (1, 0))
        self.low, self.high = torch.stack((x[0], y[0])) + EDGE, torch.stack((x[-1], y[-1])) + 1 - EDGE
        shape = *scene.depth.shape, 2
        places = torch.zeros(shape[0], len(ahead), *shape[1:])
        self.found = Sightings(places, places.new_zeros(*places.shape, 2))

    def look(self, scene: Scene, ahead: tuple[int, ...]) -> None:
        """From where ``scene`` has them, its patches as aslant as it has them."""
        count = len(scene.c2w)
        usable = self._inside(scene.pixels) & scene.followed & (scene.depth > 0)
        for rows in torch.arange(count).split(TOGETHER):
            mine = grey(self.pictures[rows])
            own = [cut_patches(blurred(mine, sigma), scene.pixels, half) for sigma, half in LEVELS]
            for far in ahead:
                kept = rows[rows + far < count]
                if not len(kept):
                    continue
                guess = scene.seen(kept, (kept + far)[:, None]).place[:, 0]
                warps = scene.warps(kept, kept + far)
                sought = usable[kept] & self._inside(guess) & _not_aslant(warps)
                some = sought.any(dim=1)
                if bool(some.any()):
                    self._look(scene, kept[some], far, own, guess[some], warps[some], sought[some])

    def _look(
        self,
        scene: Scene,
        rows: Int[Tensor, "rows"],
        far: int,
        own: list[Patches],
        guess: Tensor,
        warps: Tensor,
        sought: Tensor,
    ) -> None:
        # Of each frame those that are sought, and as many more as the fullest frame has. Far ahead few are.
        some = sought.int().argsort(dim=1, descending=True, stable=True)[:, : int(sought.sum(1).max())]
        each = torch.arange(len(rows))[:, None]
        begin, warps, sought = guess[each, some].float(), warps[each, some].float(), sought[each, some]
        others, mine = grey(self.pictures[rows + far]), (rows % TOGETHER)[:, None]
        coarse, fine = (
            Pursuit(patches.of(mine, some), blurred(others, sigma), half, warps)
            for patches, (sigma, half) in zip(own, LEVELS)
        )
        matches = fine.matches(coarse.places(begin))
        found = matches.places
        sureness = matches.sureness
        clear = sureness.diagonal(dim1=-2, dim2=-1).sum(-1) > 1 / VAGUE**2
        good = sought & clear & (matches.alike > ALIKE) & ((found - begin).norm(dim=-1) < ASTRAY) & self._inside(found)
        place = rows[:, None], self.ahead.index(far), some
        self.found.places[place] = torch.where(good[..., None], found, 0.0)
        self.found.sureness[place] = torch.where(good[..., None, None], sureness, 0.0)

    def _inside(self, places: Float[Tensor, "*any 2"]) -> Bool[Tensor, "*any"]:
        return ((places > self.low) & (places < self.high)).all(-1)


def _not_aslant(warps: Float[Tensor, "*any 3 2"]) -> Bool[Tensor, "*any"]:
    """By the singular values, in closed form."""
    warps = warps[..., :2, :]
    half_sum = warps.square().sum((-1, -2)) / 2
    area = warps[..., 0, 0] * warps[..., 1, 1] - warps[..., 0, 1] * warps[..., 1, 0]
    spread = (half_sum.square() - area.square()).clamp(min=0).sqrt()
    return (half_sum + spread < SHRUNK**2) & (half_sum - spread > 1 / SHRUNK**2) & (area > 0)
