"""How often each kind of shape, deformation and motion occurs."""

from dataclasses import dataclass, fields

from vdpm.errors import UsageError


def _check(of: object) -> None:
    """Shares (``*_share``) lie between 0 and 1; the other fields, where there are any, are weights."""
    values = {field.name: getattr(of, field.name) for field in fields(of)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name.endswith("_share") and not 0 <= value <= 1:
            raise UsageError(f"{name} is {value}; a share lies between 0 and 1")
        if value < 0:
            raise UsageError(f"{name} is {value}; a weight must not be negative")
    weights = [value for name, value in values.items() if not name.endswith("_share")]
    if weights and sum(weights) <= 0:
        raise UsageError(f"all weights of {type(of).__name__} are 0; raise at least one")


@dataclass(frozen=True)
class SheetWeights:
    """Which surfaces of triangles scenes have. ``share``: of the three places for them that are taken, on average.

    The first nine deform as they move; ``prism`` (extruded stars, crosses, L, T, gears, arrows) and what follows is
    rigid, or squashed and sheared as other things are. The last four are for held-out scenes.
    """

    sheet_share: float = 0.3
    curtain: float = 1.0
    flag: float = 1.0
    falling: float = 0.8
    carpet: float = 0.5
    snake: float = 1.0
    tentacle: float = 1.0
    fish: float = 1.2
    bird: float = 1.2
    blob: float = 1.0
    prism: float = 2.0
    torus: float = 0.0
    column: float = 0.0
    moebius: float = 0.0
    burr: float = 0.0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def weights(self) -> tuple[float, ...]:
        """In the order of sheets.CURTAIN to sheets.BURR."""
        return tuple(float(getattr(self, field.name)) for field in fields(self)[1:])


@dataclass(frozen=True)
class ShapeShares:
    """How often scenes have each kind of thing that is not a single ellipsoid, box, frustum or capsule."""

    superquadric_share: float = 0.35
    terrain_share: float = 0.5
    crowd_share: float = 0.2
    vehicle_share: float = 0.6
    lathe_share: float = 0.35
    thin_share: float = 0.3
    stack_share: float = 0.4

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class MotionWeights:
    """Which motions single things have, and how often what is special happens.

    Shares: ``soft``: moving things that squash, stretch, shear or breathe; ``collision``: scenes in which three balls
    meet; ``depth``: moving things that come towards the camera's side or go away; ``carousel``: scenes in which all
    that moves goes round together.
    """

    straight: float = 1.5
    circle: float = 1.0
    sway: float = 0.7
    hop: float = 1.0
    drop: float = 1.5
    spin: float = 0.8
    roll: float = 1.2
    pendulum: float = 1.0
    slide: float = 1.0
    start_stop: float = 1.0
    top: float = 0.6
    door: float = 0.5
    soft_share: float = 0.25
    collision_share: float = 0.3
    depth_share: float = 0.3
    carousel_share: float = 0.07

    def __post_init__(self) -> None:
        _check(self)

    @property
    def weights(self) -> tuple[float, ...]:
        """In the order of motion.STRAIGHT to motion.DOOR."""
        return tuple(float(getattr(self, f.name)) for f in fields(self) if not f.name.endswith("_share"))


@dataclass(frozen=True)
class FigureWeights:
    """What figures are, and what people do."""

    person: float = 1.0
    animal: float = 0.6
    walk: float = 1.5
    run: float = 0.6
    wave: float = 0.7
    squat: float = 0.6
    dance: float = 0.8
    stand: float = 0.4

    def __post_init__(self) -> None:
        _check(self)

    @property
    def acts(self) -> tuple[float, ...]:
        """In the order of figures.WALK to figures.STAND."""
        return (self.walk, self.run, self.wave, self.squat, self.dance, self.stand)
