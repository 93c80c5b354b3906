"""The adjustment by Adam, as in DUSt3R's lineage: the same cost and weights as ``adjustment``, to compare with."""

import time
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.geometry.rigid import rigid, rotation_vector_to_matrix
from vdpm.long_video.adjustment import Adjusted
from vdpm.long_video.observations import Observations
from vdpm.long_video.state import LENS, AdjustmentConfig, State, moved
from vdpm.long_video.system import System

RATE = 0.01
"""Learning rate of DUSt3R's and MonST3R's alignment, falling to nothing along a cosine."""


def adjust_by_adam(
    seen: Observations,
    start: State,
    config: AdjustmentConfig | None = None,
    *,
    fixed: Bool[Tensor, "frames"] | None = None,
    steps: int = 300,
) -> Adjusted:
    """``steps`` of Adam on all unknowns but the depths, which stay at their best; weights are renewed every ten."""
    config = config or AdjustmentConfig()
    begin = time.perf_counter()
    if fixed is None:
        fixed = torch.zeros(seen.num_frames, dtype=torch.bool, device=seen.points.device)
    system = System(seen, config, fixed)
    windows = torch.zeros(seen.num_windows, 7, dtype=seen.points.dtype, device=seen.points.device, requires_grad=True)
    frames = torch.zeros(seen.num_frames, 6, dtype=seen.points.dtype, device=seen.points.device, requires_grad=True)
    focal = torch.zeros(1, dtype=seen.points.dtype, device=seen.points.device, requires_grad=True)
    each_focal = torch.zeros(seen.num_frames, dtype=seen.points.dtype, device=seen.points.device, requires_grad=True)
    length = float(system.typical.mean()) * float(start.windows.scale.mean())
    unknowns = [windows, frames]
    unknowns += {"shared": [focal], "per-frame": [each_focal], "fixed": []}[config.focal]
    optimizer = torch.optim.Adam(unknowns, lr=RATE, betas=(0.9, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    free = (~fixed).to(seen.points.dtype)[:, None]

    def state() -> State:
        return _state(start, windows, frames * free, focal + each_focal, length)

    costs, weights = [], system.weights(system.residuals(start))
    for step in range(steps):
        if step % 10 == 0:
            with torch.no_grad():
                weights = system.weights(system.residuals(state()))
        cost = system.squares(system.residuals(state()), weights)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        schedule.step()
        costs.append(float(cost.detach()))
    with torch.no_grad():
        found = state()
        weights = system.weights(system.residuals(found))
    return Adjusted(found, weights.window, weights.entry, costs, time.perf_counter() - begin)


def _state(
    start: State,
    windows: Float[Tensor, "windows 7"],
    frames: Float[Tensor, "frames 6"],
    focal: Float[Tensor, "frames"],
    length: float,
) -> State:
    """``start`` moved by the unknowns; translations are in units of the scene's distance."""
    shift = torch.tensor([length, length, length, 1, 1, 1], dtype=frames.dtype, device=frames.device)
    step = frames * shift
    in_window = torch.cat((windows[:, :3] * (length / start.windows.scale)[:, None], windows[:, 3:]), dim=-1)
    return replace(
        start,
        windows=moved(start.windows, in_window),
        c2w=start.c2w @ rigid(rotation_vector_to_matrix(step[:, 3:]), step[:, :3]),
        log_focal=(start.log_focal + focal).clamp(-LENS, LENS),
    )
