"""What point maps are for, from a Reconstruction alone: flow, tracks, correspondence, motion, fused clouds, cameras.

Everything is in the world of the reference view pi_0 and in the result's own unit unless said otherwise.
"""

from vdpm.motion.cameras import CameraAgreement, camera_agreement, recovered_cameras
from vdpm.motion.cloud import fuse
from vdpm.motion.correspondence import Correspondence, correspondence
from vdpm.motion.flow import displacement, motion_mask, scene_flow
from vdpm.motion.sky import sky, sky_distance
from vdpm.motion.tracks import tracks
from vdpm.motion.views import depth, depth_edges, project_to

__all__ = [
    "CameraAgreement",
    "Correspondence",
    "camera_agreement",
    "correspondence",
    "depth",
    "depth_edges",
    "displacement",
    "fuse",
    "motion_mask",
    "project_to",
    "recovered_cameras",
    "scene_flow",
    "sky",
    "sky_distance",
    "tracks",
]
