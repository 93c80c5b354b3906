"""The formats there are, and writing one: everything beside its place and renamed, so that nothing is half written."""

import json
import os
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from vdpm.archive import is_result
from vdpm.errors import OutputError, UsageError
from vdpm.export.axes import WORLD_AXES, Axes, CameraAxes, follow_world
from vdpm.export.conventions import EXPORT_FORMAT, SIDECAR, as_text, conventions
from vdpm.export.extras import require
from vdpm.export.files import replace_file, replace_folder, replace_path
from vdpm.export.options import ExportOptions
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction

ALWAYS = frozenset({"scale", "start", "end", "frames"})
POINTS = frozenset({"sources", "min_confidence", "drop_percent", "drop_sky", "drop_edges", "stride", "max_points"})
TRACKS = frozenset({"tracks", "track_source"})
NUMBERS = frozenset({"first_frame"})


@dataclass(frozen=True)
class Format:
    """One format. ``suffixes``: of its file, the usual one first; none: it is a folder.

    ``axes``: worlds it can have, the usual one first. ``camera_axes``: None where they follow the world's (OpenCV's in
    an OpenCV world, else OpenGL's), or where there is no camera. ``options``: those it takes beside ``ALWAYS`` and
    axes. ``extra``: the module that it needs and the extra that installs it. ``sidecar``: the file itself has no room
    for conventions, so that they stand beside it.
    """

    summary: str
    module: str
    suffixes: tuple[str, ...] = ()
    axes: tuple[Axes, ...] = ("opencv", "opengl", "y-up", "blender")
    camera_axes: CameraAxes | None = None
    options: frozenset[str] = frozenset()
    extra: tuple[str, str] | None = None
    sidecar: bool = False


_Y_UP: tuple[Axes, ...] = ("y-up", "opengl")

FORMATS: dict[str, Format] = {
    "ply": Format("point clouds, a file for each time", "ply", options=POINTS),
    "glb": Format("animated points and camera, glTF 2.0", "glb", (".glb",), _Y_UP, "opengl", POINTS),
    "usd": Format(
        "animated points with velocities, camera, tracks",
        "usd",
        (".usdc", ".usda", ".usd"),
        ("y-up", "opengl", "blender"),
        "opengl",
        POINTS | TRACKS | NUMBERS,
        ("pxr", "usd"),
    ),
    "colmap": Format(
        "still points, cameras, images, masks for COLMAP and gsplat", "colmap", camera_axes="opencv", options=POINTS
    ),
    "exr": Format(
        "depth and position of every frame, OpenEXR",
        "exr",
        (),
        ("y-up", "opengl", "opencv", "blender"),
        None,
        frozenset({"min_confidence"}),
        ("OpenEXR", "exr"),
    ),
    "depth-png": Format(
        "depth of every frame, PNG of 16 bit",
        "depth_png",
        axes=("opencv",),
        camera_axes="opencv",
        options=frozenset({"min_confidence"}),
    ),
    "npz": Format("everything in one NumPy archive", "npz", (".npz",), options=frozenset({"min_confidence", "stride"})),
    "rrd": Format(
        "a recording for the Rerun viewer",
        "rrd",
        (".rrd",),
        camera_axes="opencv",
        options=POINTS | TRACKS,
        extra=("rerun", "rerun"),
    ),
    "tapvid3d": Format(
        "tracks in the layout of TAPVid-3D",
        "tapvid",
        (".npz",),
        ("opencv",),
        "opencv",
        TRACKS | {"min_confidence", "drop_percent", "drop_sky", "drop_edges"},
    ),
    "tum": Format("the camera's trajectory, TUM RGB-D", "tum", (".txt",)),
    "nuke": Format("the camera's path for Nuke, .chan", "nuke", (".chan",), _Y_UP, "opengl", NUMBERS, sidecar=True),
    "blender": Format(
        "a script that builds camera and scene in Blender", "blender", (".py",), ("blender",), "opengl", NUMBERS
    ),
    "cameras": Format("the camera's path as JSON", "cameras_json", (".json",), options=NUMBERS),
}


