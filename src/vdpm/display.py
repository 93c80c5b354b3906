"""How a result shows itself in a notebook, without plain data knowing what draws it.

``structures`` asks here by a kind; ``vdpm`` itself, which stands above all rooms, says at import who answers, as lazily
as it names its functions. So the data imports nothing from above, and nothing is loaded before it is asked for.
"""

from collections.abc import Callable
from typing import Any

Shows = Callable[..., Any]

_SHOWS: dict[str, Shows] = {}


def register(kind: str, shows: Shows) -> None:
    """``shows(value, **options)`` answers for ``kind`` from now on."""
    _SHOWS[kind] = shows


def show(kind: str, value: object, **options: Any) -> Any:
    """What the one who answers for ``kind`` makes of ``value``."""
    return _SHOWS[kind](value, **options)
