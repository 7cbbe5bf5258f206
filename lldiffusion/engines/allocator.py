"""Keep freed memory in the process.

glibc hands large blocks back to the system at once and faults them in again at the next layer, which costs eager
PyTorch on a CPU up to half its time.  The command line, which owns its process, asks glibc to keep them;
a library inside somebody's program does not.
"""

from __future__ import annotations

import ctypes
import platform

from lldiffusion.limits import address_space_free

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed memory instead of returning it; False where there is no glibc.

    Nor under `ulimit -v`, where what is kept in reserve would be missing elsewhere.
    """
    if platform.libc_ver()[0] != "glibc" or address_space_free() is not None:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))
    return all(mallopt(ctypes.c_int(key), ctypes.c_int(value)) == 1 for key, value in settings)
