"""Families of held-out scenes: what networks are scored on, each with its own distribution and its own seeds.

A clip is a snippet of ten frames, two frames of its video apart, as in the paper's Table 2; its frames 0 and 1 are 2
frames of the video apart, 0 and 4 are 8.

``rigid``: objects that fall, bounce, collide, slide and roll before a moving camera, as Kubric's. ``articulated``:
people and animals among furniture and outdoors, as PointOdyssey's. ``unseen``: what training has not at all.
"""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.synthetic.config import HELD_OUT_START, SceneConfig
from vdpm.synthetic.looks import MaterialWeights

STRIDE = 2
"""Frames of the video from one frame of a snippet to the next."""
VIDEO_RATE = 24.0
"""Frames a second of the video that snippets are taken from."""
SNIPPETS = 200
"""Snippets of each family."""
SEEDS_PER_FAMILY = 1 << 20
"""Seeds of family k (from 1) start at 2**40 + k * 2**20; below lie those of the bundled clip and of tests."""

_SNIPPET = SceneConfig(
    num_frames=10,
    height=112,
    width=168,
    colour_samples=3,
    frame_stride=(STRIDE, STRIDE),
    time_step=(1 / VIDEO_RATE, 1 / VIDEO_RATE),
    uneven_share=0.0,
    zoom_share=0.0,
    static_share=0.0,
    baseline=(0.04, 0.4),
    travel=(0.3, 4.0),
)

_RIGID = replace(
    _SNIPPET,
    figure_share=0.0,
    second_figure_share=0.0,
    room_weight=0.3,
    open_weight=0.3,
    street_weight=0.0,
    tabletop_weight=0.4,
    moving_share=(0.4, 0.9),
    density=(0.35, 0.9),
    still_camera_weight=0.0,
    pan_weight=0.0,
    follow_weight=0.0,
    handheld_weight=0.2,
    dolly_weight=0.4,
    orbit_weight=0.4,
)

_ARTICULATED = replace(
    _SNIPPET,
    figure_share=1.0,
    second_figure_share=0.6,
    room_weight=0.5,
    open_weight=0.25,
    street_weight=0.25,
    tabletop_weight=0.0,
    moving_share=(0.0, 0.4),
    density=(0.35, 1.0),
    still_camera_weight=0.05,
    handheld_weight=0.35,
    follow_weight=0.15,
)

_NEW_MATERIALS = MaterialWeights(**{name: float(weight == 0) for name, weight in vars(MaterialWeights()).items()})
"""Those that training never draws, and no others."""

_UNSEEN = replace(
    _SNIPPET,
    material_weights=_NEW_MATERIALS,
    figure_share=0.3,
    second_figure_share=0.3,
    moving_share=(0.4, 0.9),
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
