"""Memory of a run, told before it: how much one window takes, and how long it may be."""

from vdpm.model import VDPM
from vdpm.structures import Video

GIB = 2**30
SHORTEST_WINDOW = 4


def window_bytes(network: VDPM, num_frames: int, size: tuple[int, int]) -> int:
    """Memory beside weights and video that one window of ``num_frames`` needs at its peak."""
    return 0


def longest_window(network: VDPM, video: Video, max_memory: float | None, wanted: int) -> int:
    """The most frames, up to ``wanted``, that one window may have within ``max_memory`` (GiB; None: any)."""
    return wanted
