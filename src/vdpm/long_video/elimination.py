"""Linear systems of blocks in which each unknown meets few others: solved group after group, along the clip.

Unknowns that meet are neighbours in a graph. Its levels from the first unknown on (those one step away, then two, and
so on) meet only the level before and the one after, so the matrix is block tridiagonal: time and memory grow with the
length of a clip, not with its cube and square. A few unknowns that reach over much of the clip (loops) would make few
and large levels of it; they form a border, solved for last.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Elimination:
    """``levels``: unknowns, each meeting others of its own level, the one before, the one after, and the ``border``."""

    levels: tuple[tuple[int, ...], ...]
    border: tuple[int, ...] = ()

    @property
    def work(self) -> float:
        """Multiplications, about, for blocks of one number."""
        border = len(self.border)
        return border**3 + float(sum(len(level) * (len(level) + border) ** 2 for level in self.levels))


def elimination(meeting: Iterable[tuple[int, int]], spans: Sequence[int]) -> Elimination:
    """The order with the least work. ``meeting``: pairs of unknowns; ``spans``: how far each reaches, such as the
    frames from the first to the last of a window. The farthest, if any, become the border.
    """
    count = len(spans)
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for a, b in meeting:
        if a != b:
            neighbours[a].add(b)
            neighbours[b].add(a)
    best = Elimination(_levels(neighbours, set()))
    farthest_first = sorted(range(count), key=lambda k: -spans[k])
    for limit in sorted({*spans}, reverse=True)[:-1]:
        border = [k for k in farthest_first if spans[k] >= limit]
        if len(border) ** 3 > best.work:
            break
        found = Elimination(_levels(neighbours, {*border}), tuple(sorted(border)))
        best = min(best, found, key=lambda one: one.work)
    return best


def _levels(neighbours: Sequence[set[int]], border: set[int]) -> tuple[tuple[int, ...], ...]:
    """Levels of what is left without ``border``, from the lowest number on; parts that do not meet follow on."""
    reached, levels = set(border), []
    for start in range(len(neighbours)):
        level = [] if start in reached else [start]
        while level:
            reached.update(level)
            levels.append(tuple(level))
            level = sorted({other for one in level for other in neighbours[one]} - reached)
    return tuple(levels)


class BlockSystem:
    """Solves symmetric systems with blocks of ``size`` at ``pairs`` of unknowns, and some dense unknowns more.

    ``pairs`` holds each pair in both orders, and each unknown with itself. The places of blocks are looked up once, so
    that many systems of one pattern are solved fast. Systems must be positive definite.
    """

    def __init__(self, pairs: Int[Tensor, "pairs 2"], spans: Sequence[int], size: int) -> None:
        ends = [(a, b) for a, b in pairs.tolist()]
        self.order, self.size = elimination(ends, spans), size
        groups = [*self.order.levels, self.order.border]
        where = {one: (number, place) for number, group in enumerate(groups) for place, one in enumerate(group)}
        # For each two groups: numbers of their pairs, rows and columns of blocks.
        places: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for number, (a, b) in enumerate(ends):
            (group_a, row), (group_b, column) = where[a], where[b]
            places.setdefault((group_a, group_b), []).append((number, row, column))
        self._places = {key: torch.tensor(rows).T for key, rows in places.items()}
        self._groups = [torch.tensor(group, dtype=torch.long) for group in groups]

    def solve(
        self,
        blocks: Float[Tensor, "pairs size size"],
        rhs: Float[Tensor, "count size"],
        columns: Float[Tensor, "count size dense"],
        corner: Float[Tensor, "dense dense"],
        corner_rhs: Float[Tensor, "dense"],
    ) -> tuple[Float[Tensor, "count size"], Float[Tensor, "dense"]]:
        """The unknowns, and the ``dense`` ones, which meet all by ``columns`` and each other by ``corner``.

        On the processor, whatever device the system is on: it is small, and solved in many steps.
        """
        home = rhs.device
        blocks, rhs, columns = blocks.cpu(), rhs.cpu(), columns.cpu()
        last, size = len(self.order.levels), self.size
        border = size * len(self.order.border)
        rest = border + corner.shape[-1]
        # Of the border and the dense unknowns; the last column is the right hand side.
        end = torch.zeros(rest, rest + 1, dtype=rhs.dtype)
        end[:border, :border] = self._block(blocks, last, last)
        end[:border, border:rest] = columns[self._groups[last]].reshape(border, corner.shape[-1])
        end[border:rest, :border] = end[:border, border:rest].T
        end[border:, border:rest], end[border:, rest] = corner.cpu(), corner_rhs.cpu()
        end[:border, rest] = rhs[self._groups[last]].flatten()

        # Of each level's part L of L L^T, and L^-1 times what stands to its right.
        factors: list[Tensor] = []
        solved: list[Tensor] = []
        carried: Tensor | None = None
        for level in range(last):
            group = self._groups[level]
            width = size * len(group)
            diagonal = self._block(blocks, level, level)
            right = torch.cat(
                (
                    self._block(blocks, level, last),
                    columns[group].reshape(width, corner.shape[-1]),
                    rhs[group].reshape(width, 1),
                ),
                dim=1,
            )
            if carried is not None:
                diagonal = diagonal - carried[:, :width]
                right = right - carried[:, width:]
            coupling = self._block(blocks, level, level + 1) if level + 1 < last else right[:, :0]
            factors.append(_factor(diagonal))
            left = torch.linalg.solve_triangular(factors[-1], torch.cat((coupling, right), dim=1), upper=False)
            solved.append(left)
            onward = coupling.shape[1]
            carried = left[:, :onward].T @ left
            end = end - left[:, onward:-1].T @ left[:, onward:]
        found_end = torch.linalg.solve(end[:, :rest], end[:, rest]) if rest else end[:, 0]

        found = torch.zeros_like(rhs)
        found[self._groups[last]] = found_end[:border].view(-1, size)
        after = rhs.new_zeros(0)
        for level in reversed(range(last)):
            left = solved[level]
            onward = left.shape[1] - rest - 1
            after = left[:, -1] - left[:, onward:-1] @ found_end - left[:, :onward] @ after[:onward]
            after = torch.linalg.solve_triangular(factors[level].T, after[:, None], upper=True)[:, 0]
            found[self._groups[level]] = after.view(-1, size)
        return found.to(home), found_end[border:].to(home)

    def _block(self, blocks: Tensor, rows: int, columns: int) -> Tensor:
        """The part of the matrix between two groups."""
        height, width = len(self._groups[rows]), len(self._groups[columns])
        part = torch.zeros(height, width, self.size, self.size, dtype=blocks.dtype)
        if (places := self._places.get((rows, columns))) is not None:
            number, row, column = places
            part[row, column] = blocks[number]
        return part.transpose(1, 2).reshape(height * self.size, width * self.size)


def _factor(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Cholesky's; where rounding leaves ``matrix`` not positive definite, with a little more on its diagonal."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    more = torch.finfo(matrix.dtype).eps
    while bool(failed) and more < 1:
        factor, failed = torch.linalg.cholesky_ex(
            matrix + more * matrix.diagonal().abs().amax() * torch.eye(len(matrix))
        )
        more *= 10
    return factor
