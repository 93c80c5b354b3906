"""Numbers to colours: two perceptually even colour maps, and the colour wheel of motion.

Colour maps are polynomials of degree 6 fitted to matplotlib's viridis and inferno (M. Zucker,
shadertoy.com/view/WlfXRN, CC0).
"""

import numpy as np
from jaxtyping import Float, UInt8

VIRIDIS = (
    (0.2777273272234177, 0.005407344544966578, 0.3340998053353061),
    (0.1050930431085774, 1.404613529898575, 1.384590162594685),
    (-0.3308618287255563, 0.214847559468213, 0.09509516302823659),
    (-4.634230498983486, -5.799100973351585, -19.33244095627987),
    (6.228269936347081, 14.17993336680509, 56.69055260068105),
    (4.776384997670288, -13.74514537774601, -65.35303263337234),
    (-5.435455855934631, 4.645852612178535, 26.3124352495832),
)
INFERNO = (
    (0.0002189403691192265, 0.001651004631001012, -0.01948089843709184),
    (0.1065134194856116, 0.5639564367884091, 3.932712388889277),
    (11.60249308247187, -3.972853965665698, -15.9423941062914),
    (-41.70399613139459, 17.43639888205313, 44.35414519872813),
    (77.162935699427, -33.40235894210092, -81.80730925738993),
    (-71.31942824499214, 32.62606426397723, 73.20951985803202),
    (25.13112622477341, -12.24266895238567, -23.07032500287172),
)

ColorMap = tuple[tuple[float, float, float], ...]


def colorize(values: Float[np.ndarray, "*shape"], color_map: ColorMap) -> UInt8[np.ndarray, "*shape 3"]:
    """Values in [0, 1] (clipped) -> RGB, 8 bit."""
    t = np.clip(values, 0, 1)[..., None]
    rgb = np.zeros((*values.shape, 3))
    for coefficients in reversed(color_map):
        rgb = rgb * t + np.asarray(coefficients)
    return _to_bytes(rgb)


def motion_colors(flow: Float[np.ndarray, "*shape 3"], full_scale: float) -> UInt8[np.ndarray, "*shape 3"]:
    """Motion (x right, y down, z forward) -> RGB, 8 bit: white at rest, hue by direction in the x-y plane.

    Saturation grows with the length of the 3D motion and is full at ``full_scale`` (same unit as ``flow``).
    """
    length = np.clip(np.linalg.norm(flow, axis=-1) / full_scale, 0, 1)[..., None]
    angle = np.arctan2(flow[..., 1], flow[..., 0])[..., None]
    # Three cosines a third of a turn apart: the hue circle without the bright and dark bands of HSV.
    hue = 0.5 + 0.5 * np.cos(angle - np.array([0.0, 2 * np.pi / 3, 4 * np.pi / 3]))
    return _to_bytes(1 - length * (1 - hue * 0.92))


def linear(colors: UInt8[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """sRGB, 8 bit -> linear light in 0 to 1 (IEC 61966-2-1)."""
    value = colors.astype(np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _to_bytes(rgb: Float[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape 3"]:
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
