"""Rows of tables, one for each ray."""

from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.fusing import fusable


@fusable
def rows_of(
    table: Float[Tensor, "many rows fields"], first: Int[Tensor, "*#rays"], second: Int[Tensor, "*#rays"]
) -> Float[Tensor, "fields *rays"]:
    """``table[first, second]``, fields first in memory: all that follows reads whole columns."""
    return table[first, second].movedim(-1, 0).contiguous()
