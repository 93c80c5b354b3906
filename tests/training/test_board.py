import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from fixtures.tiny_run import RUN, trainer
from vdpm.model.point_map import PointMaps
from vdpm.model.vdpm import VDPMOutput
from vdpm.training.board import Board
from vdpm.training.pictures import GAP, motion_colours, picture


def test_a_picture_of_the_truth_has_equal_rows(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    _, snippet = run.supply.batch(0, 0.0)
    ones = torch.ones_like(snippet.points[..., 0])
    exact = VDPMOutput(
        time_variant=PointMaps(snippet.points, ones),
        decoded=PointMaps(snippet.target_points, ones[:, None]),
        pose_encodings=torch.zeros(1, *snippet.points.shape[:2], 9),
        descriptors=None,
    )
    height, width = snippet.size
    rows = picture(snippet, exact).split(height + GAP)
    assert rows[0].shape == (height + GAP, snippet.num_frames * (width + GAP) - GAP, 3)
    assert len(rows) == 5
    image = rows[0][:height, :width].float() / 255
    torch.testing.assert_close(image, snippet.images[0, 0].permute(1, 2, 0), atol=0.003, rtol=0)
    for truth, ours in ((1, 2), (3, 4)):
        for frame in range(snippet.num_frames):
            where = slice(frame * (width + GAP), frame * (width + GAP) + width)
            known = snippet.valid[0, frame]
            assert torch.equal(rows[truth][:height, where][known], rows[ours][:height, where][known])
            assert known.any()
    assert rows[1][:height].float().std() > 1


def test_motion_is_white_at_rest_and_coloured_by_direction() -> None:
    motion = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    rest, right, left = motion_colours(motion, torch.tensor(1.0))
    assert rest.tolist() == [1.0, 1.0, 1.0]
    assert right[0] == 1.0
    assert right[1] < 0.5
    assert left[0] == 0.0


def test_scalars_and_pictures_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(tmp_path, dataclasses.replace(RUN, picture_every=2)).run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4]
    (pictures,) = events.Tags()["images"]
    assert [event.step for event in events.Images(pictures)] == [2, 4]


def test_without_tensorboard_there_is_one_line_and_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = Board(tmp_path)
    board.open()
    board.scalars({"step": 1, "loss": 2.0})
    board.picture(torch.zeros(2, 2, 3, dtype=torch.uint8), 1)
    board.close()
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())
