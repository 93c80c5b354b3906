"""A clip through a tiny network of random weights: everything around the network is checked, what it says is not."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import vdpm
from fixtures.clips import picture, write_clip
from fixtures.tiny_network import tiny_network
from vdpm.cli.demo import BUNDLED
from vdpm.errors import CheckpointError, InputError, OutputError, UsageError, VDPMError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.geometry.pinhole import pixel_grid, project
from vdpm.geometry.rigid import transform_points
from vdpm.long_video.windows import WindowConfig
from vdpm.model import VDPM
from vdpm.structures import Reconstruction, Video
from vdpm.synthetic.demo_clip import load_ground_truth


@pytest.fixture(scope="module")
def network() -> VDPM:
    return tiny_network()


@pytest.fixture(scope="module")
def video() -> Video:
    frames = torch.stack([torch.from_numpy(picture(i)) for i in range(4)])
    return Video(frames, torch.arange(4) / 10, torch.arange(4), ImageTransform.identity((48, 64)), name="stripes")


@pytest.fixture(scope="module")
def result(network: VDPM, video: Video) -> Reconstruction:
    return vdpm.reconstruct(video, model=network)


def test_stripes_tell_a_network_that_knows_nothing_nothing(result: Reconstruction) -> None:
    assert result.provenance["cameras"] == "by the network alone"


def test_a_clip_that_was_seen_follows_its_pictures(tmp_path: Path) -> None:
    """The bundled clip: cameras nearer to the truth, every point on its pixel's ray, in memory as on disk."""
    options: dict[str, Any] = {"sources": [9, 3], "reference": 5, "targets": [8]}
    alone = vdpm.reconstruct(BUNDLED / "clip.mp4", windows=WindowConfig(sight=False), **options)
    result = vdpm.reconstruct(BUNDLED / "clip.mp4", **options)
    assert alone.provenance["cameras"] == "by the network alone"
    assert result.provenance["cameras"] == "by the pictures"
    true = load_ground_truth(BUNDLED / "truth.npz").c2w
    turns = (true[5].T @ true)[:, :3, :3]
    errors = [(one.cameras.c2w[:, :3, :3] - turns).norm(dim=(1, 2)).mean() for one in (alone, result)]
    assert errors[1] < 0.7 * errors[0]
    for source in (3, 9):
        points = result.maps.time_variant(source).points
        local = transform_points(result.cameras.w2c[source], points.flatten(0, 1))
        places, _ = project(local, result.cameras.intrinsics[source])
        assert (places - pixel_grid(*result.size).flatten(0, 1)).norm(dim=-1).median() < 0.1
        still = (alone.maps.at(8, source).points - alone.maps.time_variant(source).points).norm(dim=-1)
        now = (result.maps.at(8, source).points - points).norm(dim=-1)
        assert torch.allclose(still.median(), now.median(), rtol=0.2, atol=1e-3)
    written = vdpm.reconstruct(BUNDLED / "clip.mp4", output=tmp_path / "out", **options)
    assert torch.equal(written.cameras.c2w, result.cameras.c2w)
    assert torch.equal(written.maps.at(8, 9).points, result.maps.at(8, 9).points)


def test_maps_are_those_of_the_network(network: VDPM, video: Video, result: Reconstruction) -> None:
    with torch.no_grad():
        tokens = network.encode(video.images()[None])
        own = network.time_variant(tokens)
        moved = network.decode(tokens, 2)
    assert torch.allclose(result.maps.time_variant(1).points, own.points[0, 1], rtol=1e-3, atol=1e-4)
    assert torch.allclose(result.maps.time_invariant(2, 1).points, moved.points[0, 1], rtol=1e-3, atol=1e-4)
    assert torch.allclose(result.maps.time_invariant(2, 1).confidence, moved.confidence[0, 1], rtol=1e-3)
    assert result.maps.targets == result.maps.sources == (0, 1, 2, 3)


def test_the_times_differ(result: Reconstruction) -> None:
    assert not torch.equal(result.maps.time_invariant(0, 1).points, result.maps.time_invariant(3, 1).points)


