"""Range images of a spinning lidar, and the points behind their cells.

Row 0 looks highest. The middle column looks along the car's x axis whatever way the sensor is mounted, and columns run
clockwise, seen from above: from behind over the left, the front and the right to behind again. A cell's own vehicle
pose, where there is one, takes the car's motion during the turn into account.
"""

import numpy as np
from jaxtyping import Float, Int


def beam_inclinations(
    given: Float[np.ndarray, "beams"], lowest: float, highest: float, rows: int
) -> Float[np.ndarray, "rows"]:
    """Radians above the horizon of each row. Files list beams from the lowest up, or their ends alone (evenly spaced).

    Raises ValueError where the list is not one beam a row.
    """
    if not len(given):
        given = lowest + (np.arange(rows) + 0.5) / rows * (highest - lowest)
    if len(given) != rows:
        raise ValueError(f"{len(given)} beams for {rows} rows")
    return np.asarray(given, np.float64)[::-1]


def column_azimuths(columns: int, to_vehicle: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "columns"]:
    """Radians of each column in the sensor's own frame, counted from its x axis towards its y axis.

    The sensor's yaw on the car, in ``to_vehicle``, is taken off: columns are laid out by the car's axes.
    """
    yaw = np.arctan2(to_vehicle[1, 0], to_vehicle[0, 0])
    return np.pi * (1 - 2 * (np.arange(columns) + 0.5) / columns) - yaw


def cell_points(
    ranges: Float[np.ndarray, "cells"],
    rows: Int[np.ndarray, "cells"],
    columns: Int[np.ndarray, "cells"],
    inclinations: Float[np.ndarray, "height"],
    azimuths: Float[np.ndarray, "width"],
    to_vehicle: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "cells 3"]:
    """Points in the car's frame (x forward, y left, z up), metres, in float64, of cells by their rows and columns."""
    level = np.cos(inclinations)[rows]
    ways = np.stack((np.cos(azimuths)[columns] * level, np.sin(azimuths)[columns] * level, np.sin(inclinations)[rows]))
    ways *= ranges
    return ways.T @ to_vehicle[:3, :3].T + to_vehicle[:3, 3]


def placed_by_cell(
    points: Float[np.ndarray, "cells 3"], poses: Float[np.ndarray, "cells 6"]
) -> Float[np.ndarray, "cells 3"]:
    """Points in the car's frame -> in the world, each by its own pose: roll, pitch, yaw (radians) and x, y, z.

    The rotation is yaw about z, times pitch about y, times roll about x. Sines are taken in the angles' own precision:
    files have float32, whose rounding moves a point 75 m away by 0.02 mm.
    """
    roll, pitch, yaw = np.ascontiguousarray(poses[:, :3].T)
    x, y, z = points.T
    y, z = np.cos(roll) * y - np.sin(roll) * z, np.sin(roll) * y + np.cos(roll) * z
    x, z = np.cos(pitch) * x + np.sin(pitch) * z, -np.sin(pitch) * x + np.cos(pitch) * z
    x, y = np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y
    return np.stack((x, y, z), axis=-1) + poses[:, 3:]
