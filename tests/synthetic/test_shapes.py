"""Where rays meet each shape, against what is not the renderer's: implicit functions, brute force, sampling."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vdpm.synthetic import SceneConfig, SceneGenerator, held_out_seeds
from vdpm.synthetic.intersect import Parts, blocked, nearest_hit
from vdpm.synthetic.kinds import ShapeShares, SheetWeights
from vdpm.synthetic.layout import NUM_PARTS, SHEETS, SUPERQUADRICS, SURROUNDINGS
from vdpm.synthetic.meshes import TRIANGLES, corners
from vdpm.synthetic.pieces import contact, piece_poses
from vdpm.synthetic.render import _rays
from vdpm.synthetic.scene import Scene
from vdpm.synthetic.terrain import terrain_height

SMALL = SceneConfig(num_frames=3, height=24, width=32, colour_samples=1)
KINDS = tuple(name for name in vars(SheetWeights()) if name != "sheet_share")


def only(kind: str) -> SheetWeights:
    return SheetWeights(**{"sheet_share": 1.0, **{name: float(name == kind) for name in KINDS}})


def sampled(config: SceneConfig, count: int, start: int = 0) -> Scene:
    return SceneGenerator(config).sample(held_out_seeds(count, start=start))


def rays(scene: Scene, config: SceneConfig = SMALL) -> tuple[Tensor, Tensor]:
    index = torch.arange(config.width * config.height)
    x, y = index % config.width + 0.5, index // config.width + 0.5
    return _rays(scene, x, y, config.width, config.height)


def alone(parts: Parts, kept: slice) -> Parts:
    """The parts with all but ``kept`` taken away and ``kept`` there."""
    active = torch.zeros_like(parts.active)
    active[:, kept] = True
    return parts._replace(active=active)


def test_superquadrics_are_where_their_norm_is_one() -> None:
    scene = sampled(replace(SMALL, open_weight=0.0), 24)
    parts = alone(scene.parts, SUPERQUADRICS)
    origin, direction = rays(scene)
    length, piece, _ = nearest_hit(parts, origin, direction)
    hits = 0
    for number in range(SUPERQUADRICS.start, SUPERQUADRICS.stop):
        # Ray points in the frame of the part, in double precision.
        inverse = parts.inverse[:, :, number].double()
        o = torch.einsum(
            "bfij,jbfr->ibfr",
            inverse,
            origin.double() - parts.position[:, :, number].double().movedim(-1, 0)[..., None],
        )
        d = torch.einsum("bfij,jbfr->ibfr", inverse, direction.double())
        size = parts.size[:, number].double().T[:, :, None, None]
        p, q = parts.shape[:, number, 0].double()[:, None, None], parts.shape[:, number, 1].double()[:, None, None]

        def norm(t: Tensor, o: Tensor = o, d: Tensor = d, size: Tensor = size, p: Tensor = p, q: Tensor = q) -> Tensor:
            x, y, z = ((o + t * d) / size).abs()
            return ((x**p + y**p) ** (q / p) + z**q) ** (1 / q)

        here = piece == number
        outside = (piece == SURROUNDINGS) & (norm(torch.zeros(())) > 1.01)
        away = (norm(length.double()) - 1).abs()[here]
        assert (away < 1e-2).all()
        assert torch.quantile(away, 0.98) < 1e-4
        # No point before the hit lies inside, and rays that miss never get inside.
        reach = length.double()
        for step in torch.linspace(0.0, 0.995, 60):
            before = norm(step * reach)
            assert (before[here] > 0.997).all()
            assert (before[outside] > 0.99).all()
        hits += int(here.sum())
    assert hits > 500


def test_rolling_ground_is_where_the_waves_are() -> None:
    config = replace(
        SMALL, room_weight=0.0, street_weight=0.0, tabletop_weight=0.0, shapes=ShapeShares(terrain_share=1.0)
    )
    scene = sampled(config, 8)
    origin, direction = rays(scene)
    end = contact(scene.parts, piece_poses(scene.parts), origin, direction)
    ground = (end.part == SURROUNDINGS) & (end.face == 4)
    assert ground.float().mean() > 0.2
    x, y, z = end.own
    level = terrain_height(scene.parts.waves, torch.stack([x, y], -1))
    assert ((z - level).abs()[ground] < 2e-3 * end.length[ground].clamp_min(1.0)).all()
    assert (level[ground].amax() - level[ground].amin()) > 0.1
    # The camera is above ground, and the normal is that of finite differences.
    step = 1e-3
    for axis in range(2):
        ahead = torch.stack([x, y], -1)
        ahead[..., axis] += step
        slope = (terrain_height(scene.parts.waves, ahead) - level) / step
        assert ((end.own_normal[axis] + slope * end.own_normal[2]).abs()[ground] < 5e-3).all()


def _brute_force(points: Tensor, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Moeller and Trumbore: nearest ray length to triangles [n, 3, 3] and which, for rays [r, 3]; doubles."""
    a, b, c = points.unbind(1)
    first, second = b - a, c - a
    h = torch.linalg.cross(d[:, None], second[None].expand(len(d), -1, -1))
    det = (first * h).sum(-1)
    det = torch.where(det.abs() < 1e-14, torch.full_like(det, 1e-30), det)
    s = o[:, None] - a
    u = (s * h).sum(-1) / det
    q = torch.linalg.cross(s, first[None].expand_as(s))
    v = (d[:, None] * q).sum(-1) / det
    t = (second * q).sum(-1) / det
    good = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-6) & (det.abs() > 1e-14)
    return torch.where(good, t, 1e9).min(1)


