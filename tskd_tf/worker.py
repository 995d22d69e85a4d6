"""Entry point of `python -m tskd_tf.worker FOLDER`; see `search.workers.worker`."""

import sys

from tskd_tf.search.workers.worker import main

if __name__ == "__main__":
    sys.exit(main())
