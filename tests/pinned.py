"""Tools and libraries of pinned versions for the checks, from Go's and Python's package registries."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("CACHE_DIR") or ROOT / ".cache").resolve()
PROGRAM = Path(sys.argv[0]).name


def run(command, **options):
    """Runs `command` and returns what it prints; its failure ends this program with its own words."""
    command = [str(part) for part in command]
    if shutil.which(command[0]) is None:
        sys.exit(f"{PROGRAM}: {command[0]} is not there")
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{PROGRAM}: {' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


class Tools:
    """A folder of the cache, with programs in `bin` and Python's packages in `python`."""

    def __init__(self, name):
        self.folder = CACHE / name
        self.python = self.folder / "python"

    def prepare(self, versions, fetch):
        """Has the folder filled by `fetch` unless it was filled for the same versions already."""
        if str(self.python) not in sys.path:
            sys.path.insert(0, str(self.python))
        stamp = self.folder / "versions"
        versions = "\n".join(versions)
        if stamp.exists() and stamp.read_text() == versions:
            return
        print(f"{PROGRAM}: fetching tools", file=sys.stderr, flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        fetch()
        stamp.write_text(versions)

    def program(self, name):
        return self.folder / "bin" / name

    def install_go(self, package):
        run(["go", "install", package], env={**os.environ, "GOBIN": str(self.folder / "bin")})

    def build_go(self, module, package, tags):
        """Builds a program within its module, whose replacements `go install` refuses."""
        options = ["-trimpath", "-tags", tags, "-o", self.program(Path(package).name)]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        run(["go", "build", "-C", go_module(module), *options, package], env=environment)

    def install_python(self, *requirements):
        self.pip("install", "--target", self.python, *requirements)

    def download_python(self, requirement):
        """Returns the wheel of a package."""
        self.pip("download", "--dest", self.folder, requirement)
        return next(self.folder.glob("*.whl"))

    def pip(self, verb, *arguments):
        quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
        run([sys.executable, "-m", "pip", "--quiet", verb, "--no-deps", *arguments], env=quiet)


def go_module(module):
    """Returns the folder of a Go module's source."""
    return Path(json.loads(run(["go", "mod", "download", "-json", module]))["Dir"])
