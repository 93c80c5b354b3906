"""Where chosen pixels of a video's first frame go, in 3D, and when something hides them.

    python examples/follow_pixels.py clip.mp4 320,180 500,90 -o tracks.csv

Pixels are x,y of the video itself, whatever size the network works at. tracks.csv has a row for each pixel and time:
seconds, position in the world, position in the video's frame of that time, whether it is seen, confidence. tracks.webp
draws them.
"""

import argparse
import csv
from pathlib import Path

import torch
from PIL import Image, ImageDraw

import vdpm

COLORS = ("#e8a33d", "#4cc3ff", "#ff6b8b", "#8bd450", "#c792ea", "#ffffff")


def pixel(text: str) -> tuple[float, float]:
    """x,y -> its numbers."""
    x, y = map(float, text.split(","))
    return x, y


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("video", type=Path, help="a video, or a folder written by vdpm reconstruct")
parser.add_argument("pixels", nargs="+", metavar="X,Y", type=pixel)
parser.add_argument("-o", "--output", type=Path, default=Path("tracks.csv"))
arguments = parser.parse_args()
if not arguments.output.parent.is_dir():
    parser.error(f"{arguments.output}: there is no folder {arguments.output.parent}; make it first")

saved = (arguments.video / "reconstruction.json").exists()
try:
    result = vdpm.load(arguments.video) if saved else vdpm.reconstruct(arguments.video, progress=True)
except vdpm.VDPMError as error:
    parser.exit(error.exit_code, f"{parser.prog}: error: {error}\n")

height, width = result.transform.source_size
for x, y in arguments.pixels:
    if not (0 <= x < width and 0 <= y < height):
        parser.error(f"pixel {x:g},{y:g} is outside of the video's picture of {width} x {height}")

names = [f"{x:g},{y:g}" for x, y in arguments.pixels]
chosen = torch.tensor(arguments.pixels)
tracks = vdpm.tracks(result, source=0, queries=result.transform.points_to_output(chosen))
in_video = result.transform.points_to_source(tracks.pixels)

with arguments.output.open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["pixel", "frame", "seconds", "x", "y", "z", "video_x", "video_y", "seen", "confidence"])
    for number, name in enumerate(names):
        for row, frame in enumerate(tracks.targets):
            place = [f"{value:.5f}" for value in tracks.points[row, number].tolist()]
            where = [f"{value:.2f}" for value in in_video[row, number].tolist()]
            seen, sure = int(tracks.visible[row, number]), float(tracks.confidence[row, number])
            rows.writerow([name, frame, f"{float(result.timestamps[frame]):.3f}", *place, *where, seen, f"{sure:.2f}"])

pictures = []
zoom = max(1, round(480 / result.size[1]))
for row, frame in enumerate(tracks.targets):
    image = Image.fromarray(result.frames[frame].numpy())
    image = image.resize((image.width * zoom, image.height * zoom), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    for number in range(len(chosen)):
        color = COLORS[number % len(COLORS)]
        way = [(x * zoom, y * zoom) for x, y in tracks.pixels[: row + 1, number].tolist()]
        draw.line(way, fill=color, width=2)
        (x, y), fill = way[-1], color if tracks.visible[row, number] else None
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=fill, outline=color, width=2)
    pictures.append(image)
pictures[0].save(arguments.output.with_suffix(".webp"), save_all=True, append_images=pictures[1:], duration=150, loop=0)

for number, name in enumerate(names):
    steps = (tracks.points[1:, number] - tracks.points[:-1, number]).norm(dim=-1)
    seen = f"seen in {int(tracks.visible[:, number].sum())} of {len(tracks.targets)} frames"
    print(f"{name}: goes {float(steps.sum()):.3f} units, {seen}")
