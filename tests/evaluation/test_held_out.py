"""A tiny network through all protocols on a few snippets, and what is written of it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.tiny_network import tiny_network
from vdpm.errors import OutputError, UsageError
from vdpm.evaluation.held_out import NETWORK, OWN_ZERO_MOTION, PLANE, ZERO_MOTION, SnippetScores, score_family
from vdpm.evaluation.manifest import FamilyManifest, load_manifest
from vdpm.evaluation.protocol import NetworkPredictor
from vdpm.evaluation.report import FamilyResult, family_table, write_scores
from vdpm.evaluation.snippet_scores import ProtocolOptions
from vdpm.synthetic import SceneConfig


@pytest.fixture(scope="module")
def manifest() -> FamilyManifest:
    return load_manifest("rigid")


@pytest.fixture(scope="module")
def config(manifest: FamilyManifest) -> SceneConfig:
    return replace(manifest.config, height=16, width=24, colour_samples=1)


@pytest.fixture(scope="module")
def scores(manifest: FamilyManifest, config: SceneConfig) -> list[SnippetScores]:
    return list(score_family(NetworkPredictor(tiny_network()), manifest, clips=3, config=config, batch=2))


def test_every_contender_is_scored_on_every_snippet(scores: list[SnippetScores], manifest: FamilyManifest) -> None:
    assert [s.seed for s in scores] == manifest.seeds(3).tolist()
    for s in scores:
        assert set(s.by) == {NETWORK, ZERO_MOTION, OWN_ZERO_MOTION, PLANE}
        pairs = {f"margin{m}.{name}" for m in (2, 8) for name in ("p0_t0", "p0_t1", "p1_t0", "p1_t1", "moving")}
        for by in s.by.values():
            assert pairs | {"epe", "epe_moving", "epe_per_map"} <= set(by)
        assert s.by[NETWORK]["epe"] > 0.1
        # The true shape without motion is right at its own time, and wrong by little at another.
        assert s.by[ZERO_MOTION]["margin2.p0_t0"] < s.by[ZERO_MOTION]["margin8.p0_t1"] < s.by[PLANE]["margin8.p0_t1"]
        assert s.by[NETWORK]["margin8.p0_t0"] == pytest.approx(s.by[OWN_ZERO_MOTION]["margin8.p0_t0"], abs=0.2)


def test_scores_do_not_depend_on_the_batch(
    scores: list[SnippetScores], manifest: FamilyManifest, config: SceneConfig
) -> None:
    told: list[tuple[int, int]] = []
    alone = list(
        score_family(
            NetworkPredictor(tiny_network()),
            manifest,
            clips=3,
            config=config,
            batch=1,
            progress=lambda done, total: told.append((done, total)),
        )
    )
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for one, other in zip(alone, scores):
        for contender, by in one.by.items():
            for name, value in by.items():
                assert value == pytest.approx(other.by[contender][name], rel=1e-2, abs=1e-3, nan_ok=True), name


def test_snippets_come_as_they_are_scored(manifest: FamilyManifest, config: SceneConfig) -> None:
    told: list[int] = []
    running = score_family(
        NetworkPredictor(tiny_network()),
        manifest,
        clips=200,
        config=config,
        batch=1,
        progress=lambda d, _: told.append(d),
    )
    assert next(running).seed == manifest.first_seed
    assert told == [0]


def test_a_table_and_a_file(
    scores: list[SnippetScores], manifest: FamilyManifest, config: SceneConfig, tmp_path: Path
) -> None:
    result = FamilyResult(manifest, config, 5, ("it was small",), list(scores))
    table = family_table(result)
    assert "rigid: 3 (of 5: interrupted) snippets of 10 frames of 24 x 16" in table
    assert "note: it was small" in table
    mean = sum(s.by[NETWORK]["epe"] for s in scores) / 3
    assert f"| tracking EPE | {mean:.3f} [" in table
    by = scores[0].by
    partly = SnippetScores("rigid", 1, by | {NETWORK: by[NETWORK] | {"epe": math.nan}})
    table = family_table(replace(result, scores=[*scores, partly]))
    assert f"| tracking EPE | {mean:.3f} [" in table
    assert "] on 3 |" in table
    undefined = SnippetScores("rigid", 1, {NETWORK: {"direction": math.nan, "epe": 1.0}})
    assert "| baseline direction, degrees | n/a |" in family_table(replace(result, scores=[undefined]))

    path = tmp_path / "scores.json"
    write_scores([result, replace(result, scores=[undefined])], path, "m", "f" * 12, "cpu", ProtocolOptions())
    read = json.loads(path.read_text())
    assert read["families"]["rigid"]["snippets"][0][NETWORK]["direction"] is None
    write_scores([result], path, "m", "f" * 12, "cpu", ProtocolOptions(horizon=9.0))
    read = json.loads(path.read_text())
    family = read["families"]["rigid"]
    assert (read["fingerprint"], read["options"]["horizon"]) == ("f" * 12, 9.0)
    assert family["manifest"] == manifest.digest()
    assert (family["comparable"], family["complete"], family["clips"]) == (False, False, 3)
    assert family["means"][NETWORK]["epe"]["mean"] == pytest.approx(mean)
    with pytest.raises(OutputError, match="cannot be written"):
        write_scores([result], tmp_path / "no" / "s.json", "m", "f", "cpu", ProtocolOptions())


def test_more_snippets_than_there_are(manifest: FamilyManifest) -> None:
    with pytest.raises(UsageError, match="1 to 200"):
        next(score_family(NetworkPredictor(tiny_network()), manifest, clips=201))
