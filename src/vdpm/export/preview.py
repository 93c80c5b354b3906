"""One picture of a result: frames, depth, motion, confidence, the camera path and the fused points.

Pillow alone draws it.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vdpm.export.colors import INFERNO, VIRIDIS, ColorMap, colorize, motion_colors
from vdpm.export.files import replace_file
from vdpm.export.views import FRAME, Viewpoint, camera_colors, draw_cloud, draw_top_view
from vdpm.motion import depth, depth_edges, scene_flow, sky, sky_distance
from vdpm.structures import Reconstruction, evenly

MAX_COLUMNS = 6
GAP = 10
MARGIN = 28
LABEL_WIDTH = 132
LEGEND_WIDTH = 118
WHITE = (255, 255, 255)
INK = (34, 34, 38)
FAINT = (112, 112, 116)

REST = 0.02
"""Motion is never drawn against a full scale below this share of the mean distance: noise would look like motion."""


@dataclass(frozen=True)
class _Row:
    """One row of the picture: what it is called, a second line, one image a column, and its legend (None: none)."""

    title: str
    subtitle: str
    cells: list[UInt8[np.ndarray, "height width 3"]]
    legend: Image.Image | None = None


def write_preview(reconstruction: Reconstruction, path: str | Path) -> None:
    """Write the picture as PNG. Raises OutputError where it cannot be written."""
    image = draw_preview(reconstruction)
    with replace_file(path) as stream:
        image.save(stream, format="PNG", optimize=True)


def draw_preview(reconstruction: Reconstruction) -> Image.Image:
    """Rows of chosen frames with their depth, motion and confidence; below, the cameras from above and the cloud."""
    shown = evenly(reconstruction.maps.sources, MAX_COLUMNS)
    rows = [
        _frames_row(reconstruction, shown),
        _depth_row(reconstruction, shown),
        *_motion_rows(reconstruction, shown),
        _confidence_row(reconstruction, shown),
    ]
    cell = _cell_size(rows[0].cells[0].shape[:2], len(shown))
    columns = max(len(shown), math.ceil(760 / (cell[0] + GAP)))
    width = MARGIN + LABEL_WIDTH + columns * (cell[0] + GAP) + LEGEND_WIDTH + MARGIN
    panel_height = 380
    header, row_height = 74, cell[1] + GAP
    height = header + 20 + len(rows) * row_height + 12 + panel_height + 16 + MARGIN
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)

    _header(image, reconstruction)
    top = header
    for column, frame in enumerate(shown):
        x = MARGIN + LABEL_WIDTH + column * (cell[0] + GAP)
        draw.rectangle((x, top + 3, x + 9, top + 12), fill=camera_colors(len(reconstruction))[frame])
        when = f"frame {frame}  ·  {float(reconstruction.timestamps[frame]):.2f} s"
        _text(image, (x + 16, top - 1), when, 13, FAINT)
    top += 20
    for row in rows:
        _text(image, (MARGIN, top), row.title, 17, INK)
        _text(image, (MARGIN, top + 26), row.subtitle, 12, FAINT)
        for column, pixels in enumerate(row.cells):
            x = MARGIN + LABEL_WIDTH + column * (cell[0] + GAP)
            image.paste(Image.fromarray(pixels).resize(cell, Image.Resampling.LANCZOS), (x, top))
            draw.rectangle((x, top, x + cell[0] - 1, top + cell[1] - 1), outline=FRAME)
        if row.legend is not None:
            image.paste(row.legend, (MARGIN + LABEL_WIDTH + len(shown) * (cell[0] + GAP) + 4, top))
        top += row_height
    _panels(image, reconstruction, shown, top + 12, panel_height)
    return image


def _frames_row(reconstruction: Reconstruction, shown: list[int]) -> _Row:
    cells = [_crop(reconstruction, reconstruction.frames[frame].numpy()) for frame in shown]
    return _Row("Frames", "what the network saw", cells)


def _depth_row(reconstruction: Reconstruction, shown: list[int]) -> _Row:
    maps = [_crop(reconstruction, depth(reconstruction, frame).float().numpy()) for frame in shown]
    seen = np.concatenate([values[values > 0] for values in maps] or [np.ones(1)])
    near, far = (float(np.quantile(seen, q)) for q in (0.02, 0.98)) if len(seen) else (1.0, 2.0)
    far = max(far, near * 1.05)
    span = math.log(far / near)
    cells = [colorize(1 - np.log(np.maximum(values, near * 1e-3) / near) / span, INFERNO) for values in maps]
    ticks = [(f"{near:.2f}", 1.0), (f"{math.sqrt(near * far):.2f}", 0.5), (f"{far:.2f}", 0.0)]
    return _Row("Depth", "z in each frame's\ncamera, from P", cells, _bar(INFERNO, ticks, "units, near\nis bright"))


def _motion_rows(reconstruction: Reconstruction, shown: list[int]) -> list[_Row]:
    """Displacement of every pixel between the first and the last kept time; nothing where no two times are known."""
    targets = reconstruction.maps.targets
    if not targets or len(reconstruction) < 2:
        return []
    flows = []
    for frame in shown:
        start, end = (targets[0], targets[-1]) if len(targets) > 1 else (frame, targets[0])
        flows.append(_crop(reconstruction, scene_flow(reconstruction, frame, start, end).float().numpy()))
    lengths = np.concatenate([np.linalg.norm(flow, axis=-1).ravel() for flow in flows])
    full = max(float(np.quantile(lengths, 0.98)), REST * _mean_distance(reconstruction, shown))
    between = f"{targets[0]} and {targets[-1]}" if len(targets) > 1 else f"its own and {targets[0]}"
    cells = [motion_colors(flow, full) for flow in flows]
    return [_Row("Motion", f"displacement in 3D\nbetween the times\nof frames {between}", cells, _wheel(full))]


def _confidence_row(reconstruction: Reconstruction, shown: list[int]) -> _Row:
    maps = [reconstruction.maps.time_variant(frame).confidence.float().numpy() for frame in shown]
    maps = [_crop(reconstruction, values) for values in maps]
    low = float(min(values.min() for values in maps))
    high = max(float(np.quantile(np.concatenate([v.ravel() for v in maps]), 0.98)), low * 1.05)
    span = math.log(high / low)
    cells = [colorize(np.log(np.maximum(values, low) / low) / span, VIRIDIS) for values in maps]
    ticks = [(f"{high:.1f}", 1.0), (f"{math.sqrt(low * high):.1f}", 0.5), (f"{low:.1f}", 0.0)]
    return _Row("Confidence", "of P, at least 1", cells, _bar(VIRIDIS, ticks, "larger\nis surer"))


def _panels(image: Image.Image, reconstruction: Reconstruction, shown: list[int], top: int, height: int) -> None:
    """The cameras from above, and the shown frames' points in one world, at the first and at the last kept time."""
    c2w = reconstruction.cameras.c2w.double().numpy()
    focal = float(reconstruction.cameras.intrinsics[..., 0, 0].median())
    half_fov = math.atan(reconstruction.size[1] / 2 / focal)
    targets = reconstruction.maps.targets
    times: list[int | None] = [targets[0], targets[-1]] if len(targets) > 1 else [*targets] or [None]
    clouds = _clouds(reconstruction, shown, times)

    room = image.width - 2 * MARGIN - len(times) * GAP
    width = round(room * 0.28) if len(times) > 1 else round(room * 0.42)
    path = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=-1).sum()
    _text(image, (MARGIN, top), "Cameras from above", 17, INK)
    _text(image, (MARGIN, top + 24), f"x right, z up; first frame dark, last light; path {path:.2f} units", 12, FAINT)
    view, scale = draw_top_view(*clouds[0], c2w, half_fov, (width, height - 30))
    image.paste(view, (MARGIN, top + 46))
    _scale_bar(image, MARGIN + 14, top + height, scale, width)

    x = MARGIN + width + GAP
    width = (room - width) // len(times)
    viewpoint = Viewpoint.beside(clouds[0][0], (width, height - 30))
    for target, (points, colors) in zip(times, clouds):
        when = "own times" if target is None else f"the time of frame {target}"
        _text(image, (x, top), f"Points at {when}", 17, INK)
        _text(image, (x, top + 24), "surest 90 % of all shown frames, no sky, no edges; from beside", 12, FAINT)
        cloud = draw_cloud(points, colors, c2w, half_fov, viewpoint, network_width=reconstruction.size[1])
        image.paste(cloud, (x, top + 46))
        x += width + GAP


