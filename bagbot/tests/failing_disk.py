"""`bagbot` on a disk that can be made to fail: the kernel itself says no, at our wish.

    python -m bagbot.tests.failing_disk run

Once the file `disk-fault` in BAGBOT_HOME says, for example, "pwrite64 ENOSPC", a seccomp filter
answers that system call with that error in all threads. No mount, no preloaded library, no root.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
import threading
import time
from pathlib import Path

from bagbot import cli

FAULT_FILE = "disk-fault"
DONE_FILE = "disk-fault.done"
SYSTEM_CALLS = {
    "x86_64": {"pwrite64": 18, "fdatasync": 75, "seccomp": 317},
    "aarch64": {"pwrite64": 68, "fdatasync": 83, "seccomp": 277},
}
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC = 1, 1
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


def fail_from_now_on(call: str, error: str) -> None:
    """Make a system call fail in this process until it ends."""
    numbers = SYSTEM_CALLS[platform.machine()]
    instructions = [
        (LOAD_WORD, 0, 0, 0),  # The number of the system call.
        (JUMP_IF_EQUAL, 0, 1, numbers[call]),
        (RETURN, 0, 0, RET_ERRNO | getattr(errno, error)),
        (RETURN, 0, 0, RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(
        b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    )
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    answer = libc.syscall(
        numbers["seccomp"], SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program
    )
    assert answer == 0, os.strerror(ctypes.get_errno())


def watch(home: Path) -> None:
    while not (home / FAULT_FILE).exists():
        time.sleep(0.01)
    fail_from_now_on(*(home / FAULT_FILE).read_text().split())
    (home / DONE_FILE).touch()


if __name__ == "__main__":
    threading.Thread(target=watch, args=[Path(os.environ["BAGBOT_HOME"])], daemon=True).start()
    sys.argv[0] = "bagbot"
    cli.main()
