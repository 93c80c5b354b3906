"""Families of held-out scenes: what networks are scored on, each with its own distribution and its own seeds.

A clip is a snippet of ten frames, two frames of its video apart, as in the paper's Table 2; its frames 0 and 1 are 2
frames of the video apart, 0 and 4 are 8.

``rigid``: objects that fall, bounce, collide, slide and roll before a moving camera, as Kubric's. ``articulated``:
people, animals and cloth among furniture and outdoors, as PointOdyssey's. ``unseen``: shapes and materials that the
training scenes have not at all.
"""

from dataclasses import fields, replace

import torch
from jaxtyping import Int
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.synthetic.config import HELD_OUT_START, SceneConfig
from vdpm.synthetic.kinds import MotionWeights, ShapeShares, SheetWeights
from vdpm.synthetic.looks import MaterialWeights

STRIDE = 2
"""Frames of the video from one frame of a snippet to the next."""
VIDEO_RATE = 24.0
"""Frames a second of the video that snippets are taken from."""
SNIPPETS = 200
"""Snippets of each family."""
SEEDS_PER_FAMILY = 1 << 20
"""Seeds of family k (from 1) start at 2**40 + k * 2**20; below lie those of the bundled clip and of tests."""


def weight_names(weights: type[MaterialWeights] | type[SheetWeights] | type[MotionWeights]) -> tuple[str, ...]:
    """Names of the weights proper, without the shares that stand beside them."""
    return tuple(f.name for f in fields(weights) if not f.name.endswith("_share"))


def untrained(weights: type[MaterialWeights] | type[SheetWeights]) -> dict[str, float]:
    """Weights of what training never draws, and of nothing else: those that are 0 by default are 1, and others 0."""
    trained = weights()
    return {name: float(getattr(trained, name) == 0) for name in weight_names(weights)}


_SNIPPET = SceneConfig(
    num_frames=10,
    frame_stride=(STRIDE, STRIDE),
    height=112,
    width=168,
    colour_samples=1,
    time_step=(1 / VIDEO_RATE, 1 / VIDEO_RATE),
    uneven_share=0.0,
    zoom_share=0.0,
    static_share=0.0,
    dolly_zoom_weight=0.0,
    field_of_view=(35.0, 80.0),
    baseline=(0.04, 0.4),
    travel=(0.3, 4.0),
)
"""What the families share."""

_NO_SHEETS = dict.fromkeys(weight_names(SheetWeights), 0.0)
_NO_MOTIONS = dict.fromkeys(weight_names(MotionWeights), 0.0)

_RIGID = replace(
    _SNIPPET,
    room_weight=0.3,
    open_weight=0.3,
    street_weight=0.1,
    tabletop_weight=0.3,
    moving_share=(0.4, 0.9),
    density=(0.35, 0.9),
    figure_share=0.0,
    second_figure_share=0.0,
    shapes=ShapeShares(crowd_share=0.3, vehicle_share=0.5, stack_share=0.5),
    sheets=SheetWeights(**_NO_SHEETS | {"prism": 1.0}),
    motions=MotionWeights(
        **_NO_MOTIONS
        | {"hop": 1.5, "drop": 2.0, "roll": 1.5, "slide": 1.5}
        | {"straight": 1.0, "spin": 0.5, "top": 0.5},
        soft_share=0.0,
        collision_share=0.5,
        carousel_share=0.0,
    ),
    still_camera_weight=0.0,
    pan_weight=0.0,
    follow_weight=0.0,
    walk_weight=0.0,
)

_ARTICULATED = replace(
    _SNIPPET,
    room_weight=0.5,
    open_weight=0.3,
    street_weight=0.2,
    tabletop_weight=0.0,
    moving_share=(0.1, 0.5),
    density=(0.2, 0.8),
    figure_share=1.0,
    second_figure_share=0.6,
    shapes=ShapeShares(vehicle_share=0.3, crowd_share=0.1),
    sheets=SheetWeights(sheet_share=0.5, prism=0.0),
    motions=MotionWeights(collision_share=0.0),
    still_camera_weight=0.05,
    handheld_weight=0.35,
    follow_weight=0.3,
    walk_weight=0.2,
)

_UNSEEN = replace(
    _SNIPPET,
    moving_share=(0.5, 1.0),
    density=(0.02, 0.2),
    figure_share=0.0,
    second_figure_share=0.0,
    shapes=ShapeShares(
        crowd_share=0.0, vehicle_share=0.0, lathe_share=0.0, superquadric_share=0.0, stack_share=0.0, thin_share=0.0
    ),
    motions=MotionWeights(collision_share=0.0),
    sheets=SheetWeights(sheet_share=1.0, **untrained(SheetWeights)),
    material_weights=MaterialWeights(**untrained(MaterialWeights)),
    still_camera_weight=0.0,
    pan_weight=0.0,
)

FAMILIES: dict[str, SceneConfig] = {"rigid": _RIGID, "articulated": _ARTICULATED, "unseen": _UNSEEN}
"""The distribution of each family's scenes."""


def family_seeds(family: str, count: int = SNIPPETS, start: int = 0) -> Int[Tensor, "count"]:
    """Seeds of snippets ``start`` and on of ``family``, which neither training nor another family draws.

    Raises UsageError for a family that does not exist and for seeds beyond its range.
    """
    if family not in FAMILIES:
        raise UsageError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    if start < 0 or count < 0 or start + count > SEEDS_PER_FAMILY:
        raise UsageError(f"snippets {start} to {start + count} of a family; they are numbered from 0 to 2**20")
    first = HELD_OUT_START + (1 + list(FAMILIES).index(family)) * SEEDS_PER_FAMILY
    return first + start + torch.arange(count)
