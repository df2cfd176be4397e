"""The cache of kernels never decides whether the library works: damaged, unwritable, full, missing, shared folders."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastbptt.engine.compat import PLAIN

ENGINE = Path(__file__).resolve().parent
CODE = f"""
import sys; sys.path.insert(0, {str(ENGINE)!r})
import small_kernels
small_kernels.check()
from fastbptt.engine.jit import KERNELS
print(sum(k.stats.cache_hits.total() for k in KERNELS))
"""
# Root may write everywhere; without its capabilities it may do what others may.
NO_POWERS = """
import ctypes, os
header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(header, none) == 0
"""
pytestmark = pytest.mark.slow
linux = pytest.mark.skipif(sys.platform != "linux", reason="rights of files, as Linux has them")


def run(folder, code=CODE, before="", warnings=0, cwd=None, **env):
    """The first word that the code prints; everything it says besides must be that many warnings of ours."""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **env}
    done = subprocess.run([sys.executable, "-B", "-c", before + code], env=env, capture_output=True, text=True,
                          timeout=300, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("RuntimeWarning") == warnings, done.stderr
    return done.stdout.split()[0]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")
    assert run(folder) == "0" and run(folder) == "1"
    return folder


@pytest.fixture
def copy(filled, tmp_path):
    return shutil.copytree(filled, tmp_path / "copy")


def entries(folder):
    return [p for p in folder.rglob("*") if p.suffix in (".nbc", ".nbi") and "selfcheck" not in p.name]


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:len(data) // 2], lambda data: b"\0" * len(data),
                                    lambda data: b"other" + data])
def test_a_damaged_entry_is_one_that_is_not_there(copy, damage):
    for path in entries(copy):
        path.write_bytes(damage(path.read_bytes()))
    assert run(copy) == "0"
    assert run(copy) == "1"      # replaced


@pytest.mark.skipif(PLAIN, reason="Numba's own cache has no checksum")
def test_a_flipped_bit_is_damage(copy):
    (path,) = entries(copy)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    assert run(copy) == "0"
    assert run(copy) == "1"


@pytest.mark.parametrize("damage", ["", "half", "numbers\n"])
def test_a_damaged_self_check(copy, damage):
    """No end of line: not written whole. What it found otherwise is what it says."""
    if PLAIN:
        return      # it is not read
    (path,) = copy.rglob("self-check")
    path.write_text(damage)
    assert run(copy, warnings=damage.endswith("\n")) == ("0" if damage.endswith("\n") else "1")


def read_only(folder):
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@linux
@pytest.mark.skipif(PLAIN, reason="Numba's own cache reads no folder that it cannot write")
def test_a_folder_that_can_only_be_read_is_read(copy):
    """… without a word; what it does not have is compiled and not kept, with one warning."""
    read_only(copy)
    assert run(copy, before=NO_POWERS) == "1"
    more = CODE + """
import numpy as np
for dtype in (np.float32, np.int64):
    small_kernels.squares((np.ones((2, 3), np.float32), np.ones(3, dtype)), 0)
"""
    assert run(copy, more, before=NO_POWERS, warnings=1) == "1"


def test_a_folder_that_another_process_removes(tmp_path):
    """… as one too old, between the import and the first kernel."""
    gone = f"import shutil, fastbptt; shutil.rmtree({str(tmp_path / 'fastbptt')!r})\n"
    assert run(tmp_path, before=gone, PYTHONPATH=str(ENGINE.parents[1])) == "0"
    assert run(tmp_path) == "1"


def test_paths_are_fixed_when_the_package_is_imported(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run("kernels", before=f"import os; os.chdir({str(tmp_path / 'a')!r}); import fastbptt; os.chdir('../b')\n",
        PYTHONPATH=str(ENGINE.parents[1]))
    assert list(tmp_path.glob("a/kernels/fastbptt/*")) and not list(tmp_path.glob("b/*"))


def test_no_home(tmp_path):
    """No folder `~` in the working directory, whatever XDG_CACHE_HOME says that is not a whole path."""
    code = f"""
