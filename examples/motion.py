"""Reconstruct a clip, then ask the result for motion, tracks and depth: python examples/motion.py clip.mp4"""

import sys

import torch

import vdpm

result = vdpm.reconstruct(sys.argv[1], progress=True)
last = len(result) - 1

flow = vdpm.scene_flow(result, source=0, start=0, end=last)
moving = vdpm.motion_mask(result, source=0)
print(f"{moving.float().mean():.1%} of the pixels of frame 0 move; the farthest by {flow.norm(dim=-1).max():.3f} units")

height, width = result.size
queries = torch.tensor([[width / 2, height / 2], [width / 4, height / 2]])
tracks = vdpm.tracks(result, source=0, queries=queries)
for target, points, visible in zip(tracks.targets, tracks.points, tracks.visible):
    seen = "seen" if visible[0] else "hidden"
    print(f"time {float(result.timestamps[target]):6.2f} s: middle pixel of frame 0 at {points[0].tolist()} ({seen})")

depth = vdpm.depth(result, frame=last)
print(f"depth of frame {last}: {depth.min():.2f} to {depth.max():.2f} units")
