"""The network: images in, dynamic point maps and cameras out. Tensors only; no files but weights."""

from vdpm.model.config import PRESETS, VDPMConfig, preset_config
from vdpm.model.point_map import PointMaps
from vdpm.model.vdpm import VDPM, SceneTokens, VDPMOutput

__all__ = ["PRESETS", "VDPM", "PointMaps", "SceneTokens", "VDPMConfig", "VDPMOutput", "preset_config"]
