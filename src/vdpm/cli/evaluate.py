"""``vdpm evaluate``: a summary over the held-out families, or one of the paper's tables."""

import difflib
from collections.abc import Sequence
from typing import Annotated

import tyro

from vdpm.cli.evaluate_families import Families
from vdpm.cli.evaluate_tables import CameraPose, Report, Tracking, TwoView, VideoDepth
from vdpm.errors import UsageError

WAYS = ("families", "two-view", "tracking", "video-depth", "camera-pose", "report")

_way = tyro.conf.subcommand


Evaluate = (
    Annotated[Families, _way("families", description="All errors on held-out families, in one go (the default).")]
    | Annotated[TwoView, _way("two-view", description="Table 1: end-point error of pairs of frames.")]
    | Annotated[Tracking, _way("tracking", description="Table 2: end-point error of tracks.")]
    | Annotated[VideoDepth, _way("video-depth", description="Table 3: depth of whole sequences.")]
    | Annotated[CameraPose, _way("camera-pose", description="Table 4: camera paths of whole sequences.")]
    | Annotated[Report, _way("report", description="Several runs in the same tables.")]
)
"""Score a model. Verbs of their own, and no class with one of them as its field, whose help tyro would tell twice."""


def with_way(arguments: Sequence[str]) -> list[str]:
    """``evaluate`` without a table means ``evaluate families``. Raises UsageError for a table that there is not."""
    words = list(arguments)
    if words[:1] != ["evaluate"] or words[1:2] in ([way] for way in (*WAYS, "--help", "-h")):
        return words
    if words[1:] and not words[1].startswith("-"):
        near = difflib.get_close_matches(words[1], WAYS, n=1)
        meant = f"did you mean {near[0]}" if near else f"there are {', '.join(WAYS)}"
        raise UsageError(f"evaluate has no {words[1]!r}; {meant}")
    return ["evaluate", "families", *words[1:]]
