"""A reconstruction on disk: written map by map as it is made, read one map at a time. ``manifest`` has the format."""

from vdpm.archive.folder import check_output
from vdpm.archive.holding import hold
from vdpm.archive.manifest import FORMAT, FORMAT_VERSION, WindowEntry
from vdpm.archive.reader import ResultSummary, describe, is_result, load
from vdpm.archive.window_store import StoredWindow, WindowStore, store_folder
from vdpm.archive.writer import ReconstructionWriter, record_derived, save

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "ReconstructionWriter",
    "ResultSummary",
    "StoredWindow",
    "WindowEntry",
    "WindowStore",
    "check_output",
    "describe",
    "hold",
    "is_result",
    "load",
    "record_derived",
    "save",
    "store_folder",
]
