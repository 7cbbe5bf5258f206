"""Video: reading and writing it honestly, enhancing it stably, long jobs that survive."""
