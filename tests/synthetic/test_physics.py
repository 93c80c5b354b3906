"""Motion: impacts keep momentum, nothing sinks into the ground, what rolls does not slip, soft things keep a foot."""

from dataclasses import replace

import torch

from vdpm.synthetic import SceneConfig, held_out_seeds
from vdpm.synthetic.collisions import BALLS, place_collision
from vdpm.synthetic.hashing import Draws
from vdpm.synthetic.kinds import FigureWeights, MotionWeights, ShapeShares
from vdpm.synthetic.layout import FURNITURE, NUM_PARTS, half_height, sample_layout, sample_surroundings
from vdpm.synthetic.motion import bouncing, sample_paths, sample_times
from vdpm.synthetic.vehicles import place_vehicle

CONFIG = SceneConfig(num_frames=33, static_share=0.0, uneven_share=0.0, motions=MotionWeights(collision_share=1.0))
SCENES = 64


def _ready(config: SceneConfig):  # type: ignore[no-untyped-def]
    draws = Draws(held_out_seeds(SCENES))
    around = sample_surroundings(draws, config)
    layout = sample_layout(draws, config, around)
    _, clock = sample_times(draws, config)
    clock = clock / 4
    poses, lively = sample_paths(draws, config, around, layout, clock)
    return draws, around, layout, clock, poses, lively


def test_balls_that_meet_keep_their_momentum_and_stay_apart() -> None:
    draws, around, layout, clock, poses, lively = _ready(CONFIG)
    layout, poses, here = place_collision(draws, CONFIG, around, layout, poses, lively, clock)
    assert here.all()
    radius = layout.size[:, BALLS, 0].double()
    place = poses.position[:, :, BALLS].double()
    drag = draws.log_uniform("collision.drag", low=0.1, high=1.5)[:, None].double()
    time = (1 - torch.exp(-drag * clock.double())) / drag
    velocity = place.diff(dim=1) / time.diff(dim=1)[..., None, None]
    momentum = (velocity * (radius**3)[:, None, :, None]).sum(2)
    scale = momentum.norm(dim=-1).amax(1)[:, None, None]
    # An impact between two frames changes velocities within the step, but not their sum weighted by mass.
    assert ((momentum - momentum[:, :1]).abs() < 2e-3 * scale).all()
    energy = (velocity.square().sum(-1) * (radius**3)[:, None]).sum(2)
    assert (energy[:, -1] < energy[:, 0] * (1 + 1e-3)).all()
    moved = (place[:, -1] - place[:, 0]).norm(dim=-1) > 1e-3
    assert moved[:, 1].float().mean() > 0.7
    assert moved[:, 2].float().mean() > 0.3
    for a, b in ((0, 1), (1, 2), (0, 2)):
        apart = (place[:, :, a] - place[:, :, b]).norm(dim=-1)
        assert (apart > (radius[:, a] + radius[:, b])[:, None] - 1e-5).all()
    assert torch.allclose(place[..., 2], radius[:, None].expand_as(place[..., 2]), atol=1e-6)


def test_a_rolling_ball_touches_the_ground_with_a_point_at_rest() -> None:
    draws, around, layout, clock, poses, lively = _ready(CONFIG)
    layout, poses, _ = place_collision(draws, CONFIG, around, layout, poses, lively, clock)
    ball = BALLS[0]
    radius = layout.size[:, ball, 0]
    turn, place = poses.rotation[:, :, ball].double(), poses.position[:, :, ball].double()
    # The material point at the bottom in one frame, carried to the next: it moves by second order only.
    foot = torch.tensor([0.0, 0.0, -1.0], dtype=torch.double) * radius[:, None].double()
    own = (turn[:, :-1].transpose(-1, -2) @ foot[:, None, :, None])[..., 0]
    slip = (turn[:, 1:] @ own[..., None])[..., 0] - foot[:, None] + place.diff(dim=1)
    step = place.diff(dim=1).norm(dim=-1)
    steady = step < 0.5 * radius[:, None]
    assert (slip.norm(dim=-1) < 0.6 * step.square() / radius[:, None] + 1e-6)[steady].float().mean() > 0.95


def test_bounces_lose_speed_as_restitution_says() -> None:
    time = torch.linspace(0, 4, 4001, dtype=torch.double)
    height, push = bouncing(time, torch.tensor(0.5), torch.tensor(0.7))
    assert (height >= 0).all()
    assert float(height[0]) == 1
    speed = height.diff() / time.diff()
    hits = ((speed[:-1] < -0.05) & (speed[1:] > 0.05)).nonzero()[:, 0]
    assert len(hits) >= 4
    ratio = -speed[hits[:4] + 3] / speed[hits[:4] - 3]
    assert torch.allclose(ratio, torch.full_like(ratio, 0.7), atol=0.05)
    assert float(push.max()) > 0.99
    assert float(push[0]) == 0
    # Free fall in each flight: the same acceleration.
    bend = speed.diff() / time[1]
    flying = (height[1:-1] > 0.02) & (bend.abs() < 50)
    assert torch.allclose(bend[flying], torch.full_like(bend[flying], -8.0), atol=0.1)


