"""``python -m keyferry.app.dashboard``."""

import sys

from keyferry.app.dashboard.serve import main

sys.exit(main())
