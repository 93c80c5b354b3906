"""The network: images in, dynamic point maps and cameras out. Tensors only; no files but weights."""

from vdpm.model.config import PRESETS, VDPMConfig, preset_config
from vdpm.model.mirrored import Mirrored, mirrored_once
from vdpm.model.point_map import PointMaps
from vdpm.model.vdpm import VDPM, SceneTokens, VDPMOutput

__all__ = [
    "PRESETS",
    "VDPM",
    "Mirrored",
    "PointMaps",
    "SceneTokens",
    "VDPMConfig",
    "VDPMOutput",
    "mirrored_once",
    "preset_config",
]
