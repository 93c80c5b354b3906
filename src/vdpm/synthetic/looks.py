"""How scenes look: the weights of materials, and shares and ranges of what a camera's sensor does to a picture."""

from dataclasses import dataclass

from vdpm.errors import UsageError


@dataclass(frozen=True)
class MaterialWeights:
    """Relative weights of the families of materials; where a surface is matters too (grass seldom grows on walls).

    The last five have weight 0: a test on materials never trained on can raise them. Raises UsageError for weights
    below 0, or all 0.
    """

    plain: float = 1.7
    clouds: float = 1.2
    camouflage: float = 0.6
    ground: float = 1.3
    hair: float = 0.6
    wood: float = 1.0
    planks: float = 0.8
    brick: float = 0.7
    tiles: float = 0.7
    facade: float = 0.5
    checker: float = 0.4
    stripes: float = 0.9
    plaid: float = 0.6
    weave: float = 0.5
    marble: float = 0.5
    scratches: float = 0.5
    rust: float = 0.4
    stone: float = 0.7
    spots: float = 0.6
    text: float = 0.9
    flowers: float = 0.4
    gradient: float = 0.7
    scales: float = 0.0
    circles: float = 0.0
    truchet: float = 0.0
    hexagons: float = 0.0
    zigzag: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise UsageError(f"weight of material {name} is {value}; it must not be negative")
        if sum(vars(self).values()) <= 0:
            raise UsageError("all weights of materials are 0; raise at least one")


@dataclass(frozen=True)
class SensorConfig:
    """What a camera does to pictures: for each effect the share of clips that have it and the range it is drawn from.

    ``exposure``: seconds that the shutter is open, of which motion blur follows (at most 0.9 of the time between
    frames); ``blur``: standard deviation in pixels of defocus or of a picture enlarged from a smaller one; ``sharpen``:
    strength of halos; ``fringe``: chromatic shift at the picture's corners, in pixels; ``drift``: change of exposure
    over the clip, in stops; ``tint_drift``: change of white balance; ``compression``: quantisation step of the blocks'
    transform relative to JPEG's table at quality 50. Raises UsageError for shares outside 0 to 1 and for ranges that
    are none.
    """

    exposure_share: float = 0.7
    exposure: tuple[float, float] = (0.001, 0.03)
    blur_share: float = 0.25
    blur: tuple[float, float] = (0.25, 1.0)
    sharpen_share: float = 0.6
    sharpen: tuple[float, float] = (0.3, 1.8)
    fringe_share: float = 0.2
    fringe: tuple[float, float] = (0.2, 1.0)
    drift_share: float = 0.25
    drift: tuple[float, float] = (0.05, 0.6)
    tint_drift: tuple[float, float] = (0.01, 0.08)
    compression_share: float = 0.6
    compression: tuple[float, float] = (0.1, 1.2)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, tuple):
                if not 0 < value[0] <= value[1]:
                    raise UsageError(f"{name} is {value}; give (low, high) with 0 < low <= high")
            elif not 0 <= value <= 1:
                raise UsageError(f"{name} is {value}; a share lies between 0 and 1")


NO_SENSOR_EFFECTS = SensorConfig(
    exposure_share=0.0,
    blur_share=0.0,
    sharpen_share=0.0,
    fringe_share=0.0,
    drift_share=0.0,
    compression_share=0.0,
)
"""A perfect sensor but for noise, tone curve and vignette."""
