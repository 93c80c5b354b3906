"""What a check of a sequence has found."""

from dataclasses import dataclass, field

from vdpm.data.checks.carry import Carried
from vdpm.data.frame import Frame


@dataclass(frozen=True, eq=False)
class View:
    """A pair of frames to look at: pictures, and how the first one's depth (or its points at the second one's time)
    agrees with the second's."""

    title: str
    first: Frame
    second: Frame
    carried: Carried


@dataclass
class SequenceCheck:
    """``measures`` are plain numbers; ``findings`` is empty where all is well."""

    name: str
    num_frames: int
    measures: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
