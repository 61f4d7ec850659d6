"""Wait until the release answers, then tell the edge of it.

python3 -c … HEALTH_URL SECONDS ARGUMENT…    arguments: those of `holdfast release`
"""

import subprocess
import sys
import time
import urllib.request


def answers(url):
    """Empty when it is well, else what is wrong."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return ""
    except (OSError, ValueError) as error:
        return str(error)


url, ends = sys.argv[1], time.monotonic() + float(sys.argv[2])
while wrong := answers(url):
    if time.monotonic() >= ends:
        sys.exit(f"holdfast hook: the release does not answer at {url} after {sys.argv[2]} s: {wrong}")
    time.sleep(1)
print("holdfast hook: the release answers at " + url, flush=True)
sys.exit(subprocess.run([sys.executable, "-m", "edge", "release", *sys.argv[3:]], check=False).returncode)
