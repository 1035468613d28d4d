"""One thread a process: two threads on two busy cores run at a twentieth of the speed of one."""

import os

os.environ["OMP_NUM_THREADS"] = (
    "1"  # read by torch and numpy when they are first imported, and by processes started here
)