import os; os.chdir({str(tmp_path)!r})
import pathlib
from fastbptt.engine import folder
os.path.expanduser = lambda path: path
os.environ["XDG_CACHE_HOME"] = "here"
folder.PACKAGE = pathlib.Path(os.devnull)
from numba import config
config.CACHE_DIR = ""
assert [str(p) for p in folder.cache_roots()] == [os.devnull + "/__pycache__/kernels"], folder.cache_roots()
"""
    run(tmp_path, code + "print('.')", PYTHONPATH=str(ENGINE.parents[1]))
    assert not {"~", "here"} & set(os.listdir(tmp_path))


def installed(tmp_path):
    """A copy of the package, as an administrator would install it."""
    return shutil.copytree(ENGINE.parents[1] / "fastbptt", tmp_path / "site" / "fastbptt",
                           ignore=shutil.ignore_patterns("__pycache__"))


@linux
@pytest.mark.skipif(PLAIN, reason="Numba's own cache has one folder")
def test_kernels_installed_with_the_package_are_read_and_others_kept_at_home(tmp_path):
    package = installed(tmp_path)
    env = {"PYTHONPATH": str(package.parent), "XDG_CACHE_HOME": "", "HOME": str(tmp_path / "home")}
    assert run("", cwd=tmp_path, **env) == "0"
    read_only(package.parent)
    code = CODE.replace("print", "import numpy as np\n"
                        "small_kernels.squares((np.ones((2, 3), np.float32), np.ones(3, np.float32)), 0)\nprint", 1)
    assert [run("", code, before=NO_POWERS, cwd=tmp_path, **env) for _ in range(2)] == ["1", "2"]
    assert entries(tmp_path / "home")


@linux
def test_a_user_without_a_home(tmp_path):
    """… and without an entry in passwd, with a package that is not theirs: no cache, one warning, and no folder `~`."""
    package = installed(tmp_path)
    read_only(package.parent)
    (tmp_path / "here").mkdir()
    before = NO_POWERS + f"""
import os, pwd
os.chdir({str(tmp_path / "here")!r}); os.environ.pop("HOME", 0)
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
"""
    assert run("", before=before, warnings=1, PYTHONPATH=str(package.parent), XDG_CACHE_HOME="") == "0"
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("name", ["mkstemp", "replace"])
def test_a_full_disk(tmp_path, name):
    """The result, and one warning; nothing half written stays."""
    module = {"mkstemp": "tempfile", "replace": "os"}[name]
    full = f"""
import {module}, errno, fastbptt
def full(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device")
{module}.{name} = full
"""
    if PLAIN and name == "mkstemp":
        return      # Numba opens its files in another way
    assert run(tmp_path, before=full, warnings=1, PYTHONPATH=str(ENGINE.parents[1])) == "0"
    assert not entries(tmp_path) and not list(tmp_path.rglob("*.tmp*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on files there")
@pytest.mark.skipif(PLAIN, reason="the lock and Numba's files are beyond the limit as well")
def test_a_quota(tmp_path):
    """A limit on the size of files, met in the middle of writing."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " \
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    assert run(tmp_path, before="import fastbptt\n" + limit, warnings=1, PYTHONPATH=str(ENGINE.parents[1])) == "0"
    assert not entries(tmp_path) and not list(tmp_path.rglob("*.tmp"))


def test_processes_that_fill_it_at_once(tmp_path):
    """Each compiles another signature of one function, which Numba's own cache keeps in one index."""
    code = f"""
import sys; sys.path.insert(0, {str(ENGINE)!r})
import numpy as np, small_kernels
from fastbptt.engine.jit import KERNELS
dtypes = [np.float32, np.float64]
for i in map(int, sys.argv[1]):
    x = np.arange(35, dtype=dtypes[i % 2]).reshape((5, 7))
    got = small_kernels.squares((x, x[0].astype(dtypes[i // 2])), 0)
    assert got[1:].tolist() == (x * x + 1).sum(axis=1)[1:].tolist() and got.dtype == x.dtype
print(sum(k.stats.cache_hits.total() for k in KERNELS))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    processes = [subprocess.Popen([*command, order], env=env) for order in ("0123", "3210", "2301", "1032")]
    assert [p.wait(timeout=300) for p in processes] == [0] * 4
    done = subprocess.run([*command, "0123"], env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "4", done.stderr


@pytest.mark.parametrize("switch", [
    "NUMBA_DISABLE_JIT=1", "NUMBA_OPT=0", "NUMBA_OPT=1", "NUMBA_OPT=2", "NUMBA_CAPTURED_ERRORS=old_style", "NUMBA_DEBUG=1",
    "NUMBA_DEBUG_CACHE=1", "NUMBA_DUMP_ANNOTATION=1", "NUMBA_DUMP_ASSEMBLY=1", "NUMBA_DUMP_OPTIMIZED=1", "NUMBA_DEBUGINFO=1",
    "NUMBA_LLVM_PASS_TIMINGS=1", "NUMBA_DEBUG_PRINT_AFTER=all", "NUMBA_BOUNDSCHECK=1", "NUMBA_FULL_TRACEBACKS=1"])
def test_switches_of_numba(switch, tmp_path):
    """NUMBA_DISABLE_JIT=1 is for the user's functions: ours have no other form than the compiled one."""
    name, value = switch.split("=")
    code = CODE + "import numba\nassert not hasattr(numba.njit(lambda x: x), 'py_func') or numba.config.DISABLE_JIT == 0\n"
    done = subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", code],
                          env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), name: value}, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:].decode(errors="replace")