def test_the_folder_holds_what_memory_does(tmp_path: Path, network: VDPM, video: Video, result: Reconstruction) -> None:
    written = vdpm.reconstruct(video, model=network, output=tmp_path / "out")
    loaded = vdpm.load(tmp_path / "out")
    for other in (written, loaded):
        assert torch.equal(other.frames, result.frames)
        assert torch.allclose(other.cameras.c2w, result.cameras.c2w, atol=1e-6)
        assert torch.allclose(other.cameras.intrinsics, result.cameras.intrinsics)
        for target, source in ((None, 3), (0, 2), (3, 0)):
            for mine, theirs in zip(result.maps.read(target, source), other.maps.read(target, source)):
                assert torch.equal(mine, theirs)


def test_several_times_at_once_give_the_same(network: VDPM, video: Video, result: Reconstruction) -> None:
    other = vdpm.reconstruct(video, model=network, targets_per_step=3)
    assert torch.allclose(other.maps.read(3, 1).points, result.maps.read(3, 1).points, rtol=2e-3, atol=1e-4)


def test_the_reference_camera_is_the_world(network: VDPM, video: Video) -> None:
    result = vdpm.reconstruct(video, model=network, targets="none", reference=2)
    assert torch.allclose(result.cameras.c2w[2], torch.eye(4), atol=1e-6)
    with torch.no_grad():
        predicted = network.cameras(network.encode(video.images()[None], 2)).c2w[0]
    relative = torch.linalg.inv(predicted[2].double()) @ predicted[0].double()
    assert torch.allclose(result.cameras.c2w[0].double(), relative, atol=1e-5)
    assert (predicted[2] - torch.eye(4)).abs().max() > 1e-4, "else this test shows nothing"


def test_chosen_times_and_frames(network: VDPM, video: Video, result: Reconstruction) -> None:
    some = vdpm.reconstruct(video, model=network, targets=[3, 1, 3], sources=(2,))
    assert (some.maps.targets, some.maps.sources) == ((1, 3), (2,))
    assert torch.allclose(some.maps.read(3, 2).points, result.maps.read(3, 2).points, rtol=2e-3, atol=1e-4)
    with pytest.raises(UsageError, match="target 0 is not in this result"):
        some.maps.time_invariant(0, 2)
    none = vdpm.reconstruct(video, model=network, targets="none")
    assert none.maps.targets == ()
    assert torch.equal(none.maps.read(None, 1).points, result.maps.read(None, 1).points)


def test_results_can_be_used_with_gradients(result: Reconstruction) -> None:
    scale = torch.ones(1, requires_grad=True)
    (result.maps.read(1, 0).points * scale + result.cameras.c2w[0, 0, 3]).sum().backward()
    assert scale.grad is not None


def test_bfloat16_is_close_to_float32(tmp_path: Path, network: VDPM, video: Video, result: Reconstruction) -> None:
    network.save_pretrained(tmp_path)
    rough = vdpm.reconstruct(video, model=str(tmp_path), dtype="bfloat16", device="cpu")
    assert rough.provenance["dtype"] == "bfloat16"
    assert not torch.equal(rough.maps.read(2, 1).points, result.maps.read(2, 1).points)
    assert torch.allclose(rough.maps.read(2, 1).points, result.maps.read(2, 1).points, rtol=0.1, atol=0.1)


def test_one_frame(network: VDPM, video: Video) -> None:
    one = Video(video.frames[:1], video.timestamps[:1], video.frame_indices[:1], video.transform)
    result = vdpm.reconstruct(one, model=network)
    assert len(result) == 1
    assert result.maps.targets == (0,)
    assert torch.isfinite(result.maps.read(0, 0).points).all()


def test_a_file_is_read_by_the_networks_patch_and_padded(tmp_path: Path, network: VDPM) -> None:
    clip = write_clip(tmp_path / "clip.mp4", num_frames=3, height=36, width=64)
    result = vdpm.reconstruct(clip, model=network, targets="none", size=64)
    assert result.size == (40, 64)
    assert int((~result.content).sum()) == 4 * 64
    assert result.transform.source_size == (36, 64)
    assert result.timestamps.tolist() == pytest.approx([0, 0.1, 0.2])


def test_frames_are_chosen_by_the_budget(tmp_path: Path, network: VDPM) -> None:
    clip = write_clip(tmp_path / "clip.mp4", num_frames=12)
    result = vdpm.reconstruct(clip, model=network, targets="none", size=32, max_frames=4, start=0.2)
    assert len(result) == 4
    assert result.frame_indices[0] == 2
    assert result.frame_indices[-1] == 11


