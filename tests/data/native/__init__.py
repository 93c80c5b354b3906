"""Our own scenes on disk exactly as each data set has them: its files, encodings, axes and units."""
