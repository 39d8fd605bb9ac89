"""`python -m beforehand` is the command `beforehand`."""

import sys

from beforehand.cli.main import main

sys.exit(main())
