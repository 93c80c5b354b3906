"""A scene written as a video and a ground truth file comes back as it was."""

from pathlib import Path

import pytest
import torch

from vdpm.errors import InputError
from vdpm.synthetic import SceneConfig, held_out_seeds
from vdpm.synthetic.contact_sheet import contact_sheet
from vdpm.synthetic.demo_clip import load_ground_truth, write_clip
from vdpm.video import read_video

CONFIG = SceneConfig(num_frames=3, height=32, width=48, colour_samples=1, static_share=0.0, figure_share=1.0)
BUNDLED = Path(__file__).resolve().parents[2] / "src" / "vdpm" / "demo"


def test_written_and_read_back(tmp_path: Path) -> None:
    seed = int(held_out_seeds(1, start=77)[0])
    snippet = write_clip(seed, CONFIG, tmp_path / "clip.mp4", tmp_path / "truth.npz")
    read = load_ground_truth(tmp_path / "truth.npz")
    scale = snippet.points.norm(dim=-1).max()
    for name in ("points", "target_points", "c2w", "timestamps"):
        assert torch.allclose(getattr(read, name), getattr(snippet, name), atol=float(1e-5 * scale)), name
    assert torch.equal(read.instances, snippet.instances)
    assert torch.equal(read.valid, snippet.valid)
    assert torch.equal(read.dynamic, snippet.dynamic)
    assert (read.images - snippet.images).abs().max() <= 0.5 / 255 + 1e-6
    video = read_video(tmp_path / "clip.mp4", size=48)
    assert torch.allclose(video.timestamps.float(), snippet.timestamps, atol=1e-3)
    assert (video.images() - snippet.images).abs().mean() < 0.05


def test_the_bundled_clip_shows_what_it_should() -> None:
    """Moving camera, a walking figure, at least two other moving objects; both files below 3 MB together."""
    files = (BUNDLED / "clip.mp4", BUNDLED / "truth.npz")
    assert sum(file.stat().st_size for file in files) < 3_000_000
    snippet = load_ground_truth(files[1])
    assert snippet.size == (128, 224)
    assert snippet.num_frames == 12
    assert (snippet.c2w[-1, :3, 3]).norm() > 0.05 * snippet.points.norm(dim=-1)[snippet.valid].mean()
    moving = [i for i in snippet.instances.unique().tolist() if snippet.dynamic[snippet.instances == i].sum() > 1500]
    assert 1 in moving
    assert len(moving) >= 3
    assert torch.equal(snippet.target_points[5, 5], snippet.points[5])
    background = snippet.target_points[:, (snippet.instances == 0) & snippet.valid]
    assert torch.allclose(background, background[:1], atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"no such thing", b"half"])
def test_a_damaged_ground_truth_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "truth.npz"
    whole = (BUNDLED / "truth.npz").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    with pytest.raises(InputError, match=r"truth\.npz: not the ground truth"):
        load_ground_truth(path)
    with pytest.raises(InputError, match="no such file"):
        load_ground_truth(tmp_path / "missing.npz")


def test_contact_sheet_has_a_column_for_each_frame() -> None:
    snippet = load_ground_truth(BUNDLED / "truth.npz")
    sheet = contact_sheet(snippet, frames=3)
    assert sheet.shape == (5 * 128 + 4 * 4, 3 * 224 + 2 * 4, 3)
    assert torch.equal(sheet[:128, :224], (snippet.images[0].permute(1, 2, 0) * 255).round().to(torch.uint8))
