"""`python -m automfm_hpc` and the command `automfm`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line with one thread per process, set before NumPy loads its BLAS."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from automfm_hpc.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