def _clouds(
    reconstruction: Reconstruction, shown: list[int], times: list[int | None]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points and colours of the shown frames at each of ``times`` (None: at their own): the surest 90 %, without sky
    and edges where that leaves any.
    """
    beyond = sky_distance(reconstruction)
    astray = [sky(reconstruction, frame, beyond=beyond) | depth_edges(depth(reconstruction, frame)) for frame in shown]
    return [_cloud(reconstruction, shown, [mask.numpy() for mask in astray], target) for target in times]


def _cloud(
    reconstruction: Reconstruction, shown: list[int], astray: list[np.ndarray], target: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """One of them, without the pixels ``astray`` of each frame."""
    keep, maps = reconstruction.content.numpy(), reconstruction.maps
    points, colors = [], []
    for frame, out in zip(shown, astray):
        point_map = maps.time_variant(frame) if target is None else maps.at(target, frame)
        sure = point_map.confidence.numpy()
        mask = keep & (sure >= np.quantile(sure[keep], 0.1)) & np.isfinite(point_map.points.numpy()).all(axis=-1)
        clear = mask & ~out
        mask = clear if clear.any() else mask
        points.append(point_map.points.double().numpy()[mask])
        colors.append(reconstruction.frames[frame].numpy()[mask])
    return np.concatenate(points), np.concatenate(colors)


def _header(image: Image.Image, reconstruction: Reconstruction) -> None:
    height, width = reconstruction.size
    seconds = float(reconstruction.timestamps[-1] - reconstruction.timestamps[0])
    model = reconstruction.provenance.get("model", "vdpm")
    targets = len(reconstruction.maps.targets)
    line = (
        f"{_count(len(reconstruction), 'frame')} over {seconds:.2f} s, {width} x {height} pixels; "
        f"{_count(targets, 'time')} kept; {model}; world: camera of frame {reconstruction.reference}, arbitrary scale"
    )
    _text(image, (MARGIN, 14), reconstruction.name, 22, INK)
    _text(image, (MARGIN, 44), line, 13, FAINT)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _bar(color_map: ColorMap, ticks: list[tuple[str, float]], note: str) -> Image.Image:
    """A vertical colour bar with labels at heights in [0, 1], and a note below."""
    image = Image.new("RGB", (LEGEND_WIDTH, 132), WHITE)
    ramp = colorize(np.linspace(1, 0, 84)[:, None].repeat(14, axis=1), color_map)
    image.paste(Image.fromarray(ramp), (2, 6))
    for label, level in ticks:
        y = round(6 + (1 - level) * 83)
        ImageDraw.Draw(image).line((16, y, 20, y), fill=FAINT)
        _text(image, (25, y - 8), label, 13, INK)
    _text(image, (2, 97), note, 12, FAINT)
    return image


def _wheel(full_scale: float) -> Image.Image:
    """The colour wheel of motion: right is right, down is down; full colour at the rim."""
    image = Image.new("RGB", (LEGEND_WIDTH, 132), WHITE)
    radius = 42
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1] / radius
    colors = motion_colors(np.stack([x, y, np.zeros_like(x)], axis=-1), 1.0)
    colors[np.hypot(x, y) > 1] = 255
    image.paste(Image.fromarray(colors), (2, 2))
    _text(image, (2, 92), f"direction in x, y\nrim: {full_scale:.2g} units", 12, FAINT)
    return image


def _text(image: Image.Image, xy: tuple[int, int], text: str, size: int, ink: tuple[int, int, int]) -> None:
    """Text drawn large and reduced: small letters keep their distances."""
    font, factor = ImageFont.load_default(size * 3), 3
    left, top = xy
    for line in text.split("\n"):
        box = (max(1, math.ceil(font.getlength(line))), size * 4)
        mask = Image.new("L", (box[0] + 2 * factor, box[1]), 0)
        ImageDraw.Draw(mask).text((0, 0), line, fill=255, font=font)
        mask = mask.resize((math.ceil(mask.width / factor), math.ceil(mask.height / factor)), Image.Resampling.LANCZOS)
        image.paste(Image.new("RGB", mask.size, ink), (left, top), mask)
        top += round(size * 1.25)


def _scale_bar(image: Image.Image, x: int, y: int, scale: float, width: int) -> None:
    """A bar of a round length, at most a fifth of the panel."""
    target = 0.2 * width / scale
    step = 10 ** math.floor(math.log10(target))
    length = max(factor * step for factor in (1, 2, 5) if factor * step <= target)
    pixels = length * scale
    ImageDraw.Draw(image).line((x, y, x + pixels, y), fill=INK, width=2)
    _text(image, (x, y - 20), f"{length:g} units", 12, INK)


def _mean_distance(reconstruction: Reconstruction, shown: list[int]) -> float:
    points = [_crop(reconstruction, reconstruction.maps.time_variant(frame).points.numpy()) for frame in shown]
    return float(np.mean([np.linalg.norm(p, axis=-1).mean() for p in points]))


def _crop(reconstruction: Reconstruction, values: np.ndarray) -> np.ndarray:
    """The part of a map that shows the video, without padding."""
    rows, columns = np.nonzero(reconstruction.content.numpy())
    return values[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _cell_size(size: tuple[int, int], count: int) -> tuple[int, int]:
    """(width, height) of a cell: as wide as a strip of ``count`` of them allows, and not taller than 250."""
    widest = 250 if count > 3 else 320
    scale = min(widest / size[1], 250 / size[0])
    return max(8, round(size[1] * scale)), max(8, round(size[0] * scale))
