"""`python -m lldiffusion`, and with it `torchrun -m lldiffusion train ...`."""

from lldiffusion.cli import main

main()
