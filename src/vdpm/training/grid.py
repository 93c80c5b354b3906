"""Passes with the network that an update would hold, so that the trained one learns to live with being stored so."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vdpm.errors import CheckpointError
from vdpm.model.update_grid import UpdateGrid, on_grid
from vdpm.training.parameters import TrainedParameters

WITHIN = 0.48
"""How far from its integer a weight may begin, in steps; from 0.5 on it would be rounded to the next one."""


class ParametersGrid:
    """``grid`` laid out as the trained ``parameters`` are. Raises CheckpointError for the grid of another network."""

    def __init__(self, parameters: TrainedParameters, grid: UpdateGrid) -> None:
        self._parameters, self.fingerprint, self._held = parameters, grid.fingerprint, grid.held
        self._base, self._scale = parameters.copies(), parameters.copies()
        scales = {name: grid.scale_of(name).expand_as(value) for name, value in grid.base.items()}
        try:
            parameters.fill(parameters.value_in(self._base), grid.base)
            parameters.fill(parameters.value_in(self._scale), scales)
        except ValueError as error:
            raise CheckpointError(f"the update to round as is of another network ({error})") from None

    @torch.no_grad()
    def settle(self) -> None:
        """Move the matrices as little as needed to be rounded to those of the grid's own network, if it has one.

        Its integers may have been chosen together, to change the maps least, where the nearest ones change them more.
        """
        if self._held is None:
            return
        targets = self._parameters.copies()
        self._parameters.fill(self._parameters.value_in(targets), self._held)
        for value, target, scale in zip(self._parameters.values(), targets, self._scale, strict=True):
            inside = torch.clamp(value, target - WITHIN * scale, target + WITHIN * scale)
            value.copy_(torch.where(scale > 0, inside, value))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, the parameters stand on the grid.

        Gradients of what is computed there are taken for those of the parameters themselves (straight through).
        """
        kept = self._parameters.copies()
        with torch.no_grad():
            for value, base, scale in zip(self._parameters.values(), self._base, self._scale, strict=True):
                value.copy_(on_grid(value, base, scale))
        try:
            yield
        finally:
            with torch.no_grad():
                for value, before in zip(self._parameters.values(), kept, strict=True):
                    value.copy_(before)
