"""``python -m hyq_tvm``."""

from hyq_tvm.cli import main

if __name__ == "__main__":
    main()