def test_provenance_says_what_was_done(network: VDPM, result: Reconstruction) -> None:
    made_by = result.provenance
    assert made_by["fingerprint"] == network.fingerprint()
    assert made_by["model"] == "tiny"
    assert made_by["dtype"] == "float32"
    assert set(made_by["seconds"]) >= {"encode", "shape", "decode", "total"}
    assert made_by["seconds"]["total"] > 0


def test_the_mirrored_clip_is_asked_as_well(network: VDPM, video: Video, result: Reconstruction) -> None:
    options = {"model": network, "mirror": True, "windows": WindowConfig(sight=False)}
    twice = vdpm.reconstruct(video, **options)
    assert (twice.provenance["mirrored"], result.provenance["mirrored"]) == (True, False)
    other = Video(video.frames.flip(-2), video.timestamps, video.frame_indices, video.transform)
    back = vdpm.reconstruct(other, **options)
    mirrored = back.maps.read(2, 1).points.flip(-2) * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(twice.maps.read(2, 1).points, mirrored, rtol=2e-3, atol=2e-3)
    assert not torch.allclose(twice.maps.read(2, 1).points, result.maps.read(2, 1).points, rtol=2e-3, atol=2e-3)


def test_progress_is_told(network: VDPM, video: Video) -> None:
    told: list[tuple[str, int, int]] = []
    vdpm.reconstruct(video, model=network, targets=[0, 2], progress=lambda *step: told.append(step))
    assert told[-1] == ("decoding times", 2, 2)
    assert ("decoding times", 1, 2) in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"targets": [40]}, r"target 40 is outside 0\.\.3 \(4 frames were taken\)"),
        ({"targets": [-1]}, "target -1 is outside"),
        ({"targets": []}, "targets is empty"),
        ({"targets": "some"}, "targets is 'some'"),
        ({"sources": [4]}, "source 4 is outside"),
        ({"sources": "none"}, "sources is 'none'"),
        ({"reference": 4}, r"reference 4 is outside 0\.\.3"),
        ({"targets_per_step": 0}, "use at least 1"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"device": "meta"}, "device 'meta' is not available here"),
        ({"max_frames": 3}, "max_frames: the video is already read"),
    ],
)
def test_wrong_arguments_are_named(network: VDPM, video: Video, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        vdpm.reconstruct(video, model=network, **options)


def test_frames_that_do_not_divide_into_patches(network: VDPM) -> None:
    frames = torch.zeros(2, 20, 32, 3, dtype=torch.uint8)
    odd = Video(frames, torch.arange(2.0), torch.arange(2), ImageTransform.identity((20, 32)))
    with pytest.raises(UsageError, match="multiple=8"):
        vdpm.reconstruct(odd, model=network)


def test_a_network_that_says_nan_is_refused(tmp_path: Path, video: Video) -> None:
    broken = tiny_network()
    with torch.no_grad():
        next(broken.point_head.parameters()).fill_(torch.nan)
    with pytest.raises(VDPMError, match="not finite"):
        vdpm.reconstruct(video, model=broken)
    with pytest.raises(VDPMError, match="not finite"):
        vdpm.reconstruct(video, model=broken, output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_existing_result_is_kept(tmp_path: Path, network: VDPM, video: Video) -> None:
    vdpm.reconstruct(video, model=network, targets="none", output=tmp_path / "out")
    with pytest.raises(OutputError, match="--overwrite"):
        vdpm.reconstruct(video, model=network, output=tmp_path / "out")
    assert vdpm.load(tmp_path / "out").maps.targets == ()
    vdpm.reconstruct(video, model=network, targets=[1], output=tmp_path / "out", overwrite=True)
    assert vdpm.load(tmp_path / "out").maps.targets == (1,)


def test_missing_files(tmp_path: Path, network: VDPM) -> None:
    with pytest.raises(InputError, match="no such file"):
        vdpm.reconstruct(tmp_path / "no.mp4", model=network)
    with pytest.raises(CheckpointError, match="no weights"):
        vdpm.reconstruct(write_clip(tmp_path / "clip.mp4"), model=str(tmp_path / "no_model"))


def test_the_module_can_be_called_too(network: VDPM, video: Video) -> None:
    module = importlib.import_module("vdpm.reconstruct")
    assert isinstance(module, ModuleType)
    assert len(module(video, model=network, targets="none")) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives(network: VDPM, video: Video, result: Reconstruction) -> None:
    there = vdpm.reconstruct(video, model=tiny_network().to("cuda"))
    assert torch.allclose(there.maps.read(2, 1).points, result.maps.read(2, 1).points, rtol=2e-2, atol=2e-3)
