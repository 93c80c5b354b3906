"""V-DPM: shape, motion, cameras and depth of a video as dynamic point maps, from one network in one pass.

    import vdpm
    result = vdpm.reconstruct("clip.mp4")             # or vdpm.load("result_folder")
    result.maps.at(target=4, source=0).points         # where the pixels of frame 0 are at the time of frame 4
    vdpm.scene_flow(result, source=0, start=0, end=4)

Names load when first used: ``import vdpm`` alone imports neither torch nor the network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vdpm import display

if TYPE_CHECKING:
    from vdpm.archive import load, save
    from vdpm.errors import CheckpointError, InputError, OutputError, UsageError, VDPMError
    from vdpm.export.ply import write_ply
    from vdpm.export.preview import write_preview
    from vdpm.model import VDPM, VDPMConfig
    from vdpm.motion import (
        camera_agreement,
        correspondence,
        depth,
        fuse,
        motion_mask,
        recovered_cameras,
        scene_flow,
        sky,
        tracks,
    )
    from vdpm.reconstruct import reconstruct, reconstruct_scenes
    from vdpm.structures import Cameras, DynamicPointMaps, PointMap, Reconstruction, Snippet, Tracks, Video
    from vdpm.video import read_video, video_from_frames
    from vdpm.viewer.page import write_page

__version__ = "0.1.0"

_HOME_OF = {
    "archive": ("load", "save"),
    "errors": ("CheckpointError", "InputError", "OutputError", "UsageError", "VDPMError"),
    "export.ply": ("write_ply",),
    "export.preview": ("write_preview",),
    "model": ("VDPM", "VDPMConfig"),
    "motion": (
        "camera_agreement",
        "correspondence",
        "depth",
        "fuse",
        "motion_mask",
        "recovered_cameras",
        "scene_flow",
        "sky",
        "tracks",
    ),
    "reconstruct": ("reconstruct", "reconstruct_scenes"),
    "structures": ("Cameras", "DynamicPointMaps", "PointMap", "Reconstruction", "Snippet", "Tracks", "Video"),
    "video": ("read_video", "video_from_frames"),
    "viewer.page": ("write_page",),
}
_MODULE_OF = {name: module for module, names in _HOME_OF.items() for name in names}

__all__ = [
    "VDPM",
    "Cameras",
    "CheckpointError",
    "DynamicPointMaps",
    "InputError",
    "OutputError",
    "PointMap",
    "Reconstruction",
    "Snippet",
    "Tracks",
    "UsageError",
    "VDPMConfig",
    "VDPMError",
    "Video",
    "__version__",
    "camera_agreement",
    "correspondence",
    "depth",
    "fuse",
    "load",
    "motion_mask",
    "read_video",
    "reconstruct",
    "reconstruct_scenes",
    "recovered_cameras",
    "save",
    "scene_flow",
    "sky",
    "tracks",
    "video_from_frames",
    "write_page",
    "write_ply",
    "write_preview",
]


def _lazily(name: str) -> display.Shows:
    """A function of ``vdpm.notebook``, loaded when it is called."""
    return lambda value, **options: getattr(import_module("vdpm.notebook"), name)(value, **options)


display.register("html", _lazily("as_html"))
display.register("page", _lazily("page_view"))


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vdpm' has no attribute {name!r}")
    value = getattr(import_module(f"vdpm.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
