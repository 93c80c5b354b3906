"""Seeds to snippets: the front door of the scene generator."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.structures import Snippet
from vdpm.synthetic.config import HELD_OUT_START, SceneConfig
from vdpm.synthetic.fusing import Sizes, fusing
from vdpm.synthetic.looks import SensorConfig
from vdpm.synthetic.render import Pixels, trace, visibility
from vdpm.synthetic.scene import Scene, sample_scenes
from vdpm.synthetic.sensor import develop

_EAGER_RAYS = 1 << 15
"""Rays traced at a time without a compiler, where every step makes a tensor of rays x parts."""
_EAGER_RAYS_ON_GPU = 1 << 19
"""The same on a GPU, where small pieces would leave it waiting: some 2 GiB, and a whole clip of usual size."""
_FUSED_RAYS = 1 << 23
"""Rays traced at a time by fused functions: bounds memory, and keeps rays x parts within 32-bit indices."""


def held_out_seeds(count: int, start: int = 0) -> Int[Tensor, "count"]:
    """Seeds for evaluation: 2**40 + start and on. No training seed is among them."""
    return HELD_OUT_START + start + torch.arange(count)


def training_seeds(start: int, count: int) -> Int[Tensor, "count"]:
    """Seeds start, start + 1, ... for training; raises UsageError where they would reach the held-out ones."""
    if start < 0 or start + count > HELD_OUT_START:
        raise UsageError(f"training seeds {start} to {start + count} leave [0, 2**40); those above are held out")
    return start + torch.arange(count)


class SceneGenerator:
    """Makes batches of clips with exact ground truth.

    With ``compile`` the per-pixel functions are fused by torch.compile (for GPUs): once for all ``sizes`` of clips and
    batches, whatever generator makes them, or sooner for each of few that are ``fixed``. Without it, the work runs in
    pieces of bounded size.
    """

    def __init__(
        self, config: SceneConfig, device: torch.device | str = "cpu", *, compile: bool = False, sizes: Sizes = "open"
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.compile, self.sizes = compile, sizes
        self._render = _render_fused if compile else _render_in_pieces

    @torch.no_grad()
    def __call__(
        self,
        seeds: Int[Tensor, "batch"] | Sequence[int],
        targets: Int[Tensor, "batch targets"] | None = None,
        reference: int = 0,
        *,
        visible: bool = False,
    ) -> Snippet:
        """The clips of ``seeds``, with points at the times of ``targets`` (frame indices; all frames if None).

        The world is the camera of frame ``reference``. Sky is not valid and its points are 0. A pixel is dynamic when
        its point moves by more than 1 % of the clip's mean distance. With ``visible`` the snippet also says which
        points the target frames see, at the cost of a ray for each. Raises UsageError for frames that do not exist.
        """
        seeds = torch.as_tensor(seeds, dtype=torch.long)
        if targets is None:
            targets = torch.arange(self.config.num_frames).expand(len(seeds), -1)
        scene = self.sample(seeds, reference)
        snippet = self.snippet(scene, targets, reference)
        if not visible:
            return snippet
        return replace(snippet, visible=self.visibility(scene, snippet))

    @torch.no_grad()
    def sample(self, seeds: Int[Tensor, "batch"], reference: int | Int[Tensor, "batch"] = 0) -> Scene:
        """The scenes of ``seeds``, each in the world of its ``reference`` frame, on this generator's device."""
        frames = self.config.num_frames
        among = torch.as_tensor(reference)
        if among.device.type == "cpu" and not bool(((among >= 0) & (among < frames)).all()):
            raise UsageError(f"reference frame {among.tolist()} is not among the {frames} frames of a scene")
        if isinstance(reference, Tensor):
            reference = _moved(reference.long(), self.device)
        return sample_scenes(_moved(seeds, self.device), self.config, reference)

    @torch.no_grad()
    def snippet(self, scene: Scene, targets: Int[Tensor, "batch targets"], reference: int = 0) -> Snippet:
        """The clips of ``scene``, which has been sampled for ``reference``, with points at the times of ``targets``."""
        config = self.config
        targets = self._checked(targets)
        images, pixels, dynamic = self.render(scene, targets)
        grid = (config.height, config.width)
        return Snippet(
            images=images,
            timestamps=scene.timestamps,
            c2w=scene.c2w,
            intrinsics=_intrinsics(scene.focal, config.width, config.height),
            points=pixels.points.unflatten(2, grid),
            targets=targets,
            target_points=pixels.target_points.unflatten(3, grid),
            valid=pixels.valid.unflatten(2, grid),
            dynamic=dynamic.unflatten(2, grid),
            instances=pixels.instances.unflatten(2, grid),
            sky=~pixels.valid.unflatten(2, grid),
            reference=reference,
        )

    @torch.no_grad()
    def visibility(self, scene: Scene, snippet: Snippet) -> Bool[Tensor, "batch targets frames height width"]:
        """Which points of a snippet of ``scene`` the target frames see: in the picture and not behind anything."""
        clips = []
        with fusing(self.compile, self.sizes):
            for row in range(len(snippet.targets)):
                one, points = clips_of(scene, row, row + 1), snippet.target_points[row : row + 1].flatten(3, 4)
                seen = visibility(one, snippet.targets[row : row + 1], points, self.config.width, self.config.height)
                clips.append(seen & snippet.valid[row].flatten(1))
        return torch.cat(clips).unflatten(3, (self.config.height, self.config.width))

    @torch.no_grad()
    def render(
        self, scene: Scene, targets: Int[Tensor, "batch targets"]
    ) -> tuple[Float[Tensor, "batch frames 3 height width"], Pixels, Bool[Tensor, "batch frames rays"]]:
        """Images, what tracing gave for each pixel, and which pixels are dynamic."""
        config, targets = self.config, self._checked(targets)
        with fusing(self.compile, self.sizes):
            return self._render(scene, config.sensor, targets, config.width, config.height, config.colour_samples)

    def _checked(self, targets: Int[Tensor, "batch targets"]) -> Int[Tensor, "batch targets"]:
        """On this generator's device; what is there already cannot be checked without waiting for it."""
        frames = self.config.num_frames
        if targets.device.type == "cpu" and targets.numel() and not bool(((targets >= 0) & (targets < frames)).all()):
            raise UsageError(f"targets reach {int(targets.max())}; a scene has frames 0 to {frames - 1}")
        return _moved(targets.long(), self.device)


