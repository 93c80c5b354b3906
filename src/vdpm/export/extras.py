"""Packages that only some formats need, and what to type where one is missing."""

from importlib import import_module
from typing import Any

from vdpm.errors import VDPMError


def require(module: str, extra: str) -> Any:
    """The module, imported. Raises VDPMError that names the pip command when it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == root:
            raise VDPMError(f"this format needs {root}, which is not installed: pip install 'vdpm[{extra}]'") from None
        raise VDPMError(f"{root} cannot be loaded ({error}): pip install --upgrade 'vdpm[{extra}]'") from None
