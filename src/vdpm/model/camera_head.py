"""The camera head: refines a nine-number pose of every frame in a few steps of one shared trunk."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vdpm.model.config import VDPMConfig
from vdpm.model.layers import Block, Mlp, init_linear

POSE_NUMBERS = 9
"""World-to-camera translation (3), quaternion xyzw (4), vertical and horizontal field of view in radians (2)."""


class CameraHead(nn.Module):
    """Camera tokens of the last pair -> the pose encoding after every refinement step."""

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__()
        dim = config.camera_dim
        self.steps = config.camera_steps
        self.input_proj: nn.Module = nn.Identity() if dim == config.tap_dim else nn.Linear(config.tap_dim, dim)
        self.token_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_NUMBERS))
        self.embed_pose = nn.Linear(POSE_NUMBERS, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.adaln_norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.trunk = nn.ModuleList(
            Block(
                dim,
                config.camera_heads,
                mlp_ratio=config.camera_mlp_ratio,
                layer_scale_init=config.layer_scale_init,
            )
            for _ in range(config.camera_depth)
        )
        self.trunk_norm = nn.LayerNorm(dim)
        self.pose_branch = Mlp(dim, dim // 2, POSE_NUMBERS)
        init_linear(self.trunk)
        if config.init == "scratch":
            # The steps start at the identity with a field of view of about 0.9 rad: ReLU passes no gradient below zero.
            init_linear(self.pose_branch)
            with torch.no_grad():
                self.pose_branch.fc2.bias[6] = 1.0 / self.steps
                self.pose_branch.fc2.bias[7:] = 0.9 / self.steps

    def forward(self, camera_tokens: Float[Tensor, "batch frames channels"]) -> Float[Tensor, "steps batch frames 9"]:
        """All steps' encodings, the last one best, in float32; fields of view pass a ReLU on the way out only."""
        tokens = self.token_norm(self.input_proj(camera_tokens))
        normalized = self.adaln_norm(tokens)
        running: Tensor | None = None
        emitted: list[Tensor] = []
        for _ in range(self.steps):
            previous = self.empty_pose_tokens.expand(*tokens.shape[:2], -1) if running is None else running.detach()
            embedding = self.embed_pose(previous.to(self.embed_pose.weight.dtype))
            shift, scale, gate = self.poseLN_modulation(embedding).chunk(3, dim=-1)
            # Every step starts from the camera token again, not from the last step's result.
            x = gate * ((1 + scale) * normalized + shift) + tokens
            for block in self.trunk:
                x = block(x)
            delta = self._pose(self.trunk_norm(x))
            running = delta if running is None else running + delta
            emitted.append(torch.cat([running[..., :7], F.relu(running[..., 7:])], dim=-1))
        return torch.stack(emitted)

    def _pose(self, x: Tensor) -> Float[Tensor, "batch frames 9"]:
        """The pose branch, its last layer in float32: bfloat16 would round rotations to about half a degree."""
        hidden = F.gelu(self.pose_branch.fc1(x))
        last = self.pose_branch.fc2
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden.float(), last.weight.float(), last.bias.float())
