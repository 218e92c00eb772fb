"""What the machine refuses is told as such, whichever library met it."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from shell import environment

from voxella.errors import UserError
from voxella.files import atomic_path, write_text_atomic
from voxella.machine import as_mistake, machine_fault, raise_if_machine

# Linux's numbers, from its errno.h: what a user would call the machine's fault.
REFUSED = {
    "ENOSPC": 28,
    "EDQUOT": 122,
    "EROFS": 30,
    "EIO": 5,
    "EMFILE": 24,
    "ENFILE": 23,
    "ENOMEM": 12,
    "EFBIG": 27,
}
# Writers as the stages use them, in a process of its own: a limit cannot be taken back.
WRITERS = """
import sys
from pathlib import Path
import numpy as np, torch
from openpyxl import Workbook
from safetensors.torch import save_file
from voxella.files import append_line, atomic_path, write_text_atomic
from voxella.imaging.volume import write_volume
from voxella.machine import as_mistake

tensors = {"a": torch.rand(500_000)}

def book(path):
    made = Workbook()
    for row in np.random.default_rng(0).random((6_000, 9)).tolist():
        made.active.append(row)
    made.save(path)

def through(write):
    def written(path):
        with atomic_path(path) as temporary:
            write(temporary)
    return written

writers = {
    "a.safetensors": through(lambda path: save_file(tensors, path)),
    "a.pt": through(lambda path: torch.save(tensors, path)),
    "a.nii.gz": lambda path: write_volume(path, np.random.rand(80, 80, 80), np.eye(4)),
    "a.json": lambda path: write_text_atomic(path, "x" * 2_000_000),
    "a.xlsx": through(book),
    "a.npz": through(lambda path: np.savez(path, np.random.rand(300_000))),
    "a.jsonl": lambda path: append_line(path, "x" * 2_000_000),
}
LIMIT
for name, write in writers.items():
    try:
        write(Path(sys.argv[1]) / name)
        print(f"{name}: written")
    except Exception as error:
        print(f"{name}: {as_mistake(error) or repr(error)}".splitlines()[0])
"""


def told(folder: Path, limit: str) -> dict[str, str]:
    """What each writer's failure becomes, by the file's name."""
    code = WRITERS.replace("LIMIT", limit)
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=True, timeout=120
    )
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


def assert_told(lines: dict[str, str], folder: Path, what: str, much: str) -> None:
    assert len(lines) == 7
    for name, line in lines.items():
        assert line.startswith(f"{what}: {folder / name} ("), line
        assert much in line
    assert [path.name for path in folder.iterdir() if path.name != "a.jsonl"] == []


def test_a_full_disk_is_one_message_whoever_writes(small_disk: Path) -> None:
    lines = told(small_disk, "")
    assert_told(lines, small_disk, "No space left on device", "of 409.6 kB free)")


def test_a_limit_of_file_size_is_one_message_whoever_writes(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))"
    lines = told(tmp_path, limit)
    assert_told(lines, tmp_path, "File too large", "(this process may write 300.0 kB)")


def test_no_more_open_files_is_no_damaged_image(tmp_path: Path) -> None:
    """The libraries' words for it are "does not exist", "not found" and "damaged"."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np, SimpleITK as sitk, torch
from safetensors.torch import save_file
from voxella.cache.shard_reader import ShardReader
from voxella.imaging.volume import read_volume, write_volume
from voxella.machine import as_mistake
from voxella.weights import read_state_dict
folder = Path(sys.argv[1])
write_volume(folder / "a.nii.gz", np.random.rand(4, 4, 4), np.eye(4))
sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkFloat32), str(folder / "a.mha"))
save_file({"e/a": torch.zeros(3)}, folder / "a.safetensors")
readers = {
    "a.nii.gz": read_volume,
    "a.mha": read_volume,
    "a.safetensors": lambda path: ShardReader(folder, {"e": path.name}).tensor("e", "a"),
}
most = len(list(Path("/proc/self/fd").iterdir())) - 1
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for name, read in readers.items():
    try:
        read(folder / name)
        print(f"{name}: read")
    except Exception as error:
        print(f"{name}: {as_mistake(error) or repr(error)}".splitlines()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    for line in done.stdout.splitlines():
        name, told_ = line.split(": ", 1)
        assert told_.startswith(f"Too many open files: {tmp_path / name} (this process may open")


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_has_its_words_a_remedy_and_no_other_name(name: str) -> None:
    error = OSError(REFUSED[name], os.strerror(REFUSED[name]), "/data/.partial-a.1.2.x/b.json")
    mistake = as_mistake(error)
    assert mistake is not None
    assert mistake.remedy
    assert mistake.problem.startswith(f"{os.strerror(REFUSED[name])}: /data/b.json")
    # As it comes from another process, and as a library that catches it would pass it on.
    for passed in (pickle.loads(pickle.dumps(error)), caused(error)):
        found = machine_fault(passed)
        assert found is not None
        assert found.errno == REFUSED[name]


def caused(error: Exception) -> Exception:
    try:
        try:
            raise error
        except OSError:
            raise UserError("a.nii.gz: cannot be read, truncated or damaged") from None
    except UserError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (MemoryError("Unable to allocate 728. TiB"), errno.ENOMEM),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), errno.ENOMEM),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] Error code 12 (Cannot allocate memory)"),
            errno.ENOMEM,
        ),
        (RuntimeError("can't start new thread"), errno.EAGAIN),
        (RuntimeError("sitk::ERROR: Exception: std::bad_alloc"), errno.ENOMEM),
        (Exception("Error while serializing: I/O error: ... (os error 28)"), errno.ENOSPC),
        (ValueError("cannot reshape array of size 8"), None),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), None),
        (PermissionError(errno.EACCES, "Permission denied"), None),
        (Exception("I/O error: No such file or directory (os error 2)"), None),
    ],
)
def test_what_libraries_say_is_told_apart_from_what_a_file_has(
    error: Exception, number: int | None
) -> None:
    found = machine_fault(error)
    assert (None if found is None else found.errno) == number
    if number is None:
        raise_if_machine(error)
        assert as_mistake(error) is None
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            raise_if_machine(error)


def test_an_error_that_is_no_refusal_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of ours"), atomic_path(tmp_path / "a.json"):
        raise ValueError("of ours")
    assert list(tmp_path.iterdir()) == []


def test_what_stood_there_stays_when_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text_atomic(tmp_path / "a.txt", "before")

    def full(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text_atomic(tmp_path / "a.txt", "after")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_limit_is_told() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    mistake = as_mistake(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert mistake is not None
    assert f"(this process may open {most} files)" in mistake.problem
    assert mistake.remedy is not None
    assert mistake.remedy.startswith("ulimit -n")
