"""``python -m hyq_tvm.demo [--digits]``."""

import sys

from hyq_tvm.demo import main

if __name__ == "__main__":
    sys.exit(main(digits="--digits" in sys.argv[1:]))
