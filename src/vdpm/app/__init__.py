"""The local web app: videos dropped into a browser, reconstructed one after the other, looked at and downloaded.

``serve`` is what ``vdpm app`` runs. ``server`` answers requests and ``guard`` decides which are answered at all;
``jobs`` holds the queue; ``work`` is the separate process that reconstructs one video; ``workspace`` is where files
lie.
"""
