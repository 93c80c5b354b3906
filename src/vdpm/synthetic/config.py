"""What scenes are made of: the ranges and shares that the sampler draws from."""

from dataclasses import dataclass, field

from vdpm.errors import UsageError
from vdpm.synthetic.kinds import FigureWeights, MotionWeights, ShapeShares, SheetWeights
from vdpm.synthetic.looks import MaterialWeights, SensorConfig

HELD_OUT_START = 1 << 40
"""Seeds from here on are held out; training seeds lie below."""


@dataclass(frozen=True)
class SceneConfig:
    """Ranges and shares of the scenes. Pairs are (low, high); weights are relative; shares are probabilities.

    ``frame_stride``: a clip's frames are that many frame steps apart, one whole number a clip; motion and ``time_step``
    are given for single steps.
    Lengths are in the scene's own unit, roughly metres. ``time_step``: seconds between frames. ``baseline``: camera
    travel in eight frames, relative to the distance of the point looked at. ``travel``: travel of a moving object in
    eight frames, relative to its size. ``colour_samples``: rays a pixel for colour (1, 3 or 5; the first one, through
    the pixel's centre, also gives the ground truth). Raises UsageError for values that make no sense.
    """

    num_frames: int = 6
    frame_stride: tuple[int, int] = (1, 1)
    height: int = 96
    width: int = 128
    room_weight: float = 0.35
    open_weight: float = 0.25
    street_weight: float = 0.15
    tabletop_weight: float = 0.25
    static_share: float = 0.2
    moving_share: tuple[float, float] = (0.3, 0.9)
    density: tuple[float, float] = (0.35, 1.0)
    figure_share: float = 0.55
    second_figure_share: float = 0.3
    shapes: ShapeShares = field(default_factory=ShapeShares)
    sheets: SheetWeights = field(default_factory=SheetWeights)
    motions: MotionWeights = field(default_factory=MotionWeights)
    figures: FigureWeights = field(default_factory=FigureWeights)
    still_camera_weight: float = 0.15
    handheld_weight: float = 0.25
    dolly_weight: float = 0.25
    orbit_weight: float = 0.2
    pan_weight: float = 0.1
    follow_weight: float = 0.07
    walk_weight: float = 0.1
    truck_weight: float = 0.1
    crane_weight: float = 0.06
    drone_weight: float = 0.08
    dolly_zoom_weight: float = 0.03
    baseline: tuple[float, float] = (0.04, 1.2)
    travel: tuple[float, float] = (0.4, 6.0)
    field_of_view: tuple[float, float] = (25.0, 100.0)
    zoom_share: float = 0.1
    time_step: tuple[float, float] = (1 / 30, 1 / 4)
    uneven_share: float = 0.2
    shadow_share: float = 0.85
    overcast_share: float = 0.25
    night_share: float = 0.07
    second_lamp_share: float = 0.25
    rim_share: float = 0.2
    noise_level: tuple[float, float] = (0.002, 0.03)
    wild_colour_share: float = 0.1
    material_weights: MaterialWeights = field(default_factory=MaterialWeights)
    sensor: SensorConfig = field(default_factory=SensorConfig)
    colour_samples: int = 3

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.height < 1 or self.width < 1:
            raise UsageError(
                f"scene of {self.num_frames} frames of {self.height} x {self.width}: each must be at least 1"
            )
        if self.colour_samples not in (1, 3, 5):
            raise UsageError(f"colour_samples is {self.colour_samples}; choose 1, 3 or 5")
        for name, value in vars(self).items():
            if name.endswith("_share") and isinstance(value, float) and not 0 <= value <= 1:
                raise UsageError(f"{name} is {value}; a share lies between 0 and 1")
            if name.endswith("_weight") and value < 0:
                raise UsageError(f"{name} is {value}; a weight must not be negative")
            if isinstance(value, tuple) and not 0 <= value[0] <= value[1]:
                raise UsageError(f"{name} is {value}; give (low, high) with 0 <= low <= high")
        for name in ("frame_stride", "baseline", "travel", "time_step", "field_of_view", "noise_level"):
            if getattr(self, name)[0] <= 0:
                raise UsageError(f"{name} starts at {getattr(self, name)[0]}; it must be above 0")
        if self.field_of_view[1] >= 170:
            raise UsageError(f"field_of_view reaches {self.field_of_view[1]} degrees; keep it below 170")
        if sum(self.scene_weights) <= 0 or sum(self.camera_weights) <= 0:
            raise UsageError("all scene weights or all camera weights are 0; raise at least one of each")

    @property
    def scene_weights(self) -> tuple[float, ...]:
        """In the order of scene.ROOM, OPEN, STREET, TABLETOP."""
        return (self.room_weight, self.open_weight, self.street_weight, self.tabletop_weight)

    @property
    def camera_weights(self) -> tuple[float, ...]:
        """In the order of cameras.STILL, HANDHELD, DOLLY, ORBIT, PAN, FOLLOW, WALK, TRUCK, CRANE, DRONE, DOLLY_ZOOM."""
        return (
            self.still_camera_weight,
            self.handheld_weight,
            self.dolly_weight,
            self.orbit_weight,
            self.pan_weight,
            self.follow_weight,
            self.walk_weight,
            self.truck_weight,
            self.crane_weight,
            self.drone_weight,
            self.dolly_zoom_weight,
        )
