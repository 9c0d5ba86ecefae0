"""What the README tells people to type, typed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sessions import typed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.net  # starts processes


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_examples_run() -> None:
    private, content, swarm, _ = blocks("python")
    ran = subprocess.run(
        [sys.executable, "-c", private], check=False, capture_output=True, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.split() == [b"b'blue'", b"[b'kademlia.pdf']"]
    for example in (content, swarm):
        subprocess.run([sys.executable, "-c", example], check=True, timeout=60)


def test_the_client_of_a_daemon_runs(tmp_path: Path) -> None:
    *_, client = blocks("python")
    program = [sys.executable, "-m", "kademlia_node"]
    daemon = subprocess.Popen(
        [*program, "run", "--folder", "a", "--host", "127.0.0.1"],
        cwd=tmp_path,
        env={**os.environ, "KADEMLIA_NODE_SECRET": bytes(32).hex(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()  # it is ready
        ran = subprocess.run(
            [sys.executable, "-c", client],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            timeout=60,
        )
        assert ran.stdout == b"blue\n"
    finally:
        daemon.kill()
        daemon.communicate()


def test_the_command_line_examples_run(tmp_path: Path) -> None:
    (session,) = blocks("sh")
    said, _ = typed(session, at=tmp_path, within_s=90)
    assert "blue" in said
    assert "blob-" in said
    assert "exit code 1" in said
    assert said.count("kademlia.pdf") == 3  # found by the daemon, watched, and found without it
    assert re.search(r"^blob-\w+\t2000000\tchanged\t/.*/film$", said, re.MULTILINE)


def test_every_file_that_the_readme_names_exists() -> None:
    named = re.findall(r"`((?:docs|examples|scripts|tests)/[\w./]+)`", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_first_example_says_hello() -> None:
    hello = [sys.executable, str(ROOT / "examples" / "hello.py")]
    assert b"hello, world" in subprocess.run(hello, check=True, capture_output=True).stdout
