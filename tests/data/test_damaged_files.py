"""Every file of every format cut short, emptied, filled with rubbish or taken away: one line that names it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from native.blended_mvs import write_blended_mvs
from native.kubric import closed_scene, write_kubric_folder, write_movi
from native.pointodyssey import write_pointodyssey
from native.rgbd import write_seven_scenes, write_tum
from native.scannetpp import write_scannetpp
from native.scenes import clip, still_clip
from native.sintel import write_sintel
from native.waymo import driving_clip, write_waymo
from PIL import Image

from vdpm.data import write_snippet
from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers import kubric, open_dataset, pointodyssey, snippet_folders, waymo
from vdpm.errors import InputError

WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "7scenes": ("7scenes", lambda root: write_seven_scenes(root / "room", still_clip())),
    "blendedmvs": ("blendedmvs", lambda root: write_blended_mvs(root / "place", still_clip())),
    "bonn": ("bonn", lambda root: write_tum(root / "rgbd_bonn_balloon2", clip())),
    "kubric": ("kubric", lambda root: write_kubric_folder(root / "0001", closed_scene())),
    "movi": ("kubric", lambda root: write_movi(root / "movi.tfrecord", [closed_scene()])),
    "pointodyssey": ("pointodyssey", lambda root: write_pointodyssey(root / "ani", clip())),
    "pointodyssey, not compressed": (
        "pointodyssey",
        lambda root: write_pointodyssey(root / "ani", clip(), compressed=False),
    ),
    "scannetpp": ("scannetpp", lambda root: write_scannetpp(root / "data" / "room", still_clip())),
    "sintel": ("sintel", lambda root: write_sintel(root, clip())),
    "snippets": ("snippets", lambda root: write_snippet(root / "clip", clip())),
    "tum": ("tum", lambda root: write_tum(root / "rgbd_dataset_freiburg3_walking_xyz", clip())),
    "waymo": ("waymo", lambda root: write_waymo(root / "segment.tfrecord", driving_clip())),
}
DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "cut short": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-3],
    "empty": lambda content: b"",
    "rubbish": lambda content: b"\xff" * len(content),
    "rubbish in the middle": lambda content: content[: len(content) // 3] + bytes(range(256)) + content[-40:],
    "gone": lambda content: None,
}


def forget() -> None:
    for kept in (kubric._example, pointodyssey._tracks, snippet_folders._held):
        kept.cache_clear()
    for kept in (waymo._record, waymo._boxes, waymo._sweep):
        kept.cache_clear()


def complaint(dataset: str, root: Path) -> InputError | None:
    """What is said when a clip is read; None where nothing is wrong, or where fewer frames are left to read."""
    forget()
    try:
        (sequence,) = open_dataset(dataset, root)
        if len(sequence) > 1:
            sequence.snippet([0, 1], [1], 0)
    except InputError as error:
        return error
    return None


@pytest.mark.parametrize("name", WRITERS)
def test_damage_is_told_in_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    dataset, write = WRITERS[name]
    write(tmp_path)
    assert complaint(dataset, tmp_path) is None
    told = 0
    # Files of the first frame, and those of all frames.
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    firsts = {(path.parent, path.suffixes[-1] if path.suffix else "", path.name[:6]): path for path in reversed(files)}
    for path in firsts.values():
        content = path.read_bytes()
        for damage, change in DAMAGE.items():
            damaged = change(content)
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            error = complaint(dataset, tmp_path)
            path.write_bytes(content)
            if error is None:
                continue
            told += 1
            assert len(str(error).splitlines()) == 1, damage
            # A folder stands for what it should hold, a folder's root for all of it.
            named = error.path if isinstance(error, CorruptFile) else tmp_path
            assert str(named) in str(error), damage
            assert named == path or named in path.parents or path.parent in named.parents, (damage, path, named)
    forget()
    assert told >= 3 * len(firsts), f"{told} complaints about {len(firsts)} files"


def test_depth_that_is_no_number_is_not_known(tmp_path: Path) -> None:
    """NaN and infinite, where files hold floats."""
    write_sintel(tmp_path / "sintel", clip())
    write_blended_mvs(tmp_path / "blended" / "place", still_clip())
    scene = closed_scene()
    write_kubric_folder(tmp_path / "kubric" / "0001", scene)
    dpt = tmp_path / "sintel" / "training/depth/alley_2/frame_0001.dpt"
    dpt.write_bytes(dpt.read_bytes()[:12] + np.array([np.nan, np.inf], "<f4").tobytes() + dpt.read_bytes()[20:])
    # The last row comes first.
    pfm = tmp_path / "blended/place/rendered_depth_maps/00000000.pfm"
    head, pixels = pfm.read_bytes()[: -4 * 48 * 64], pfm.read_bytes()[-4 * 48 * 64 :]
    pfm.write_bytes(head + pixels[: -4 * 64] + np.array([np.nan, np.inf], "<f4").tobytes() + pixels[-4 * 62 :])
    distance = scene.distance[0].astype(np.float32)
    distance[0, :2] = (np.nan, np.inf)
    Image.fromarray(distance).save(tmp_path / "kubric/0001/depth_00000.tiff")
    for dataset, root in (("sintel", "sintel"), ("blendedmvs", "blended"), ("kubric", "kubric")):
        (sequence,) = open_dataset(dataset, tmp_path / root)
        snippet = sequence.snippet([0, 1], [1], 0)
        assert not snippet.valid[0, 0, :2].any(), dataset
        assert snippet.valid[0].float().mean() > 0.5
        assert snippet.points.isfinite().all()
        assert snippet.target_points.isfinite().all()
        assert torch.equal(snippet.target_valid[0, 0, 0, :2], torch.zeros(2, dtype=torch.bool))  # type: ignore[index]


def test_counts_that_differ(tmp_path: Path) -> None:
    """Fewer annotations than pictures, or pictures than annotations."""
    write_pointodyssey(tmp_path / "po" / "ani", clip())
    (tmp_path / "po/ani/rgbs/rgb_00004.jpg").unlink()
    with pytest.raises(CorruptFile, match=r"rgbs: holds 4 pictures, anno.npz is of 5 frames"):
        open_dataset("pointodyssey", tmp_path / "po")
    write_kubric_folder(tmp_path / "kubric" / "0001", closed_scene())
    (tmp_path / "kubric/0001/rgba_00004.png").unlink()
    with pytest.raises(CorruptFile, match=r"rgba_00004.png: is missing"):
        open_dataset("kubric", tmp_path / "kubric")[0].frame(4)
    write_blended_mvs(tmp_path / "blended" / "place", still_clip())
    (tmp_path / "blended/place/rendered_depth_maps/00000003.pfm").unlink()
    with pytest.raises(CorruptFile, match=r"00000003.pfm: is missing"):
        open_dataset("blendedmvs", tmp_path / "blended")[0].frame(3)
