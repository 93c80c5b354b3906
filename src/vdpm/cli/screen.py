"""Whether somebody sits before a browser that can be opened."""

import os
import sys
import webbrowser
from typing import Literal

Open = Literal["auto", "yes", "no"]
"""Whether a browser is opened; ``auto``: from a terminal of a machine with a screen."""


def has_screen() -> bool:
    """Whether somebody sits at a terminal of a machine with a screen."""
    desktop = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return sys.stdout.isatty() and desktop and "SSH_CONNECTION" not in os.environ


def open_browser(address: str, choice: Open) -> bool:
    """Open an address where that is wanted. Whether a browser took it."""
    return (choice == "yes" or (choice == "auto" and has_screen())) and webbrowser.open(address)
