"""What the README of file_index tells people to type, typed; and what the commands refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from examples.file_index.cli import main
from examples.file_index.fetching import NAME_BYTES_MAX, safe_name, target_of
from examples.file_index.ledger import locked, open_ledger
from examples.file_index.view import printable, size_text
from tests import sessions

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples" / "file_index" / "README.md").read_text("utf-8")


@pytest.mark.net
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    (session,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    stdout, said = sessions.typed(session, at=ROOT, within_s=120, work=str(tmp_path))
    lines = stdout.splitlines()
    results = [json.loads(line) for line in lines if line.startswith('{"number"')]
    assert {result["title"] for result in results} == {"Peer to Peer"}
    assert str(tmp_path / "fetched.html") in lines
    assert "exit code 1" in lines
    assert "running\tyes" in lines
    assert "1 files, 28 B, are to be shared" in said
    assert "Traceback" not in said


# --- Refused --------------------------------------------------------------------------------------


def typed(*words: str, folder: Path) -> Result:
    return CliRunner().invoke(main, [*words, "--folder", str(folder)])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["share"], 2, "name a folder"),
        (["share", "/does/not/exist"], 2, "does not exist"),
        (["share", "--daemon", "x", "--port", "1", "--copies", "2"], 2, "out --copies, --port"),
        (["unshare", "--all", "--daemon", "x", "--bootstrap", "y"], 2, "out --bootstrap"),
        (["search", "x", "--port", "1"], 2, "No such option"),
        (["get", "1", "--port", "1"], 2, "No such option"),
        (["search", "!?"], 2, "no words"),
        (["unshare"], 2, "name folders"),
        (["unshare", "/not/shared"], 1, "not shared"),
        (["get", "1"], 2, "no result 1"),
        (["get", "blob-mistyped"], 2, "is no key"),
        (["search", "x", "--bootstrap", "nowhere"], 2, "nowhere"),
        (["search", "x", "--secret-file", "/does/not/exist"], 2, "openssl rand -hex 32"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line(
    tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    ended = typed(*words, folder=tmp_path)
    assert ended.exit_code == code
    assert said in ended.stderr
    assert ended.stdout == ""


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("00" * 32)
    secret.chmod(0o644)
    ended = typed("search", "x", "--secret-file", str(secret), folder=tmp_path)
    assert "chmod 600" in ended.stderr
    secret.chmod(0o600)
    secret.write_text("short")
    ended = typed("search", "x", "--secret-file", str(secret), folder=tmp_path)
    assert (ended.exit_code, "64 hexadecimal digits" in ended.stderr) == (2, True)


def test_sharing_shows_first_and_does_nothing_without_a_yes(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.txt").write_text("content")
    (tmp_path / "shared" / "\x1b[2J").symlink_to("/")
    state = tmp_path / "state"
    for words in (["--dry-run"], []):
        ended = typed("share", str(tmp_path / "shared"), *words, folder=state)
        assert "1 files, 7 B, are to be shared" in ended.stderr
        assert "a link (\\x1b[2J)" in ended.stderr
        assert ended.exit_code == (0 if words else 2)
        assert ended.stdout == (f"{tmp_path}/shared/a.txt\n" if words else "")
        with open_ledger(state) as ledger:
            assert ledger.folders() == []


def test_the_state_of_a_sharer_its_key_included_is_never_shared(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    for state in (tmp_path, tmp_path / "state"):
        ended = typed("share", str(tmp_path), "--dry-run", folder=state)
        assert (ended.exit_code, "our own state" in ended.stderr) == (2, True)
    assert typed("share", str(tmp_path), "--dry-run", folder=tmp_path / ".hidden").exit_code == 0


def test_who_shares_while_another_process_does_only_adds_to_its_list(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    state = tmp_path / "state"
    with open_ledger(state) as ledger, locked(state):
        ended = typed("share", str(tmp_path / "shared"), "--yes", folder=state)
        assert ended.exit_code == 0
        assert ledger.folders() == [str(tmp_path / "shared")]
        told = json.loads(typed("status", "--json", folder=state).stdout)
        assert told["running"] is True
    told = json.loads(typed("status", "--json", folder=state).stdout)
    assert (told["running"], told["files"]) == (False, 0)


def test_a_status_is_for_people_and_tells_of_no_process_that_is_gone(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.add_folders(["/a b", "/c"])
        ledger.say(invite="kad://there", peers=7, last_scan=1_000_000_000, trouble="", salt="x")
        with locked(tmp_path):
            lines = typed("status", folder=tmp_path).stdout.splitlines()
            told = json.loads(typed("status", "--json", folder=tmp_path).stdout)
    assert lines[:3] == ["running\tyes", "folders\t/a b", "folders\t/c"]
    assert {"invite\tkad://there", "peers\t7", "last_scan\t2001-09-09T01:46:40Z"} < set(lines)
    assert len(lines) == 9  # neither trouble nor the salt
    assert (told["folders"], told["last_scan"]) == (["/a b", "/c"], 1_000_000_000)
    assert (told["invite"], told["peers"]) == ("kad://there", 7)
    assert typed("status", folder=tmp_path).stdout.startswith("running\tno\n")
    told = json.loads(typed("status", "--json", folder=tmp_path).stdout)
    assert (told["invite"], told["peers"]) == ("", 0)


@pytest.mark.net
def test_the_invite_of_a_sharer_that_was_killed_is_not_knocked_at(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.say(invite="no invite")
        with locked(tmp_path):
            assert "no invite" in typed("search", "x", folder=tmp_path).stderr
    ended = typed("search", "x", "--host", "127.0.0.1", folder=tmp_path)
    assert (ended.exit_code, "give a --bootstrap" in ended.stderr) == (2, True)


def test_a_state_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database " * 100)
    ended = typed("status", folder=tmp_path)
    assert (ended.exit_code, "cannot be used" in ended.stderr) == (2, True)


# --- Names of others ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.txt", "b.txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("..", "download"),
        (".bashrc", "bashrc"),
        ("a/", "download"),
        ("a\0b\x1b[2J.txt", "a_b_[2J.txt"),
        ("C:evil", "C_evil"),
        ("x" * 999 + ".tar", "x" * (NAME_BYTES_MAX - 4) + ".tar"),
        ("ü" * 999, "ü" * (NAME_BYTES_MAX // 2)),
    ],
)
def test_a_name_is_stripped_of_what_could_lead_elsewhere(path: str, name: str) -> None:
    assert safe_name(path) == name


def test_a_result_goes_where_the_user_says_and_replaces_only_what_was_named(tmp_path: Path) -> None:
    assert target_of("../a.txt", None) == (Path("a.txt"), False)
    assert target_of("../a.txt", tmp_path) == (tmp_path / "a.txt", False)
    assert target_of("a.txt", tmp_path / "b") == (tmp_path / "b", True)


def test_text_of_others_is_shown_escaped() -> None:
    assert printable("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1024, "1 KiB"), (5 * 2**30, "5 GiB")])
def test_sizes_are_shown_in_units(size: int, text: str) -> None:
    assert size_text(size) == text
