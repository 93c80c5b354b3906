"""``python -m vdpm`` is ``vdpm``, for launchers such as torchrun."""

import sys

from vdpm.cli import main

if __name__ == "__main__":
    sys.exit(main())
