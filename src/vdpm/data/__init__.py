"""Clips with ground truth on disk: our own layout, written and read."""

from vdpm.data.snippet_folder import read_snippet, write_snippet

__all__ = ["read_snippet", "write_snippet"]