@pytest.mark.parametrize("kind", KINDS)
def test_sheets_are_met_where_brute_force_meets_their_triangles(kind: str) -> None:
    scene = sampled(replace(SMALL, sheets=only(kind), static_share=0.0), 14, start=20 * KINDS.index(kind))
    parts = alone(scene.parts, SHEETS)
    origin, direction = rays(scene)
    length, piece, _ = nearest_hit(parts, origin, direction)
    points = corners(parts.vertices, parts.topology).double()
    hits = different = 0
    for clip in range(len(length)):
        for frame in range(length.shape[1]):
            o, d = origin[:, clip, frame].T.double(), direction[:, clip, frame].T.double()
            t, _ = _brute_force(points[clip, frame], o, d)
            mine = piece[clip, frame] > SURROUNDINGS
            theirs = t < length[clip, frame] * (1 + 1e-5)
            hits += int(theirs.sum())
            different += int((mine != theirs).sum())
            both = mine & theirs
            apart = ((length[clip, frame] / t - 1).abs() > 1e-4) & both
            different += int(apart.sum())
    assert hits > 40
    assert different <= 2 + 0.002 * hits


@pytest.mark.parametrize("lamp", [True, False])
def test_sheets_cast_shadows_as_brute_force_does(lamp: bool) -> None:
    where = {"open_weight": float(not lamp), "room_weight": float(lamp), "street_weight": 0.0, "tabletop_weight": 0.0}
    config = replace(SMALL, sheets=only("blob"), shapes=ShapeShares(terrain_share=0.0), **where)  # type: ignore[arg-type]
    scene = sampled(config, 12, start=300)
    chosen = scene.light.is_lamp == lamp
    parts = alone(scene.parts, SHEETS)
    origin, direction = rays(scene)
    end = contact(parts, piece_poses(parts), origin, direction)
    point = origin + end.length * direction
    start = point + 1e-3 * end.length * end.normal
    place = scene.light.place.T[:, :, None, None]
    to = torch.where(scene.light.is_lamp[:, None, None], place - start, place.expand_as(start))
    far = torch.where(scene.light.is_lamp[:, None, None], to.norm(dim=0), 1e6)
    dark = blocked(parts, start, to / to.norm(dim=0), far)
    points = corners(parts.vertices, parts.topology).double()
    checked = shaded = different = 0
    for clip in chosen.nonzero()[:, 0].tolist():
        way = (to / to.norm(dim=0))[:, clip, 0].T.double()
        t, _ = _brute_force(points[clip, 0], start[:, clip, 0].T.double(), way)
        theirs = t < far[clip, 0]
        checked, shaded = checked + len(t), shaded + int(theirs.sum())
        different += int((theirs != dark[clip, 0]).sum())
    assert shaded > 60
    assert different < 0.01 * checked


