"""Where a patch of one picture lies in another, from a guess that is a few pixels off (Lucas and Kanade)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

LEVELS = ((2.0, 5), (1.0, 4))
"""Blur and half the width of patches, coarse first, in pixels."""
STEPS = 6
"""Of each level."""
LONGEST_STEP = 1.5
EDGE = 0.05
"""Share of a patch's strongest gradient that is added to both directions: along an edge the guess stays."""
ALIKE_NOISE = 3.0
"""Errors of places over what independent noise of pixels would give: neighbours err alike. Measured on made scenes,
over a hundredfold range of texture and for 2 to 60 frames between the pictures, it was 2.8 to 4.3."""
TINY = 1e-18
"""Determinant below which a matrix has no inverse."""
FINEST = 0.05
"""Pixels below which no place is known."""
LEAST_NOISE = 1e-5
"""Mean square of differences between patches, of 1, below which no place is better known: 0.8 of 255 grey levels.
Compression makes a dull patch stand still, and then it differs by nothing at all."""


class Patches(NamedTuple):
    """Surroundings of points in a picture, of n pixels each. ``parts``: their gradient to the right and down, and their
    values, all less their means. ``products``: means of products of any two of these.
    """

    parts: Float[Tensor, "pictures points 3 n"]
    products: Float[Tensor, "pictures points 3 3"]

    def of(self, pictures: Int[Tensor, "some 1"], points: Int[Tensor, "some few"]) -> "Patches":
        """Those of some points of some pictures."""
        number = (pictures * self.parts.shape[1] + points).flatten()
        return Patches(*(part.flatten(0, 1).index_select(0, number).unflatten(0, points.shape) for part in self))


class Matches(NamedTuple):
    """``places``: (x, y) in the other picture. ``alike``: correlation of the patches there. ``sureness``: inverse of
    the covariance of the places, 1 / pixels^2, by the texture and by what differs between the patches: little along an
    edge, and in all directions where there is no texture.
    """

    places: Float[Tensor, "pairs points 2"]
    alike: Float[Tensor, "pairs points"]
    sureness: Float[Tensor, "pairs points 2 2"]


def grey(frames: UInt8[Tensor, "frames height width 3"]) -> Float[Tensor, "frames height width"]:
    """Luma of Rec. 601 in [0, 1]."""
    return (frames.float() @ frames.new_tensor((0.299, 0.587, 0.114), dtype=torch.float32)) / 255


