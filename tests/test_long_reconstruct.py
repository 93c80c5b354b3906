"""A clip of several windows through a tiny network of random weights: what is around the network is checked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vdpm
from fixtures.clips import picture
from fixtures.tiny_network import tiny_network
from vdpm.archive import WindowStore, describe
from vdpm.clip_reconstruct import Plan
from vdpm.errors import OutputError, UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.long_reconstruct import LongPlan, reconstruct_window
from vdpm.long_video.priors import KnownDistance, Priors
from vdpm.long_video.windows import WindowConfig
from vdpm.model import VDPM
from vdpm.reconstruct import make_plan, make_plans
from vdpm.structures import Reconstruction, Video

CONFIG = WindowConfig(length=6, overlap=3)
FRAMES = 14


@pytest.fixture(scope="module")
def network() -> VDPM:
    return tiny_network()


@pytest.fixture(scope="module")
def video() -> Video:
    return clip_of(FRAMES)


def clip_of(count: int) -> Video:
    frames = torch.stack([torch.from_numpy(picture(i)) for i in range(count)])
    return Video(frames, torch.arange(count) / 10, torch.arange(count), ImageTransform.identity((48, 64)), name="s")


@pytest.fixture(scope="module")
def result(network: VDPM, video: Video, tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    folder = tmp_path_factory.mktemp("long") / "out"
    return vdpm.reconstruct(video, model=network, windows=CONFIG, output=folder)


def folder_of(result: Reconstruction) -> dict[str, object]:
    return result.provenance["windows"]


def test_all_frames_come_back_in_the_reference_camera(result: Reconstruction, video: Video) -> None:
    assert len(result) == FRAMES
    assert torch.equal(result.frames, video.frames)
    assert torch.allclose(result.cameras.c2w[0], torch.eye(4), atol=1e-5)
    for frame in range(FRAMES):
        maps = result.maps.time_variant(frame)
        assert maps.points.isfinite().all()
        assert (maps.confidence >= 1).all()
    assert folder_of(result)["run"] >= 4


def test_every_kept_time_can_be_read_for_every_frame(result: Reconstruction) -> None:
    assert result.maps.targets
    for source in (0, 7, 13):
        for target in result.maps.targets:
            assert result.maps.at(target, source).points.isfinite().all()
        assert {*result.maps.together(source)} <= {*result.maps.targets}
    vdpm.motion_mask(result, 7)
    assert vdpm.tracks(result, 0, torch.tensor([[5.0, 5.0]])).points.shape == (len(result.maps.targets), 1, 3)


def test_windows_say_what_the_network_says(result: Reconstruction, network: VDPM, video: Video) -> None:
    """The first frame lies in one run alone: in the result it has the shape that this gives it, and about the unit."""
    with torch.no_grad():
        tokens = network.encode(video.images()[None, :6])
        own = network.time_variant(tokens).points[0, 0]
    mine = result.maps.time_variant(0).points
    apart = (own[::5, ::5].reshape(-1, 1, 3) - own[::7, ::7].reshape(1, -1, 3)).norm(dim=-1)
    mine_apart = (mine[::5, ::5].reshape(-1, 1, 3) - mine[::7, ::7].reshape(1, -1, 3)).norm(dim=-1)
    scale = float(mine_apart.mean() / apart.mean())
    assert scale == pytest.approx(1, abs=0.03)
    assert torch.allclose(scale * apart, mine_apart, rtol=0.01, atol=5e-3)


def test_it_loads_describes_saves_and_is_replaced(
    tmp_path: Path, network: VDPM, video: Video, result: Reconstruction
) -> None:
    out = tmp_path / "out"
    vdpm.reconstruct(video, model=network, windows=CONFIG, output=out)
    assert not list(tmp_path.glob(".*")), "windows are taken over, nothing else is left"
    assert {path.name for path in out.iterdir()} == {"reconstruction.json", "cameras.json", "frames", "windows"}
    assert not list(out.rglob("window.json"))
    loaded = vdpm.load(out)
    assert torch.equal(loaded.maps.time_variant(5).points, result.maps.time_variant(5).points)
    assert describe(out).num_frames == FRAMES
    vdpm.save(loaded, tmp_path / "copy")
    copied = vdpm.load(tmp_path / "copy").maps
    target = copied.targets[0]
    assert torch.allclose(copied.at(target, 9).points, result.maps.at(target, 9).points, rtol=2e-3, atol=2e-3)
    with pytest.raises(OutputError, match="--overwrite"):
        vdpm.reconstruct(video, model=network, windows=CONFIG, output=out)
    vdpm.reconstruct(video, model=network, targets="none", max_memory=None, output=out, overwrite=True)
    assert not (out / "windows").exists()


def test_a_run_that_was_cut_off_goes_on_at_the_first_missing_window(
    tmp_path: Path, video: Video, result: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, calls = tiny_network(), []
    encode = VDPM.encode

    def counted(self: VDPM, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, *arguments)

    monkeypatch.setattr(VDPM, "encode", counted)
    with pytest.raises(KeyboardInterrupt):
        vdpm.reconstruct(video, model=network, windows=CONFIG, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / ".out.windows" / "windows").glob("*/window.json"))) == 2
    plan = make_plan(video, model=network, windows=CONFIG)
    again = plan.run(tmp_path / "out")
    made = sum(folder_of(again)[kind] for kind in ("run", "strided", "loop"))
    assert made >= len(plan.windows)
    assert len(calls) == 3 + made - 2
    assert torch.equal(again.maps.time_variant(12).points, result.maps.time_variant(12).points)


def test_windows_of_another_run_are_not_taken_up(tmp_path: Path, network: VDPM, video: Video) -> None:
    WindowStore(tmp_path / "out", {"frames": "others"}, (48, 64))
    with pytest.raises(OutputError, match="interrupted run of other frames"):
        vdpm.reconstruct(video, model=network, windows=CONFIG, output=tmp_path / "out")
    vdpm.reconstruct(video, model=network, windows=CONFIG, output=tmp_path / "out", overwrite=True)


def test_windows_of_one_pass_are_not_taken_up_by_two(tmp_path: Path, network: VDPM, video: Video) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second takes up the first's
        plan = make_plan(video, model=network, windows=CONFIG)
        assert isinstance(plan, LongPlan)
        plan._store(out, overwrite=False)
    with pytest.raises(OutputError, match="interrupted run of other frames or another network"):
        vdpm.reconstruct(video, model=network, windows=CONFIG, output=out, mirror=True)


def test_without_output_it_lives_in_a_temporary_folder(network: VDPM, video: Video, result: Reconstruction) -> None:
    here = vdpm.reconstruct(video, model=network, windows=CONFIG)
    assert torch.equal(here.maps.time_variant(3).points, result.maps.time_variant(3).points)
    assert here.maps.targets == result.maps.targets


def test_times_that_are_asked_for(network: VDPM, video: Video) -> None:
    every = make_plan(video, model=network, windows=CONFIG, targets="all")
    assert every.targets == tuple(range(FRAMES))
    some = make_plan(video, model=network, windows=CONFIG, targets=[2, 9])
    assert some.targets == (2, 9)
    one = vdpm.reconstruct(video, model=network, windows=CONFIG, targets=[2])
    assert one.maps.targets == (2,)
    assert one.maps.at(2, 13).points.isfinite().all(), "through windows that do not hold frame 2"
    assert one.maps.together(13) == ()
    none = vdpm.reconstruct(video, model=network, windows=CONFIG, targets="none")
    assert none.maps.targets == ()


def test_short_clips_stay_in_one_pass_and_long_ones_do_not(network: VDPM, video: Video) -> None:
    assert isinstance(make_plan(video, model=network), Plan)
    assert isinstance(make_plan(clip_of(25), model=network), LongPlan)
    # How windows are made is not how long they are.
    for windows in (WindowConfig(strided=False), WindowConfig(sight=False), WindowConfig(overlap=4)):
        assert isinstance(make_plan(clip_of(20), model=network, windows=windows), Plan)
    assert isinstance(make_plan(clip_of(20), model=network, windows=WindowConfig(16)), LongPlan)
    assert isinstance(make_plan(video, model=network, priors=Priors(distance=KnownDistance(0, 1, 7.0))), LongPlan)
    # What tells nothing of the clip does not change how it is made.
    assert isinstance(make_plan(video, model=network, priors=Priors(shared_focal=False)), Plan)


def clip_of_two_shots() -> Video:
    first, second = clip_of(10), clip_of(10)
    frames = torch.cat((first.frames, 255 - second.frames.flip(2)))
    return Video(frames, torch.arange(20) / 10, torch.arange(20), first.transform)


def test_shots_become_scenes(network: VDPM) -> None:
    video = clip_of_two_shots()
    plans = make_plans(video, model=network, windows=CONFIG, cuts="split")
    assert [len(plan.video) for plan in plans] == [10, 10]
    assert "scene 2 of 2" in plans[1].video.name
    assert len(make_plans(video, model=network, windows=CONFIG, cuts="ignore")) == 1
    with pytest.raises(UsageError, match="2 shots"):
        make_plans(video, model=network, windows=CONFIG, cuts="split", reference=3)


def test_shots_are_refused_where_one_result_is_asked_for(network: VDPM, tmp_path: Path) -> None:
    video = clip_of_two_shots()
    with pytest.raises(UsageError, match=r"cut before frame 10 .* vdpm\.reconstruct_scenes"):
        vdpm.reconstruct(video, model=network, windows=CONFIG)
    assert len(vdpm.reconstruct(video, model=network, windows=CONFIG, targets="none", cuts="ignore")) == 20
    scenes = vdpm.reconstruct_scenes(video, model=network, windows=CONFIG, targets="none", output=tmp_path / "out")
    assert [scene.frame_indices.tolist() for scene in scenes] == [[*range(10)], [*range(10, 20)]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out_scene01", "out_scene02"]
    with pytest.raises(OutputError, match="out_scene01: exists"):
        vdpm.reconstruct_scenes(video, model=network, windows=CONFIG, output=tmp_path / "out")
    (one,) = vdpm.reconstruct_scenes(clip_of(FRAMES), model=network, windows=CONFIG, targets="none")
    assert len(one) == FRAMES


@pytest.mark.parametrize("targets", ["auto", "none", [2, 9]])
def test_chosen_sources_of_a_long_clip(
    network: VDPM, video: Video, result: Reconstruction, targets: str | list[int], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    some = vdpm.reconstruct(video, model=network, windows=CONFIG, sources=[1, 8], targets=targets, output=out)
    assert some.maps.sources == (1, 8)
    assert torch.equal(some.maps.time_variant(8).points, result.maps.time_variant(8).points)
    for target in some.maps.targets:
        assert some.maps.at(target, 1).points.isfinite().all()
    if targets == "auto":
        assert some.maps.targets == result.maps.targets
        far = some.maps.targets[-1]
        # The network rounds otherwise where it moves fewer frames at once: by up to 2e-5 on some processors.
        assert torch.allclose(some.maps.at(far, 1).points, result.maps.at(far, 1).points, atol=3e-5)
    assert not list(out.rglob("rest.npy")), "maps that only the alignment needs go"
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert size == pytest.approx(make_plan(
        video, model=network, windows=CONFIG, sources=[1, 8], targets=targets
    ).bytes_on_disk(), rel=0.05)  # fmt: skip
    with pytest.raises(UsageError, match="source 3 is not in this result"):
        some.maps.time_variant(3)


def test_a_known_distance_gives_the_unit(network: VDPM, video: Video) -> None:
    known = Priors(distance=KnownDistance(0, 13, 7.0))
    metric = vdpm.reconstruct(video, model=network, windows=CONFIG, targets="none", priors=known)
    centres = metric.cameras.centers
    assert float((centres[0] - centres[13]).norm()) == pytest.approx(7, rel=1e-3)
    assert metric.provenance["windows"]["scale"] == "the user's unit"


def test_loops_by_geometry_add_windows_after_the_first_alignment(network: VDPM, tmp_path: Path) -> None:
    """Random weights move the camera little, so all frames see one another."""
    video = clip_of(24)
    config = WindowConfig(length=6, overlap=3, strided=False, loops="geometry")
    plan = make_plan(video, model=network, windows=config, targets="none")
    assert isinstance(plan, LongPlan)
    assert "up to 1 more" in plan.lines()[-1]
    result = plan.run(tmp_path / "out")
    assert folder_of(result)["loop"] == 1
    assert folder_of(result)["run"] >= len(plan.windows)
    without = make_plan(video, model=network, windows=WindowConfig(length=6, overlap=3, loops="none"), targets="none")
    assert "more" not in without.lines()[-1]


def test_windows_of_an_interrupted_run_are_counted_as_a_run_would_take_them_up(
    network: VDPM, video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loops too, which lie behind windows that were added; windows of other times are none of them."""
    config = replace(CONFIG, loops="likeness")
    monkeypatch.setattr("vdpm.long_reconstruct.find_loops", lambda *_, **__: [(2, 11)])
    plan = make_plan(video, model=network, windows=config)
    assert isinstance(plan, LongPlan)
    assert [window.kind for window in plan.windows][-1] == "loop"
    assert plan.finished(tmp_path / "out") is None
    assert not list(tmp_path.iterdir()), "asking makes nothing"
    store = plan._store(tmp_path / "out", overwrite=False)
    last = len(plan.windows) - 1
    for number, place in ((0, 0), (2, 2), (last, last + 3)):
        window = plan.windows[number]
        reconstruct_window(network, video, window, store, place, shown=plan._shown(window))
    assert plan.finished(tmp_path / "out") == (0, 2, last)
    (store.folder / "windows" / "00000" / "window.json").unlink()
    assert plan.finished(tmp_path / "out") == (2, last), "one that was cut off is made anew"
    other = make_plan(video, model=network, windows=config, targets="all")
    assert isinstance(other, LongPlan)
    assert other.finished(tmp_path / "out") == (last,), "a loop has no times"
    with pytest.raises(OutputError, match="interrupted run of other frames"):
        make_plan(clip_of(13), model=network, windows=config).finished(tmp_path / "out")  # type: ignore[union-attr]
