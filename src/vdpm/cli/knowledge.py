"""Options that say what is known beforehand: lens, poses, a distance."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from vdpm.errors import InputError, UsageError
from vdpm.json_file import read_json

if TYPE_CHECKING:
    import torch

    from vdpm.geometry.image_transform import ImageTransform
    from vdpm.long_video.priors import KnownDistance, Priors


CAMERA_KEYS = ("intrinsics", "c2w")
"""What a file of ``--cameras`` may hold."""


def parse_distance(text: str | None) -> "KnownDistance | None":
    """'0,39,7.5': cameras of frames 0 and 39 are 7.5 apart; '4:120,80,4:200,90,0.6': two pixels (x, y) of frame 4."""
    if text is None:
        return None
    from vdpm.long_video.priors import KnownDistance

    message = f"--distance {text!r}: give FRAME,FRAME,LENGTH or FRAME:X,Y,FRAME:X,Y,LENGTH"
    try:
        if ":" not in text:
            a, b, length = text.split(",")
            return KnownDistance(int(a), int(b), _length(length))
        ends, length = text.rsplit(",", 1)
        first, second = ends.split(",", 2)[:2], ends.split(",", 2)[2].split(",")
        (frame_a, xa), ya = first[0].split(":"), first[1]
        (frame_b, xb), yb = second[0].split(":"), second[1]
        pixels = (float(xa), float(ya)), (float(xb), float(yb))
        return KnownDistance(int(frame_a), int(frame_b), _length(length), *pixels)
    except UsageError:
        raise
    except (ValueError, IndexError):
        raise UsageError(message) from None


def _length(text: str) -> float:
    length = float(text)
    if math.isinf(length):
        raise UsageError(f"--distance: a length of {text} is none; give a number above 0")
    return length


def read_priors(
    focal: float | None, cameras: Path | None, distance: str | None, transform: "ImageTransform", zoom: bool = False
) -> "Priors | None":
    """``focal``: in pixels of the source video, in their heights where they are not square. ``cameras``: a JSON file
    with any of "intrinsics" (3 x 3, or one a frame, pixels of the source) and "c2w" ({"FRAME": 4 x 4}, or a list of one
    a frame). ``zoom``: the focal length changes. None where nothing is known.

    Raises InputError for a file that is not like that or holds anything else, UsageError for options that exclude each
    other.
    """
    import torch

    from vdpm.geometry.pinhole import intrinsics_from_focal
    from vdpm.long_video.priors import Priors

    known = parse_distance(distance)
    if focal is not None and zoom:
        raise UsageError("--focal gives one focal length and --zoom says that there are many; give one of them")
    if focal is None and cameras is None and known is None and not zoom:
        return None
    intrinsics, c2w = None, None
    frames: tuple[int, ...] = ()
    if focal is not None:
        if not 0 < focal < math.inf:
            raise UsageError(f"--focal {focal:g} must be a number of pixels above 0")
        length = torch.tensor(float(focal))
        intrinsics = intrinsics_from_focal(length / transform.pixel_aspect, length, transform.source_size)
    if cameras is not None:
        try:
            content = read_json(cameras, "vdpm reconstruct --help tells what --cameras reads")
            _check_keys(cameras, content)
            if "intrinsics" in content:
                if focal is not None:
                    raise UsageError("--focal and the intrinsics of --cameras exclude each other; give one")
                intrinsics = torch.tensor(content["intrinsics"], dtype=torch.float32)
                if intrinsics.shape[-2:] != (3, 3) or intrinsics.ndim > 3:
                    raise ValueError(f"intrinsics are {[*intrinsics.shape]}, not 3 x 3")
            if "c2w" in content:
                poses = content["c2w"]
                named = poses if isinstance(poses, dict) else dict(enumerate(poses))
                frames = tuple(int(frame) for frame in named)
                c2w = torch.tensor([named[frame] for frame in named], dtype=torch.float64)
                if c2w.shape[1:] != (4, 4):
                    raise ValueError(f"c2w are {[*c2w.shape[1:]]}, not 4 x 4")
            if intrinsics is None and c2w is None and known is None:
                raise ValueError("neither intrinsics nor c2w are in it")
        except (UsageError, InputError):
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{cameras}: not a file of cameras ({error})") from None
    if intrinsics is not None:
        _check_centre(intrinsics, transform.source_size)
        intrinsics = transform.intrinsics_to_output(intrinsics)
    if known is not None and known.pixel_a is not None and known.pixel_b is not None:
        known = _in_output(known, transform)
    return Priors(intrinsics=intrinsics, pose_frames=frames, c2w=c2w, distance=known, shared_focal=not zoom)


def _check_keys(path: Path, content: object) -> None:
    """A key that is not known is one that is misspelt: passed over, its cameras would be looked for as if unknown."""
    known = " and ".join(f'"{key}"' for key in CAMERA_KEYS)
    if not isinstance(content, dict):
        raise ValueError(f"it holds no object with {known}")
    if unknown := [key for key in content if key not in CAMERA_KEYS]:
        named = ", ".join(json.dumps(key[:40]) for key in unknown[:3]) + ", ..." * (len(unknown) > 3)
        raise InputError(f"{path}: unknown {named}; known are {known}: correct or remove what is not")


def _check_centre(intrinsics: "torch.Tensor", size: tuple[int, int]) -> None:
    """Intrinsics of another size of the video have their principal point elsewhere. Raises UsageError where it is
    outside of the picture.
    """
    height, width = size
    centres = intrinsics[..., :2, 2].reshape(-1, 2)
    outside = ~((centres > 0) & (centres < centres.new_tensor([width, height]))).all(dim=-1)
    if bool(outside.any()):
        x, y = centres[outside][0].tolist()
        raise UsageError(
            f"--cameras: the principal point {x:g}, {y:g} is outside of the video's picture of {width} x {height}; "
            "give intrinsics as [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels of this video"
        )


def _in_output(known: "KnownDistance", transform: "ImageTransform") -> "KnownDistance":
    """Pixels of the source video -> of the network's images."""
    from dataclasses import replace

    import torch

    height, width = transform.source_size

    def moved(pixel: tuple[float, float]) -> tuple[float, float]:
        if not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
            named = f"{pixel[0]:g},{pixel[1]:g}"
            raise UsageError(f"--distance: pixel {named} is outside of the video's picture of {width} x {height}")
        x, y = transform.points_to_output(torch.tensor(pixel)).tolist()
        return x, y

    assert known.pixel_a is not None
    assert known.pixel_b is not None
    return replace(known, pixel_a=moved(known.pixel_a), pixel_b=moved(known.pixel_b))
