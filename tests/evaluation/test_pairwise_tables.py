"""A network that knows pairs alone is pointed at like any other, and stands in every table as what it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fixtures.outcome import Run
from fixtures.tiny_network import TINY, tiny_network
from vdpm.cli import main
from vdpm.data.frame import Frame
from vdpm.errors import UsageError
from vdpm.evaluation import prediction_run
from vdpm.evaluation.contenders import Fit, OfNetwork, SequenceAnswer, make_contender
from vdpm.model import VDPM, Mirrored

TABLES = ("two-view", "tracking", "video-depth", "camera-pose")
ROW = "pairs, pairwise DPM aligned globally"


@pytest.fixture(scope="module")
def pairwise_network() -> VDPM:
    torch.manual_seed(3)
    network = VDPM(replace(TINY, name="pairs", decoder_kind="pairwise", mark_target=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return network.eval()


@pytest.fixture(scope="module")
def pairwise_folder(pairwise_network: VDPM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "pairs"
    pairwise_network.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("table", TABLES)
def test_every_table_takes_its_folder(
    evaluate: Run, pairwise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    dataset = "kubric" if table in ("two-view", "tracking") else "sintel"
    words = ("--model", pairwise_folder, "--device", "cpu", "--size", 32, "-o", tmp_path)
    done = evaluate(table, dataset, *words)
    assert done.code == 0, done.err
    assert f"| {ROW}" in done.out
    assert json.loads((tmp_path / "plan.json").read_text())["identity"].startswith("pairwise ")
    # Started again with the wish spelled out, it is the same run: a lost file is made again, the others are kept.
    files = sorted((tmp_path / "predictions").glob("*.npz"))
    files[0].unlink()
    made = []
    monkeypatch.setattr(prediction_run, "_answer", counted(prediction_run._answer, made))
    again = evaluate(table, dataset, *words, "--pairwise")
    assert (again.code, again.out) == (0, done.out)
    assert made == [files[0]]


def counted(answer, made: list[Path]):  # type: ignore[no-untyped-def]
    def call(*words):  # type: ignore[no-untyped-def]
        made.append(words[-1])
        return answer(*words)

    return call


def test_rows_of_both_kinds_stand_in_one_table(
    evaluate: Run, pairwise_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    runs = {"one": (pairwise_folder,), "two": (tiny_folder, "--pairwise"), "three": (tiny_folder,)}
    for folder, model in runs.items():
        assert evaluate("tracking", "kubric", "--size", 32, "-o", tmp_path / folder, "--model", *model).code == 0
    assert main(["evaluate", "report", *(str(tmp_path / name) for name in runs), "-o", str(tmp_path / "all")]) == 0
    lines = (tmp_path / "all" / "tables.md").read_text().split("## ")[1].splitlines()
    names = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
    assert names[-3:] == [f"| {ROW}", "| tiny by pairs", "| tiny"]
    refused = evaluate("tracking", "kubric", "--size", 32, "-o", tmp_path / "two", "--model", tiny_folder)
    assert (refused.code, len(refused.err.splitlines())) == (5, 1)


def test_windows_longer_than_a_pair_are_refused(evaluate: Run, pairwise_folder: Path, tmp_path: Path) -> None:
    refused = evaluate("video-depth", "sintel", "--model", pairwise_folder, "--window", 16, "-o", tmp_path / "d")
    assert refused.code == 2
    assert refused.err.splitlines() == [
        "vdpm: error: --window is 16 and pairs answers by pairs of frames; leave --window out"
    ]
    assert not (tmp_path / "d").exists()


def test_the_summary_of_the_families_takes_it(
    pairwise_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--family", "rigid", "--clips", "1", "--size", "16", "24", "-o", str(tmp_path / "s.json")]
    assert main(["evaluate", "families", "--model", str(pairwise_folder), *words]) == 0
    assert "pairwise DPM aligned globally" in capsys.readouterr().out
    said = json.loads((tmp_path / "s.json").read_text())
    assert said["model"].endswith("pairs, pairwise DPM aligned globally")
    assert said["families"]["rigid"]["means"]["network"]["epe"]["mean"] > 0


def frames(count: int, brightness: tuple[int, int] = (0, 0)) -> list[Frame]:
    """A camera that slides; the second half of the pictures lies ``brightness[1]`` above."""
    generator = torch.Generator().manual_seed(1)
    wall = torch.randint(0, 90, (16, 64, 3), generator=generator, dtype=torch.uint8)
    made = []
    for index in range(count):
        c2w = torch.eye(4)
        c2w[0, 3] = 0.1 * index
        picture = wall[:, index : index + 24] + brightness[index >= count // 2]
        intrinsics = torch.tensor([[20.0, 0, 12], [0, 20, 8], [0, 0, 1]])
        made.append(Frame(picture, torch.ones(16, 24), torch.ones(16, 24, dtype=torch.bool), c2w, intrinsics))
    return made


def answer(network: VDPM, count: int, **change: object) -> SequenceAnswer:
    return OfNetwork(network, "it", Fit(**change)).sequence(iter(frames(count)), "wall")  # type: ignore[arg-type]


def test_long_sequences_go_by_pairs_of_neighbours(pairwise_network: VDPM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that share no point with the first have no pair with it that could be right."""
    encode, shown = VDPM.encode, []

    def watched(self: VDPM, images: torch.Tensor, reference: int = 0):  # type: ignore[no-untyped-def]
        shown.append(images.shape[-4])
        return encode(self, images, reference)

    monkeypatch.setattr(VDPM, "encode", watched)
    said = answer(pairwise_network, 26)
    assert {*shown} == {2}
    assert said.depth.shape == (26, 16, 24)
    assert said.c2w.shape == (26, 4, 4)
    assert bool(said.depth.isfinite().all())


def test_a_flash_in_a_sequence_of_a_data_set_is_no_cut() -> None:
    """Data sets hold single takes: what looks like a cut must not stop a table."""
    said = OfNetwork(tiny_network(), "it", Fit(window=8)).sequence(iter(frames(26, (0, 160))), "flash")
    assert len(said.c2w) == 26


def test_only_pairs_can_be_asked_of_by_pairs() -> None:
    with pytest.raises(UsageError, match="leave --window out"):
        OfNetwork(tiny_network(), "it", Fit(window=8), pairwise=True)
    assert OfNetwork(tiny_network(), "it", Fit(window=2), pairwise=True).name == "it by pairs"


def test_the_mirrored_clip_is_asked_as_well() -> None:
    """Another row and other predictions: those of one pass are not taken up for it."""
    network = tiny_network()
    one, two = (OfNetwork(model, "it", Fit(window=8)) for model in (network, Mirrored(network)))
    assert two.name == "it, the mirrored clip as well"
    assert one.identity != two.identity
    there, twice = one.sequence(iter(frames(10)), "clip"), two.sequence(iter(frames(10)), "clip")
    assert twice.depth.shape == there.depth.shape
    assert not torch.equal(twice.depth, there.depth)


@pytest.mark.parametrize("way", ["mirror", "pairwise"])
def test_only_networks_are_told_how_they_are_asked(way: str) -> None:
    with pytest.raises(UsageError, match=f"--{way} .* oracle is none"):
        make_contender("oracle", Fit(), **{way: True})


@pytest.mark.parametrize("size", [0, -1, 10**9])
def test_sizes_that_no_network_takes(size: int) -> None:
    with pytest.raises(UsageError, match=f"--size {size} must be from 1 to 2048"):
        Fit(size=size)