def blurred(pictures: Float[Tensor, "frames height width"], sigma: float) -> Float[Tensor, "frames height width"]:
    """By a Gaussian; borders are continued."""
    reach = round(3 * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    shares = (kernel / kernel.sum()).tolist()
    height, width = pictures.shape[-2:]

    def summed(parts: list[Tensor]) -> Tensor:
        # Picture by picture moved and added: a convolution of a single channel takes several times as long.
        whole = shares[0] * parts[0]
        for share, part in zip(shares[1:], parts[1:]):
            whole.add_(part, alpha=share)
        return whole

    wide = F.pad(pictures[:, None], (reach, reach, 0, 0), mode="replicate")[:, 0]
    across = summed([wide[..., k : k + width] for k in range(len(shares))])
    high = F.pad(across[:, None], (0, 0, reach, reach), mode="replicate")[:, 0]
    return summed([high[:, k : k + height] for k in range(len(shares))])


def cut_patches(
    pictures: Float[Tensor, "pictures height width"], at: Float[Tensor, "*#pictures points 2"], half: int
) -> Patches:
    """Patches around ``at``, ``half`` a width to either side."""
    at = at.expand(len(pictures), *at.shape[-2:]).to(pictures.dtype)
    wide = F.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    right, down = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2, (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2
    sampled = _sampled(
        torch.stack((right, down, pictures), dim=1), at, _grid(half, pictures) * _unit(pictures)[:, None]
    )
    parts = _centred(sampled.transpose(1, 2).contiguous())
    return Patches(parts, parts @ parts.mT / parts.shape[-1])


def match_patches(
    first: Float[Tensor, "pairs height width"],
    second: Float[Tensor, "pairs height width"],
    at: Float[Tensor, "*pairs points 2"],
    guess: Float[Tensor, "pairs points 2"],
    half: int,
    warps: Float[Tensor, "pairs points 3 2"] | None = None,
) -> Matches:
    """Patches of ``first`` around ``at`` in ``second``, from ``guess`` on, as ``Pursuit`` does it."""
    return Pursuit(cut_patches(first, at, half), second, half, warps).matches(guess)


class Pursuit:
    """Patches ``mine`` of some pictures looked for in others, ``second``; contrast may differ by half or twice.

    ``warps``: how the surroundings of a point lie in the second picture: what is u away here is A u / (1 + b u) away
    there, with A the first two rows and b the last; as they are unless told. A wall seen from aside is narrower, and a
    patch that did not follow that would slide along it.
    """

    def __init__(
        self,
        mine: Patches,
        second: Float[Tensor, "pairs height width"],
        half: int,
        warps: Float[Tensor, "pairs points 3 2"] | None = None,
    ) -> None:
        self.mine, self.second = mine, second
        warps = torch.eye(3)[:, :2].to(second).expand(*mine.parts.shape[:2], 3, 2) if warps is None else warps
        self.warps = warps[..., :2, :]
        there = warps @ _grid(half, second)
        self.there = there[..., :2, :] * (_unit(second)[:, None] / (1 + there[..., 2:, :]).clamp(min=0.5))

    def places(self, guess: Float[Tensor, "pairs points 2"]) -> Float[Tensor, "pairs points 2"]:
        """Where the patches lie, from ``guess`` on."""
        parts, products = self.mine
        tensor, count = products[..., :2, :2], parts.shape[-1]
        trace = tensor.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        moves = self.warps @ _inverse(tensor + (EDGE * trace + 1e-9) * torch.eye(2).to(tensor))
        places = guess.to(parts.dtype)
        for _ in range(STEPS):
            other = self._other(places)
            found = (other[..., None, :] @ parts.mT)[..., 0, :] / count
            contrast = _contrast(found[..., 2], _squares(other) / count)
            step = moves @ (products[..., :2, 2] - contrast[..., None] * found[..., :2])[..., None]
            places = places + step[..., 0].clamp(-LONGEST_STEP, LONGEST_STEP)
        return places

    def matches(self, guess: Float[Tensor, "pairs points 2"]) -> Matches:
        """``places``, how alike the patches are there, and how sure the places are."""
        places, values = self.places(guess), self.mine.parts[..., 2, :]
        other, count = self._other(places), values.shape[-1]
        product, squares = (other * values).mean(-1), _squares(other) / count
        alike = product / (squares * self.mine.products[..., 2, 2]).sqrt().clamp(min=1e-9 / count)
        noise = _squares(values - _contrast(product, squares)[..., None] * other) / count
        # Inverse covariance in the first picture, in the second, and with the least error added.
        back = _inverse(self.warps)
        share = count / (ALIKE_NOISE**2 * noise.clamp(min=LEAST_NOISE))
        return Matches(
            places, alike, _limited(back.mT @ self.mine.products[..., :2, :2] @ back * share[..., None, None])
        )

    def _other(self, places: Tensor) -> Float[Tensor, "pairs points n"]:
        """The other pictures' patches at ``places``."""
        return _centred(_sampled(self.second[:, None], places, self.there)[:, 0])


def _determinant(matrix: Float[Tensor, "*any 2 2"]) -> Float[Tensor, "*any"]:
    return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]


def _inverse(matrix: Float[Tensor, "*any 2 2"]) -> Float[Tensor, "*any 2 2"]:
    """In closed form: routines for matrices of any size take longer than a step. Where there is none, any."""
    (a, b), (c, d) = matrix[..., 0, :].unbind(-1), matrix[..., 1, :].unbind(-1)
    area = _determinant(matrix)[..., None, None]
    turned = torch.stack((d, -b, -c, a), dim=-1).unflatten(-1, (2, 2))
    return turned / torch.where(area.abs() < TINY, 1.0, area)


def _limited(sureness: Float[Tensor, "*any 2 2"]) -> Float[Tensor, "*any 2 2"]:
    """With ``FINEST`` added to the error in all directions: S (1 + e S)^-1 = (S + e |S|) / (1 + e tr S + e^2 |S|)."""
    least, trace = FINEST**2, sureness.diagonal(dim1=-2, dim2=-1).sum(-1)
    area = _determinant(sureness).clamp(min=0)
    whole = sureness + torch.diag_embed((least * area)[..., None].expand(*area.shape, 2))
    return whole / (1 + least * trace + least**2 * area)[..., None, None]


def _grid(half: int, like: Tensor) -> Float[Tensor, "2 n"]:
    """Ways to the pixels of a patch from its middle."""
    offset = torch.arange(-half, half + 1).to(like)
    return torch.stack(torch.meshgrid(offset, offset, indexing="xy")).flatten(1)


def _unit(pictures: Float[Tensor, "*any height width"]) -> Float[Tensor, "2"]:
    """A pixel to the right and down, as ``grid_sample`` counts."""
    return 2 / pictures.new_tensor(pictures.shape[:-3:-1])


def _sampled(
    pictures: Float[Tensor, "pictures channels height width"],
    places: Float[Tensor, "pictures points 2"],
    offsets: Float[Tensor, "*any 2 n"],
) -> Float[Tensor, "pictures channels points n"]:
    """``offsets`` in the unit of ``grid_sample``, x and y apart: adding numbers two by two takes far longer."""
    scaled = ((places * _unit(pictures) - 1)[..., None] + offsets).mT
    return F.grid_sample(pictures, scaled, padding_mode="border", align_corners=False)


def _contrast(product: Tensor, squares: Tensor) -> Tensor:
    """By what the other patch is to be multiplied, from means of products with this one and of its squares."""
    return (product / squares.clamp(min=1e-11)).clamp(0.5, 2)


def _squares(values: Float[Tensor, "*any n"]) -> Float[Tensor, "*any"]:
    return torch.linalg.vector_norm(values, dim=-1).square()


def _centred(values: Tensor) -> Tensor:
    return values.sub_(values.mean(-1, keepdim=True))
