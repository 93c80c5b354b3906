"""The live viewer: a result in a browser on this machine, read as it is looked at. Needs the extra ``vdpm[view]``.

viser draws and asks; ``guard`` decides who may speak to it. A ``Reading`` of each result is shared by all browsers, and
each of them has a ``Session`` of its own. Which points there are, and which are hidden, is decided
where the page decides it (``vdpm.viewer.choice``, ``vdpm.viewer.confidence``).
"""
