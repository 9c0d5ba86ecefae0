"""Sessions of a shell, as documents tell people to type them: typed here, whole, by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def typed(session: str, *, at: Path, within_s: float, **variables: str) -> tuple[str, str]:
    """What a session says on stdout and stderr; its first command that fails is a failure.

    The programs of this environment are on its path. In the end it waits for those that it has left
    running; if that takes longer than `within_s` seconds all of them are killed.
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["bash", "-euc", session + "\nwait"],
        cwd=at,
        env={**os.environ, "PATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        stdout, stderr = shell.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()
        raise
    assert shell.returncode == 0, stderr
    return stdout, stderr
