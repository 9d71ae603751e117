"""Files of Debian packages that need not be installed for a test: fetched by apt, and unpacked."""
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def unpacked(package, root=None):
    """The directory with the files of a package, which is kept for the next time.

    WALTER_PACKAGES says where; ~/.cache/walter/packages if nothing does.  `root`: the tree whose
    release has the package; this system's, if none is named.
    """
    place = Path(os.environ.get("WALTER_PACKAGES")
                 or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
                 / "walter" / "packages")
    target = place / package
    if target.exists():
        return target
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as work:
        if root:
            _download_from(root, package, work)
        else:
            _download(package, work)
        (archive,) = Path(work).glob("*.deb")
        _run(["dpkg-deb", "--extract", archive, "files"], work)
        try:
            os.rename(Path(work) / "files", target)
        except OSError:
            # another process was faster
            assert target.exists()
    return target


def _download(package, directory):
    """Where everything was installed long ago, apt's lists may be old, or not there at all."""
    command = ["apt-get", "download", "-qq", package]
    if subprocess.run(command, cwd=directory, capture_output=True, timeout=300,
                      check=False).returncode == 0:
        return
    subprocess.run(["apt-get", "update", "-qq"], capture_output=True, timeout=300, check=False)
    _run(command, directory)


def _download_from(root, package, directory):
    with tempfile.TemporaryDirectory(dir=f"{root}/tmp") as work:
        _run(["chroot", root, "sh", "-c", 'cd "$0" && exec apt-get download -qq "$1"',
              work.removeprefix(root), package], directory)
        for archive in Path(work).glob("*.deb"):
            shutil.copy(archive, directory)


def _run(command, directory):
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300,
                          check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
