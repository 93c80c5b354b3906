"""ScanNet++: still rooms, an iPhone's film and photographs by a fisheye lens, with depth rendered from a laser scan.

    data/<scene>/iphone/{rgb/frame_000000.jpg, rgb_masks/frame_000000.png, colmap/, render_depth/frame_000000.png}
    data/<scene>/dslr/{resized_images/DSC00000.JPG, resized_anon_masks/DSC00000.png, colmap/, render_depth/DSC00000.png}

``colmap`` holds cameras.txt and images.txt, world to camera. ``render_depth`` comes of the data set's own tool for
rendering its meshes: 16 bit, millimetres, z, 0 unknown, as the lens sees it. Pictures are rid of distortion. Pixels
whose mask is below 255 are not valid; a picture without a mask has none. The film runs at 60 frames a second by
the numbers of its frames; photographs have no times and are numbered as seconds.
"""

from functools import partial
from pathlib import Path
from typing import Literal

import torch

from vdpm.data.frame import Frame
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.colmap import read_cameras, read_images
from vdpm.data.readers.files import list_folders, read_gray, read_rgb
from vdpm.data.readers.lens import mixed_pixels, nearest_pixels
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError
from vdpm.geometry.rigid import invert_rigid

FRAME_RATE = 60.0
_FOLDERS = {"iphone": ("rgb", "rgb_masks"), "dslr": ("resized_images", "resized_anon_masks")}


class ScanNetPPSequence(DataSequence):
    """The film, or the photographs, of one room."""

    static = True

    def __init__(self, scene: Path, device: str) -> None:
        self._folder = scene / device
        self._pictures, self._masks = (self._folder / name for name in _FOLDERS[device])
        self._cameras = read_cameras(self._folder / "colmap" / "cameras.txt")
        path = self._folder / "colmap" / "images.txt"
        images = read_images(path)
        self._names = sorted(images)
        if not images or any("/" in name or camera not in self._cameras for name, (camera, _) in images.items()):
            raise CorruptFile(path, "names no pictures, or some of unknown cameras or in other folders")
        self._images = images
        numbers = [Path(name).stem.removeprefix("frame_") for name in self._names]
        filmed = device == "iphone" and all(number.isdecimal() for number in numbers)
        times = [int(number) / FRAME_RATE for number in numbers] if filmed else [*range(len(numbers))]
        seconds = torch.tensor(times, dtype=torch.float64)
        super().__init__(scene.name, seconds - seconds[0])

    def frame(self, index: int) -> Frame:
        name = self._names[index]
        camera_id, w2c = self._images[name]
        camera = self._cameras[camera_id]
        stem = f"{Path(name).stem}.png"
        depth_path, mask_path = self._folder / "render_depth" / stem, self._masks / stem
        picture, depth = read_rgb(self._pictures / name), read_gray(depth_path) / 1000
        mask = read_gray(mask_path) if mask_path.is_file() else torch.full_like(depth, 255)
        for path, one in ((self._pictures / name, picture), (depth_path, depth), (mask_path, mask)):
            if tuple(one.shape[:2]) != camera.size:
                raise CorruptFile(path, f"is {[*one.shape[:2]]} high and wide, its camera {[*camera.size]}")
        places = camera.kept_places()
        row, column, inside = nearest_pixels(places, camera.size)
        valid = inside & (depth[row, column] > 0) & (mask[row, column] == 255)
        image = picture if camera.model == "PINHOLE" else mixed_pixels(picture, places)
        return Frame(image, depth[row, column], valid, invert_rigid(w2c), camera.intrinsics)


def open_scannetpp(
    root: Path, quarantine: Quarantine | None = None, device: Literal["iphone", "dslr"] = "iphone"
) -> list[DataSequence]:
    """The rooms under ``root``, which holds ``data`` or is it, or the one room that it is.

    Raises InputError where there are none.
    """
    data = root / "data" if (root / "data").is_dir() else root
    scenes = [data] if (data / device).is_dir() else list_folders(data, "give ScanNet++'s folder, which holds data")
    scenes = [scene for scene in scenes if (scene / device / "colmap" / "images.txt").is_file()]
    if not scenes:
        raise InputError(f"{root}: no scene in it holds {device}/colmap/images.txt; give ScanNet++'s folder")
    return open_each([partial(ScanNetPPSequence, scene, device) for scene in scenes], quarantine)
