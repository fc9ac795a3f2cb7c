"""Add up what unittest said in log files, and print "N passed, M failed".

``count.py BROKEN LOG...``: BROKEN steps failed without a failed test.
"""

import re
import sys
from pathlib import Path


def main(broken, *logs):
    """Print the sum, and return the exit code."""
    ran = skipped = 0
    failed = int(broken)
    for log in logs:
        for line in Path(log).read_text("utf-8", errors="replace").splitlines():
            if found := re.match(r"Ran (\d+) tests? in ", line):
                ran += int(found[1])
            elif found := re.fullmatch(r"(?:OK|FAILED) \((.+)\)", line):
                counts = dict(part.split("=") for part in found[1].split(", "))
                skipped += int(counts.get("skipped", 0))
                for name in ("failures", "errors", "unexpected successes"):
                    failed += int(counts.get(name, 0))
    passed = max(ran - skipped - (failed - int(broken)), 0)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
