"""``vdpm evaluate``: a summary over the held-out families, or one of the paper's tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from vdpm.cli.evaluate_families import Families
from vdpm.cli.evaluate_tables import CameraPose, Report, Tracking, TwoView, VideoDepth

WAYS = ("families", "two-view", "tracking", "video-depth", "camera-pose", "report")

_way = tyro.conf.subcommand


@dataclass(frozen=True)
class Evaluate:
    """Score a model. Without a table: the summary over held-out families (``families``)."""

    what: (
        Annotated[Families, _way("families", description="All errors on held-out families, in one go (the default).")]
        | Annotated[TwoView, _way("two-view", description="Table 1: end-point error of pairs of frames.")]
        | Annotated[Tracking, _way("tracking", description="Table 2: end-point error of tracks.")]
        | Annotated[VideoDepth, _way("video-depth", description="Table 3: depth of whole sequences.")]
        | Annotated[CameraPose, _way("camera-pose", description="Table 4: camera paths of whole sequences.")]
        | Annotated[Report, _way("report", description="Several runs in the same tables.")]
    )

    def run(self) -> None:
        self.what.run()


def with_way(arguments: Sequence[str]) -> list[str]:
    """``evaluate`` without a table means ``evaluate families``."""
    words = list(arguments)
    if words[:1] == ["evaluate"] and words[1:2] not in ([way] for way in (*WAYS, "--help", "-h")):
        words.insert(1, "families")
    return words