@dataclass(frozen=True)
class Exported:
    """``path``: what was written; ``lines``: what it holds; ``said``: its conventions."""

    path: Path
    lines: list[str] = field(default_factory=list)
    said: dict[str, object] = field(default_factory=dict)


def find_format(name: str) -> Format:
    """The format called ``name``. UsageError names those there are."""
    if name not in FORMATS:
        raise UsageError(f"no format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def check_options(name: str, given: frozenset[str]) -> None:
    """Raises UsageError for an option that the format called ``name`` would not heed."""
    chosen = find_format(name)
    for option in sorted(given - ALWAYS - chosen.options - {"axes"}):
        raise UsageError(f"--{option.replace('_', '-')} means nothing for {name}; leave it out")


def choose_axes(name: str, axes: Axes | None) -> Axes:
    """The world's axes of an export. UsageError for axes that the format cannot have."""
    allowed = find_format(name).axes
    if axes is None:
        return allowed[0]
    if axes not in allowed:
        what = WORLD_AXES[allowed[0]] if len(allowed) == 1 else " or ".join(allowed)
        raise UsageError(f"{name} cannot have the axes {axes}: {what} only")
    return axes


def check_place(name: str, output: Path | str, overwrite: bool = False) -> Path:
    """Where the export goes, with the format's suffix where none is given; call it before work that takes long.

    Raises UsageError for a wrong suffix, OutputError for something that may not be replaced.
    """
    chosen, path = find_format(name), Path(output)
    if chosen.suffixes:
        if not path.suffix:
            path = path.with_name(path.name + chosen.suffixes[0])
        if path.suffix.lower() not in chosen.suffixes:
            raise UsageError(f"{path}: {name} is written to {' or '.join(chosen.suffixes)}")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; {name} is one file, choose another name")
    elif path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; {name} is a folder, choose another name")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: {path.parent} is no folder; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: {path.parent} is not writable; choose another place")
    if path.is_dir() and any(path.iterdir()) and not _is_export(path):
        raise OutputError(f"{path}: exists and is no export of vdpm, so it is left alone; choose another")
    beside = [_sidecar(path)] if chosen.sidecar else []
    for taken in (path, *beside):
        if taken.exists() and not overwrite and not (taken.is_dir() and not any(taken.iterdir())):
            raise OutputError(f"{taken}: exists; choose another or pass --overwrite")
    return path


def export(
    reconstruction: Reconstruction,
    to: str,
    output: Path | str,
    options: ExportOptions | None = None,
    *,
    overwrite: bool = False,
    report: Report = silent,
) -> Exported:
    """Write ``reconstruction`` to ``output`` in the format called ``to`` (see ``FORMATS``).

    Conventions stand in the file, or beside it where it has no room for them; a folder holds ``conventions.json``.
    Raises UsageError for an unknown format and options out of range, VDPMError that names the pip command for a package
    that is missing, OutputError where it cannot be written. What was there stays when it fails.
    """
    options = options or ExportOptions()
    chosen = find_format(to)
    axes = choose_axes(to, options.axes)
    path = check_place(to, output, overwrite)
    if chosen.extra is not None:
        require(*chosen.extra)
    camera_axes = chosen.camera_axes or follow_world(axes)
    said = conventions(reconstruction, options, to, axes, None if to == "ply" else camera_axes)
    write = import_module(f"vdpm.export.{chosen.module}").write
    if not chosen.suffixes:
        with replace_folder(path) as folder:
            lines = write(reconstruction, folder, options, axes, said, report)
            (folder / SIDECAR).write_text(as_text(said), encoding="utf-8")
    else:
        with replace_path(path) as beside:
            lines = write(reconstruction, beside, options, axes, said, report)
            if chosen.sidecar:
                with replace_file(_sidecar(path)) as stream:
                    stream.write(as_text(said).encode())
    return Exported(path, lines, said)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _is_export(folder: Path) -> bool:
    """Whether a folder was written here: its conventions say so, and it is no result."""
    if is_result(folder):
        return False
    try:
        said = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("format") == EXPORT_FORMAT
