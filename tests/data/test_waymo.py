"""Waymo's reader against the truth behind the files, and range images against what their layout says."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from native.kubric import field
from native.scenes import assert_is, assert_moved
from native.waymo import QUANTUM, STEP, Drive, doubles, driving_clip, write_waymo

from vdpm.data.quarantine import CorruptFile, Quarantine
from vdpm.data.readers import open_dataset
from vdpm.data.readers.lens import LensCamera
from vdpm.data.readers.protobuf import Message, packed_numbers
from vdpm.data.readers.range_image import beam_inclinations, cell_points, column_azimuths, placed_by_cell
from vdpm.data.readers.waymo import box_of
from vdpm.data.readers.waymo_frame import Boxes, box_numbers, rigid_matrix
from vdpm.data.window import Window
from vdpm.errors import InputError
from vdpm.geometry.pinhole import pixel_grid


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Drive]:
    root = tmp_path_factory.mktemp("waymo")
    return root, write_waymo(root / "validation" / "segment-1_with_camera_labels.tfrecord", driving_clip())


@pytest.mark.parametrize(("frames", "reference"), [([0, 1, 2, 3, 4], 0), ([4, 1, 0], 1)])
def test_is_the_truth(written: tuple[Path, Drive], frames: list[int], reference: int) -> None:
    root, drive = written
    (read,) = open_dataset("waymo", root)
    assert (read.name, read.sparse, read.tracked) == ("validation/segment-1_with_camera_labels.tfrecord", True, True)
    truth = replace(driving_clip(), valid=drive.hit)
    snippet = read.snippet(frames, reference=reference)
    assert_is(snippet, truth, frames, QUANTUM, lossy=True)
    assert (snippet.images - truth.images[frames]).abs().mean() < 0.03
    assert_moved(snippet, truth, frames, drive.known[frames][:, frames], QUANTUM)
    assert snippet.timestamps.tolist() == pytest.approx([frame * STEP / 1e6 for frame in frames], abs=1e-5)
    assert snippet.dynamic.any()


def test_an_object_keeps_its_number_and_the_street_has_none(written: tuple[Path, Drive]) -> None:
    root, drive = written
    (read,) = open_dataset("waymo", root)
    truth = driving_clip()
    snippet = read.snippet([0, 3])
    assert snippet.instances is not None
    assert truth.instances is not None
    still = ((truth.target_points - truth.points).norm(dim=-1).amax(0) < 1e-6) & drive.hit
    for place, frame in enumerate((0, 3)):
        assert (snippet.instances[place][still[frame]] == 0).float().mean() > 0.97
    shown = [set(snippet.instances[place].unique().tolist()) for place in (0, 1)]
    assert shown[0] == shown[1]
    assert len(shown[0]) >= 4


def test_an_object_without_a_label_at_a_time_is_unknown_then(tmp_path: Path) -> None:
    drive = write_waymo(tmp_path / "segment.tfrecord", driving_clip(), without=(3, 2))
    (read,) = open_dataset("waymo", tmp_path)
    snippet = read.snippet([0, 2, 3])
    truth = replace(driving_clip(), valid=drive.hit)
    # In the frame without its label it is taken for street, which its points at other times then are not.
    whole = write_waymo(tmp_path / "other.tfrecord", driving_clip())
    lost = whole.known[2, 0] & ~drive.known[2, 0]
    assert lost.sum() > 100
    assert snippet.target_valid is not None
    assert not snippet.target_valid[1, 0][lost].any()
    known = drive.known[[0, 2, 3]][:, [0, 2, 3]]
    assert torch.equal(snippet.target_valid[:, [0, 2]], known[:, [0, 2]])
    assert_is(snippet, truth, [0, 2, 3], QUANTUM, lossy=True)


def test_a_lens_is_straightened(tmp_path: Path) -> None:
    """Points lie in the pixels of the straightened picture that their own rays go through, to a pixel of the lens."""
    truth, distortion = driving_clip(), (0.12, -0.03, 0.004, -0.006, 0.01)
    k = truth.intrinsics[0].double()
    lens = LensCamera("OPENCV", truth.size, k, distortion)
    assert float((lens.straightened(lens.places()) - pixel_grid(*truth.size, dtype=torch.float64)).abs().max()) < 1e-6
    assert float((lens.places() - pixel_grid(*truth.size, dtype=torch.float64)).abs().max()) > 1.5
    write_waymo(tmp_path / "segment.tfrecord", truth, distortion, taken=lens.places())
    frame = open_dataset("waymo", tmp_path)[0].frame(1)
    rows, columns = frame.valid.nonzero().T
    assert len(rows) > 500
    local = frame.in_camera().movedim(0, -1)[frame.valid]
    x, y = (local[:, :2] / local[:, 2:] * k.diagonal()[:2].float() + k[:2, 2].float()).T
    off = torch.stack((x - columns - 0.5, y - rows - 0.5), -1)
    assert float(off.abs().max()) < 1.3
    assert float(off.mean(0).norm()) < 0.1


@pytest.mark.parametrize("distortion", [(0.0,) * 5, (0.12, -0.03, 0.004, -0.006, 0.01)])
def test_large_pictures_are_decoded_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distortion: tuple[float, ...]
) -> None:
    """For training, at a quarter of their size: colours hardly differ, and nothing else does."""
    truth = driving_clip()
    smooth = torch.nn.functional.avg_pool2d(truth.images, 5, 1, 2, count_include_pad=False)
    write_waymo(tmp_path / "segment.tfrecord", replace(truth, images=smooth), distortion)
    (drive,) = open_dataset("waymo", tmp_path)
    sizes: list[tuple[int, ...]] = []

    def picture(self: Window, image: torch.Tensor, original=Window.picture) -> torch.Tensor:  # type: ignore[no-untyped-def]
        sizes.append(tuple(image.shape[:2]))
        return original(self, image)

    def cut(size: tuple[int, int]) -> Window:
        return Window(5.0, 2.0, 48.0, 36.0, (9, 12))

    monkeypatch.setattr(Window, "picture", picture)
    fast = drive.snippet([0, 2], [1], 0, cut)
    monkeypatch.setattr(Window, "spare", 1)
    slow = drive.snippet([0, 2], [1], 0, cut)
    assert sizes == [(24, 32)] * 2 + [(48, 64)] * 2
    for name, value in vars(slow).items():
        if isinstance(value, torch.Tensor) and name != "images":
            assert torch.equal(getattr(fast, name), value), name
    off = (fast.images - slow.images).abs()
    # A picture that lay half a pixel of the result aside would be off by three times as much.
    aside = (slow.images[..., 1:] + slow.images[..., :-1]) / 2 - slow.images[..., 1:]
    assert float(off.mean()) < 0.35 * float(aside.abs().mean())


def test_range_images_look_where_their_layout_says() -> None:
    """The middle column looks ahead, that at a quarter to the left, at three quarters to the right; rows go down."""
    yaw = 2.58
    mounted = np.eye(4)
    mounted[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    mounted[:3, 3] = (1.4, 0.1, 2.0)
    # Columns of odd number have their middles in those directions.
    azimuths, level = column_azimuths(2002, mounted), np.zeros(1)
    columns = np.array([1000, 1001, 500, 1501])
    points = cell_points(np.full(4, 10.0), 0 * columns, columns, level, azimuths, mounted) - mounted[:3, 3]
    assert points[:2].mean(0).tolist() == pytest.approx([10, 0, 0], abs=1e-3)
    assert points[0, 1] > 0 > points[1, 1]
    assert points[2].tolist() == pytest.approx([0, 10, 0], abs=0.02)
    assert points[3].tolist() == pytest.approx([0, -10, 0], abs=0.02)
    tilts = beam_inclinations(np.array([-0.3, -0.1, 0.05]), 0.0, 0.0, 3)
    assert tilts.tolist() == [0.05, -0.1, -0.3]
    high = cell_points(np.array([10.0]), np.array([0]), columns[:1], tilts, azimuths, mounted)
    assert high[0, 2] == pytest.approx(2.0 + 10 * math.sin(0.05))
    assert beam_inclinations(np.zeros(0), -0.4, 0.2, 3).tolist() == pytest.approx([0.1, -0.1, -0.3])
    with pytest.raises(ValueError, match="2 beams for 3 rows"):
        beam_inclinations(np.zeros(2), 0.0, 0.0, 3)


def test_poses_of_cells_turn_about_z_then_y_then_x() -> None:
    ahead = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]])
    quarter = math.pi / 2
    poses = np.array(
        [[0, 0, quarter, 5, 6, 7], [0, quarter, 0, 0, 0, 0], [quarter, 0, 0, 0, 0, 0], [0, quarter, quarter, 0, 0, 0]]
    )
    found = placed_by_cell(ahead, poses)
    expected = [[5, 7, 7], [0, 0, -1], [0, 0, 1], [0, 0, -1]]
    assert np.abs(found - expected).max() < 1e-9


def test_boxes_hold_what_is_in_them() -> None:
    """Length along the heading; of two boxes that overlap, the one in which the point lies deeper."""
    to_world = np.tile(np.eye(4), (2, 1, 1))
    to_world[0, :2, :2] = [[0, -1], [1, 0]]
    to_world[1, :3, 3] = (0, 2, 0)
    boxes = Boxes(("a", "b"), to_world, np.array([[4.0, 2, 1], [2.0, 2, 1]]))
    points = np.array([[0, 0.4, 0], [0, 1.8, 0], [1.5, 0, 0], [0.9, -1.9, 0.49], [0, 0, 0.6], [0.9, 2.9, 0]])
    assert box_of(points, boxes).tolist() == [0, 1, -1, 0, -1, 1]


def test_of_many_boxes_each_point_finds_its_own() -> None:
    """Against every box asked about every point, far from the origin."""
    draws = np.random.default_rng(4)
    count, far = 60, np.array([4512.3, -2871.6, 31.2])
    heading = draws.uniform(-math.pi, math.pi, count)
    to_world = np.tile(np.eye(4), (count, 1, 1))
    to_world[:, 0, 0] = to_world[:, 1, 1] = np.cos(heading)
    to_world[:, 1, 0], to_world[:, 0, 1] = np.sin(heading), -np.sin(heading)
    to_world[:, :3, 3] = far + draws.uniform(-20, 20, (count, 3)) * (1, 1, 0.1)
    boxes = Boxes(tuple(map(str, range(count))), to_world, draws.uniform(0.5, 6, (count, 3)))
    points = far + draws.uniform(-25, 25, (4000, 3)) * (1, 1, 0.1)
    local = np.einsum("bpi,bij->bpj", points - to_world[:, None, :3, 3], to_world[:, :3, :3])
    outward = np.abs(local / (boxes.sizes[:, None] / 2)).max(-1)
    expected = np.where(outward.min(0) <= 1, outward.argmin(0), -1)
    found = box_of(points, boxes)
    assert np.array_equal(found, expected)
    assert 500 < (found >= 0).sum() < 3500


def test_boxes_in_any_order_of_their_numbers() -> None:
    """As written by protobuf, all seven in order; in another order; packed; given twice; without a heading."""
    parts = [doubles(n, float(n)) for n in range(1, 8)]
    expected = (1.0, 2.0, 3.0, 5.0, 4.0, 6.0, 7.0)
    packed = field(7, parts[6][1:])
    for content in (parts, parts[::-1], [*parts[:6], packed], [doubles(1, 9.0), *parts]):
        assert box_numbers(memoryview(b"".join(content))) == expected
    assert box_numbers(memoryview(b"".join(parts[:6]))) == (*expected[:6], 0.0)
    twice = [*parts[:6], doubles(6, 8.0)]
    assert box_numbers(memoryview(b"".join(twice))) == (*expected[:5], 8.0, 0.0)


def test_packed_numbers_by_the_book() -> None:
    """150 is 96 01 (protobuf's own example); -1 takes ten bytes."""
    content = bytes.fromhex("9601") + b"\x00" + b"\xff" * 9 + b"\x01" + b"\x7f"
    assert packed_numbers(content).view(np.int64).tolist() == [150, 0, -1, 127]
    short = packed_numbers(bytes.fromhex("9601") + b"\x00\x7f" + bytes.fromhex("ff7f8001"))
    assert (short.tolist(), short.dtype) == ([150, 0, 127, 16383, 128], np.uint16)
    longer = packed_numbers(bytes.fromhex("ffff7f05"))
    assert (longer.tolist(), longer.dtype) == ([2**21 - 1, 5], np.uint32)
    assert packed_numbers(b"").tolist() == []
    for wrong in (b"\x96", b"\xff" * 10 + b"\x01"):
        with pytest.raises(ValueError, match="number"):
            packed_numbers(wrong)
    with pytest.raises(ValueError, match="beyond"):
        Message(b"\x0a\x05abc")


def test_transforms_are_rigid() -> None:
    def read(matrix: list[float]) -> np.ndarray:
        return rigid_matrix(Message(doubles(1, *matrix)))

    good = [0.0, -1, 0, 5, 1, 0, 0, 6, 0, 0, 1, 7, 0, 0, 0, 1]
    assert read(good).tolist() == np.reshape(good, (4, 4)).tolist()
    for place, value in ((0, 0.1), (10, -1.0), (12, 5.0), (15, 2.0)):
        with pytest.raises(ValueError, match="no rigid motion"):
            read([*good[:place], value, *good[place + 1 :]])
    with pytest.raises(ValueError, match="16 finite numbers"):
        read([math.nan, *good[1:]])


def test_damaged_drives_are_named(tmp_path: Path, written: tuple[Path, Drive]) -> None:
    (source,) = written[0].rglob("*.tfrecord")
    whole = source.read_bytes()

    def complaint(content: bytes) -> str:
        path = tmp_path / str(len(list(tmp_path.iterdir()))) / "segment.tfrecord"
        path.parent.mkdir()
        path.write_bytes(content)
        with pytest.raises(CorruptFile) as raised:
            open_dataset("waymo", path.parent)[0].snippet([0, 1])
        assert raised.value.path == path
        assert len(str(raised.value).splitlines()) == 1
        return str(raised.value)

    assert "ends within" in complaint(whole[:-9])
    assert "checksum" in complaint(b"\1" + whole[1:])
    assert "holds no frames" in complaint(b"")
    jpeg = whole.index(b"\xff\xd8\xff")
    assert "damaged picture" in complaint(whole[:jpeg] + bytes(400) + whole[jpeg + 400 :])
    packed = whole.index(b"\x78\x9c")
    assert "unpacked" in complaint(whole[: packed + 2] + b"\xff" * 40 + whole[packed + 42 :])
    assert "no frame of Waymo's" in complaint(whole[:12] + b"\xff" * 9000 + whole[9012:])
    assert "no picture of camera 1" in complaint(whole.replace(b"\x08\x01\x12", b"\x08\x04\x12"))
    (tmp_path / "segment.tfrecord").write_bytes(whole)
    (tmp_path / "second.tfrecord").write_bytes(whole[:-9])
    quarantine = Quarantine()
    assert [one.name for one in open_dataset("waymo", tmp_path, quarantine)] == ["segment.tfrecord"]
    assert list(quarantine.files) == [tmp_path / "second.tfrecord"]
    with pytest.raises(InputError, match=r"give the folder of Waymo's"):
        open_dataset("waymo", tmp_path / "nothing")
