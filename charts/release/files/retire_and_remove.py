"""Have the edge empty and forget the release, before its pods go.

python3 -c … SHA APP WAIT ARGUMENT…    arguments: how, for `holdfast release retire`
"""

import json
import subprocess
import sys


def holdfast(*arguments, quiet=False):
    """`holdfast release …` about the app. Its exit code and what it printed."""
    command = [sys.executable, "-m", "edge", "release", *arguments, "--app", app]
    done = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, text=True, check=False)
    return done.returncode, done.stdout or ""


sha, app, wait = sys.argv[1:4]
code, shown = holdfast("list", "--json", quiet=True)
if code:
    sys.exit("holdfast hook: the edge does not say what releases there are, so nothing is uninstalled")
release = next((row for row in json.loads(shown)["releases"] if row["sha"] == sha), None)
if release is None:
    print(f"holdfast hook: the edge does not know release {sha}; nothing to retire")
    sys.exit(0)
if release["current"] or release["configured"]:
    sys.exit(
        f"holdfast hook: release {sha} is the current one of app {app}, so it stays; promote another first: "
        f"holdfast release promote SHA --app {app}"
    )
if release["state"] != "warming":
    code, _ = holdfast("retire", sha, *sys.argv[4:], "--wait", wait)
    if code:
        sys.exit(f"holdfast hook: release {sha} is not empty, so it is not uninstalled; try again later")
code, _ = holdfast("remove", sha)
sys.exit(code)
