"""Looking at results: the single-file page and films. A Reconstruction goes in, no network is needed.

This room stands on ``vdpm.export`` (files that are there whole or not at all, colour maps), never beside the network.
"""
