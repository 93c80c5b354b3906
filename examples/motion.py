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
    x, y, z = points[0].tolist()
    seen = "seen" if visible[0] else "hidden"
    print(f"at {float(result.timestamps[target]):.2f} s the middle pixel is at ({x:.3f}, {y:.3f}, {z:.3f}), {seen}")

depth = vdpm.depth(result, frame=last)
print(f"depth of frame {last}: {depth.min():.2f} to {depth.max():.2f} units")
