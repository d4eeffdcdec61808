"""What the tests of runs share, the tests of tables use too, also where they are run alone."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "runs"))
