"""`python -m lldiffusion`, and with it `torchrun -m lldiffusion train ...`."""

from lldiffusion.cli import main

if __name__ == "__main__":  # loader processes import this file again
    main()
