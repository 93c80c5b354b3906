"""Passes with the network that an update would hold, so that the trained one learns to live with being stored so."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vdpm.errors import CheckpointError
from vdpm.model.update_grid import UpdateGrid, on_grid
from vdpm.training.parameters import TrainedParameters


class ParametersGrid:
    """``grid`` laid out as the trained ``parameters`` are. Raises CheckpointError for the grid of another network."""

    def __init__(self, parameters: TrainedParameters, grid: UpdateGrid) -> None:
        self._parameters, self.fingerprint = parameters, grid.fingerprint
        self._base, self._scale = parameters.copies(), parameters.copies()
        scales = {name: grid.scale_of(name).expand_as(value) for name, value in grid.base.items()}
        try:
            parameters.fill(parameters.value_in(self._base), grid.base)
            parameters.fill(parameters.value_in(self._scale), scales)
        except ValueError as error:
            raise CheckpointError(f"the update to round as is of another network ({error})") from None

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
