"""Confidence as a share of the points: which are the least sure tenth, fifth, half."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from vdpm.viewer.choice import SceneChoice

LEVELS = 256
"""Levels of confidence."""


@dataclass(frozen=True, eq=False)
class ConfidenceScale:
    """Confidence as a level of 0 to 255, about as many points in each. ``least``: the confidence where each begins."""

    least: Float[np.ndarray, "levels"]

    @classmethod
    def of_scene(cls, choice: SceneChoice) -> "ConfidenceScale":
        """The scale of all points that are shown of a result."""
        return cls.of(np.concatenate([choice.still.confidence, choice.moving.confidence]).astype(np.float64))

    @classmethod
    def of(cls, confidence: Float[np.ndarray, "points"]) -> "ConfidenceScale":
        """The scale that fits these values best."""
        return cls(np.quantile(confidence, np.arange(LEVELS) / LEVELS))

    def encode(self, confidence: Float[np.ndarray, "points"]) -> UInt8[np.ndarray, "points"]:
        """The level of each; equal confidence, equal level, and more is never a lower one."""
        return np.clip(np.searchsorted(self.least, confidence, side="right") - 1, 0, LEVELS - 1).astype(np.uint8)

    def hiding(self, levels: UInt8[np.ndarray, "points"], percent: float) -> int:
        """The level below which about ``percent`` of the points lie; a level whose middle is within them goes whole."""
        counts = np.bincount(levels, minlength=LEVELS)
        middle = np.cumsum(counts) - counts / 2
        return min(int((middle <= len(levels) * percent / 100).sum()), LEVELS - 1) if percent > 0 else 0


def least_shown(choice: SceneChoice, hide_percent: float) -> float:
    """The confidence below which the least sure ``hide_percent`` of all points lie."""
    scale = ConfidenceScale.of_scene(choice)
    levels = np.concatenate([scale.encode(points.confidence) for points in (choice.still, choice.moving)])
    return float(scale.least[scale.hiding(levels, hide_percent)])
