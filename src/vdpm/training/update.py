"""From gradients to weights: averaged over ranks, clipped, applied, or skipped where they are not finite.

Whether a step is skipped is decided on the device: the processor never waits for the answer.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from vdpm.training.config import OptimizerConfig
from vdpm.training.optimizer import build_optimizers, set_learning_rate
from vdpm.training.parameters import TrainedParameters, ValueOf

MOMENTS = ("momentum", "exp_avg", "exp_avg_sq")
"""What optimisers keep for each parameter: Muon's momentum, AdamW's two moments."""


class Update:
    """Moves ``parameters`` and their exponential average, which is what is shipped.

    ``norm``: of the last gradient, before clipping. ``bad_steps``: how many were skipped.
    """

    def __init__(self, parameters: TrainedParameters, config: OptimizerConfig) -> None:
        self.parameters, self.config = parameters, config
        self.optimizers = build_optimizers(parameters, config)
        self.average = parameters.copies()
        device = self.average[0].device
        self.norm = torch.zeros((), device=device)
        self.bad_steps = torch.zeros((), device=device)

    def __call__(self, lr: float, decay: float) -> Bool[Tensor, ""]:
        """After the backward pass: one step at the rate ``lr``; the average moves by ``1 - decay`` of its way.

        A gradient that is not finite changes nothing: neither weights nor moments nor average. Returns whether the
        step was taken.
        """
        self.norm = self.parameters.collect_gradients()
        taken = torch.isfinite(self.norm)
        skipped = (~taken).float()
        self.bad_steps += skipped
        self.parameters.scale_gradients((self.config.clip_norm / (self.norm + 1e-6)).clamp(max=1.0))
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, lr)
            optimizer.found_inf = skipped  # type: ignore[attr-defined]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.parameters.average_towards(self.average, (1 - decay) * (1 - skipped))
        return taken

    @property
    def lr(self) -> float:
        """The rate of the last step."""
        return self.optimizers[0].param_groups[0]["lr"]

    def weights(self) -> dict[str, Tensor]:
        """Trained parameters by name, on the CPU, on rank 0; every rank must call it. Likewise those below."""
        return self.parameters.named(lambda tensor: tensor)

    def averages(self) -> dict[str, Tensor]:
        """The averages of the trained parameters."""
        return self.parameters.named(self.parameters.value_in(self.average))

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """What the optimisers keep, by kind and parameter."""
        kinds = [kind for kind in MOMENTS if any(kind in state for o in self.optimizers for state in o.state.values())]
        return {kind: self.parameters.named(self._moment(kind)) for kind in kinds}

    @property
    def updates(self) -> int:
        """Steps that AdamW has taken."""
        return max((int(s["step"]) for o in self.optimizers for s in o.state.values() if "step" in s), default=0)

    def restore(
        self, averages: Mapping[str, Tensor], moments: Mapping[str, Mapping[str, Tensor]], updates: int
    ) -> None:
        """Go on from what ``averages``, ``moments`` and ``updates`` gave; raises ValueError where it does not fit."""
        self.parameters.fill(self.parameters.value_in(self.average), averages)
        expected = {kind for optimizer in self.optimizers for kind in _kinds(optimizer)} if moments else set()
        if set(moments) != expected:
            raise ValueError(f"its optimiser keeps {', '.join(moments)}")
        for optimizer in self.optimizers if moments else ():
            for group in optimizer.param_groups:
                for tensor in group["params"]:
                    state = {kind: torch.zeros_like(tensor) for kind in _kinds(optimizer)}
                    if isinstance(optimizer, torch.optim.AdamW):
                        state["step"] = torch.tensor(float(updates), device=tensor.device)
                    optimizer.state[tensor] = state
        for kind in moments:
            self.parameters.fill(self._moment(kind), moments[kind])

    def _moment(self, kind: str) -> ValueOf:
        states = {id(tensor): state for o in self.optimizers for tensor, state in o.state.items()}
        return lambda tensor: states[id(tensor)].get(kind)


def _kinds(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    return MOMENTS[1:] if isinstance(optimizer, torch.optim.AdamW) else MOMENTS[:1]