def generate(
    seeds: Int[Tensor, "batch"] | Sequence[int],
    config: SceneConfig,
    device: torch.device | str = "cpu",
    targets: Int[Tensor, "batch targets"] | None = None,
    reference: int = 0,
    *,
    visible: bool = False,
) -> Snippet:
    """One batch of clips, without compiling; see SceneGenerator."""
    return SceneGenerator(config, device)(seeds, targets, reference, visible=visible)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On ``device``. From pageable memory the copy to a GPU would wait until the GPU has done all it was given."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _intrinsics(focal: Float[Tensor, "batch frames"], width: int, height: int) -> Float[Tensor, "batch frames 3 3"]:
    k = torch.zeros(*focal.shape, 3, 3, device=focal.device)
    k[..., 0, 0] = k[..., 1, 1] = focal * width
    k[..., 0, 2], k[..., 1, 2], k[..., 2, 2] = width / 2, height / 2, 1
    return k


def _grid(width: int, height: int, device: torch.device) -> Float[Tensor, "rays 2"]:
    index = torch.arange(width * height, device=device)
    return torch.stack([index % width + 0.5, index // width + 0.5], -1)


def _render_fused(
    scene: Scene, sensor: SensorConfig, targets: Tensor, width: int, height: int, samples: int
) -> tuple[Tensor, Pixels, Tensor]:
    """In pieces of whole clips, equal in size where the batch allows it."""
    clips, frames = scene.c2w.shape[:2]
    most = max(1, _FUSED_RAYS // (frames * width * height * samples))
    size = -(-clips // -(-clips // most))
    grid = _grid(width, height, targets.device)
    pieces = []
    for start in range(0, clips, size):
        some = clips_of(scene, start, start + size)
        pixels = trace(some, grid, targets[start : start + size], width, height, samples)
        pieces.append((_developed(some, sensor, pixels, width, height), pixels, _dynamic(pixels)))
    if len(pieces) == 1:
        return pieces[0]
    images, traced, dynamic = zip(*pieces)
    return torch.cat(images), Pixels(*[torch.cat(values) for values in zip(*traced)]), torch.cat(dynamic)


def _render_in_pieces(
    scene: Scene, sensor: SensorConfig, targets: Tensor, width: int, height: int, samples: int
) -> tuple[Tensor, Pixels, Tensor]:
    grid = _grid(width, height, targets.device)
    rays = _EAGER_RAYS_ON_GPU if targets.device.type == "cuda" else _EAGER_RAYS
    rows = max(1, rays // scene.c2w.shape[1])
    clips = []
    for b in range(len(targets)):
        one = clips_of(scene, b, b + 1)
        parts = [trace(one, piece, targets[b : b + 1], width, height, samples) for piece in grid.split(rows)]
        axis = {"target_points": 3}
        clips.append(Pixels(*[torch.cat(v, axis.get(n, 2)) for n, v in zip(Pixels._fields, zip(*parts))]))
    images = [_developed(clips_of(scene, b, b + 1), sensor, pixels, width, height) for b, pixels in enumerate(clips)]
    pixels = Pixels(*[torch.cat(values) for values in zip(*clips)])
    return torch.cat(images), pixels, _dynamic(pixels)


def _developed(scene: Scene, sensor: SensorConfig, pixels: Pixels, width: int, height: int) -> Tensor:
    return develop(scene.response, sensor, pixels.radiance, pixels.motion, width, height)


def clips_of(scene: Scene, start: int, stop: int) -> Scene:
    """The scenes from ``start`` to before ``stop``."""

    def pick(value: Tensor | tuple) -> Tensor | tuple:
        if isinstance(value, Tensor):
            return value[start:stop]
        return type(value)(*[pick(v) for v in value])

    return Scene(*[pick(value) for value in scene])  # type: ignore[arg-type]


def _dynamic(pixels: Pixels) -> Tensor:
    distance = pixels.points.norm(dim=-1).sum((1, 2)) / pixels.valid.sum((1, 2)).clamp_min(1)
    return (pixels.displacement > 0.01 * distance[:, None, None]) & pixels.valid