def test_each_point_of_a_sheet_has_weights_of_its_triangle() -> None:
    scene = sampled(replace(SMALL, static_share=0.0, sheets=SheetWeights(sheet_share=1.0)), 20, start=40)
    origin, direction = rays(scene)
    poses = piece_poses(scene.parts)
    end = contact(scene.parts, poses, origin, direction)
    sheet = end.piece > SURROUNDINGS
    assert sheet.sum() > 200
    second, third, _ = end.own[:, sheet].unbind(0)
    assert (torch.stack([second, third, 1 - second - third]) > -1e-3).all()
    clip, frame, _ = sheet.nonzero().unbind(1)
    triangle = end.piece[sheet] - NUM_PARTS - 1
    world = corners(scene.parts.vertices, scene.parts.topology)[clip, frame, triangle]
    blended = world[:, 0] * (1 - second - third)[:, None] + world[:, 1] * second[:, None] + world[:, 2] * third[:, None]
    point = (origin + end.length * direction)[:, sheet].T
    assert ((blended - point).norm(dim=-1) < 1e-4 * end.length[sheet].clamp_min(1.0)).all()
    assert (end.part[sheet] == SHEETS.start + triangle // TRIANGLES).all()
    # Normals look at the viewer; those of the surface hold up to smoothing.
    assert ((end.normal * direction).sum(0)[sheet] <= 1e-6).all()
    flat = torch.linalg.cross(world[:, 1] - world[:, 0], world[:, 2] - world[:, 0])
    flat = flat / flat.norm(dim=-1, keepdim=True)
    agree = (flat * end.normal[:, sheet].T).sum(-1).abs()
    assert agree.median() > 0.95
    creased = scene.parts.creased[clip, triangle // TRIANGLES]
    assert (agree[creased] > 0.999).all()


def test_normals_of_squashed_and_sheared_parts_are_those_of_their_surface() -> None:
    """The hit of a neighbouring ray lies in the tangent plane, to first order."""
    from vdpm.synthetic.kinds import MotionWeights

    config = replace(SMALL, height=120, width=160, static_share=0.0, moving_share=(1.0, 1.0), figure_share=0.0,
                     motions=MotionWeights(soft_share=1.0), open_weight=0.0)  # fmt: skip
    scene = sampled(config, 4, start=70)
    matrix = scene.parts.turn[:, :, :NUM_PARTS]
    stretched = (matrix.transpose(-1, -2) @ matrix - torch.eye(3)).abs().amax((-1, -2)) > 0.05
    origin, direction = rays(scene, config)
    end = contact(scene.parts, piece_poses(scene.parts), origin, direction)
    point = (origin + end.length * direction).unflatten(-1, (120, 160))
    normal, piece = end.normal.unflatten(-1, (120, 160)), end.piece.unflatten(-1, (120, 160))
    step = point[..., 1:] - point[..., :-1]
    near = step.norm(dim=0) < 0.05 * end.length.unflatten(-1, (120, 160))[..., 1:]
    clip, frame = torch.arange(4)[:, None, None, None], torch.arange(3)[None, :, None, None]
    soft = stretched[clip, frame, piece.clamp_max(NUM_PARTS - 1)] & (piece < SURROUNDINGS)
    same = (piece[..., 1:] == piece[..., :-1]) & soft[..., 1:] & near
    slope = (step * normal[..., 1:]).sum(0).abs() / step.norm(dim=0).clamp_min(1e-9)
    assert same.sum() > 500
    assert slope[same].median() < 0.03
    assert torch.quantile(slope[same], 0.9) < 0.15


def test_what_is_left_out_on_a_cpu_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing all parts, sheets and flat ground, as a GPU does, gives the same as leaving out what is not there."""
    scene = sampled(replace(SMALL, sheets=SheetWeights(sheet_share=0.7)), 5, start=60)
    origin, direction = rays(scene)
    short = nearest_hit(scene.parts, origin, direction)
    for module in ("intersect", "terrain", "meshes"):
        monkeypatch.setattr(f"vdpm.synthetic.{module}.can_skip", lambda device: False)
    whole = nearest_hit(scene.parts, origin, direction)
    for a, b in zip(short, whole):
        assert torch.equal(a, b)