def test_nothing_that_rests_on_the_ground_goes_into_it() -> None:
    config = replace(
        CONFIG, shapes=ShapeShares(terrain_share=0.0), motions=MotionWeights(soft_share=0.6, top=0.0, pendulum=0.0)
    )
    _, _, layout, _, poses, _ = _ready(config)
    # The lowest point of an ellipsoid under any matrix is its support function.
    low = poses.position[..., 2] - (poses.rotation[..., 2, :] * layout.size[:, None]).norm(dim=-1)
    ellipsoids = slice(0, 21)
    resting = layout.resting[:, ellipsoids] & layout.active[:, ellipsoids]
    size = layout.size[:, None, ellipsoids].amax(-1)
    assert (low[:, :, ellipsoids] > -2e-2 * size)[resting[:, None].expand(-1, low.shape[1], -1)].float().mean() > 0.97
    round_ones = layout.size.amax(-1) == layout.size.amin(-1)
    kept = resting & round_ones[:, ellipsoids]
    assert (low[:, :, ellipsoids] > -1e-3 * size)[kept[:, None].expand(-1, low.shape[1], -1)].all()


def test_soft_things_stand_where_they_stood() -> None:
    """A soft part that only breathes or sways keeps its volume and the height of its foot."""
    weights = dict.fromkeys(vars(MotionWeights()), 0.0)
    config = replace(CONFIG, motions=MotionWeights(**{**weights, "spin": 1.0, "soft_share": 1.0}))
    _, _, layout, _, poses, _ = _ready(config)
    volume = torch.linalg.det(poses.rotation.double())
    assert torch.allclose(volume, torch.ones_like(volume), atol=1e-4)
    stretched = (poses.rotation.transpose(-1, -2) @ poses.rotation - torch.eye(3)).abs().amax((-1, -2)) > 0.05
    assert stretched.float().mean() > 0.2
    fixed = torch.zeros(NUM_PARTS, dtype=torch.bool)
    fixed[FURNITURE] = True
    high = half_height(layout.size, layout.rotation)
    upright = layout.resting & (layout.rotation[..., 2, 2] > 1 - 1e-7) & ~fixed
    foot = poses.position - (poses.rotation * torch.tensor([0.0, 0.0, 1.0])).sum(-1) * high[:, None, :, None]
    assert torch.allclose(foot[..., 2][upright[:, None].expand(-1, 33, -1)], torch.zeros(()), atol=1e-4)


def test_wheels_roll_as_far_as_they_turn() -> None:
    config = replace(
        CONFIG, shapes=ShapeShares(vehicle_share=1.0), room_weight=0.0, open_weight=0.0, tabletop_weight=0.0
    )
    draws, around, layout, clock, poses, lively = _ready(config)
    instance = torch.arange(1, NUM_PARTS + 1).expand(SCENES, -1)
    layout, poses, _ = place_vehicle(draws, config, around, layout, poses, instance, lively, clock)
    wheel = 45
    radius = layout.size[:, wheel, 0]
    assert torch.allclose(poses.position[..., wheel, 2], radius[:, None].expand(-1, 33), atol=1e-5)
    turn = poses.rotation[:, :, wheel].double()
    between = turn[:, :-1].transpose(-1, -2) @ turn[:, 1:]
    angle = torch.arccos(((between.diagonal(dim1=-1, dim2=-2).sum(-1) - 1) / 2).clamp(-1, 1))
    step = poses.position[:, :, wheel].double().diff(dim=1).norm(dim=-1)
    small = angle < 2.5
    assert step.sum() > 10
    assert torch.allclose((angle * radius[:, None])[small], step[small], atol=2e-3)


def test_figures_keep_their_feet_on_the_ground_and_their_limbs_joined() -> None:
    from vdpm.synthetic.figures import sample_figure

    for act in ("walk", "run", "wave", "squat", "dance", "stand"):
        acts = {name: float(name == act) for name in ("walk", "run", "wave", "squat", "dance", "stand")}
        config = replace(CONFIG, figure_share=1.0, figures=FigureWeights(animal=0.0, **acts))
        draws, around, _, clock, _, lively = _ready(config)
        figure = sample_figure(draws, config, around, lively, clock, 0)
        low = (
            figure.poses.position[..., 2]
            - (figure.poses.rotation[..., 2, 2].abs() * figure.size[:, None, :, 2])
            - figure.size[:, None, :, 0]
        )
        height = figure.poses.position[:, :, 1, 2].amax(1)
        assert (low.amin((1, 2)) > -0.15 * height).all(), act
        if act in ("wave", "squat", "stand"):
            assert (low.amin((1, 2)) < 0.12 * height).all(), act
        # Upper and lower segments of a limb meet at the knee.
        for limb in range(4):
            upper, lower = 2 + 2 * limb, 3 + 2 * limb
            down = torch.tensor([0.0, 0.0, -1.0])
            knee = (
                figure.poses.position[:, :, upper]
                + (figure.poses.rotation[:, :, upper] * down).sum(-1) * figure.size[:, None, upper, 2:]
            )
            top = (
                figure.poses.position[:, :, lower]
                - (figure.poses.rotation[:, :, lower] * down).sum(-1) * figure.size[:, None, lower, 2:]
            )
            assert torch.allclose(knee, top, atol=1e-4), act
