"""A video into Blender: its points moving through time, and its camera, with one script to open.

    python examples/to_blender.py clip.mp4 -o blender_scene
    blender --python blender_scene/scene.py -- blender_scene/points.glb

Blender's units are metres where --metres says how long one unit of the result is, measured on something of known size.
"""

import argparse
from pathlib import Path

import vdpm
from vdpm.export.formats import export
from vdpm.export.options import ExportOptions

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("video", type=Path, help="a video, or a folder written by vdpm reconstruct")
parser.add_argument("-o", "--output", type=Path, default=Path("blender_scene"))
parser.add_argument("--metres", type=float, default=1.0, help="length of one unit of the result")
parser.add_argument("--points", type=int, default=100_000, help="at most so many, at every time")
arguments = parser.parse_args()
if not 0 < arguments.metres < float("inf"):
    parser.error(f"--metres {arguments.metres:g} must be above 0, the length of one unit of the result")

saved = (arguments.video / "reconstruction.json").exists()
try:
    result = vdpm.load(arguments.video) if saved else vdpm.reconstruct(arguments.video, progress=True)
except vdpm.VDPMError as error:
    parser.exit(error.exit_code, f"{parser.prog}: error: {error}\n")

arguments.output.mkdir(parents=True, exist_ok=True)
points = ExportOptions(
    scale=arguments.metres, max_points=arguments.points, drop_percent=20.0, drop_sky=True, drop_edges=True
)
camera = ExportOptions(scale=arguments.metres)
for form, name, options in (("glb", "points.glb", points), ("blender", "scene.py", camera)):
    done = export(result, form, arguments.output / name, options, overwrite=True)
    print(f"{done.path}: {'; '.join(done.lines)}")
print(f"now: blender --python {arguments.output / 'scene.py'} -- {arguments.output / 'points.glb'}")
