from __future__ import annotations

import base64
import io
from contextlib import redirect_stdout
from typing import Any

import pytest

from kademlia_node.cli.failure import printable
from kademlia_node.cli.view import (
    show_entry,
    show_publications,
    show_status,
    show_table,
    show_trace,
    talk,
)

HOSTILE = "[red]\x1b[2Jbell\x07"


class Terminal(io.StringIO):
    """A stdout that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "100")


def entry(value: bytes) -> dict[str, str]:
    return {"value": base64.b64encode(value).decode()}


def trace(summary: str, **fields: Any) -> dict[str, Any]:
    nothing = {"requests": 0, "round_trips": 0, "steps": [], "closest": []}
    return {"target": "ab" * 32, "summary": summary} | nothing | fields


def test_a_table_has_titles_on_a_terminal() -> None:
    with redirect_stdout(Terminal()) as screen:
        show_table(("node", "rtt"), [("ab", 1.5)])
    assert "node" in screen.getvalue()
    assert "1.5" in screen.getvalue()


def test_a_table_is_bare_fields_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("node", "rtt"), [("ab", 1.5), ("cd", 2)])
    assert capsys.readouterr().out == "ab\t1.5\ncd\t2\n"


def test_what_strangers_wrote_is_neither_markup_nor_obeyed() -> None:
    with redirect_stdout(Terminal()) as screen:
        show_table(("text",), [(HOSTILE,)])
        show_entry(entry(HOSTILE.encode()))
    shown = screen.getvalue()
    assert "[red]" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.count("\\x1b[2Jbell\\x07") == 2


def test_a_value_in_a_pipe_is_what_it_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    show_entry(entry(b"\x1b\xff"))
    assert capfdbinary.readouterr().out == b"\x1b\xff\n"


def test_a_status_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_status(
        {
            "joined": False,
            "network_size": None,
            "peers": 3,
            "unreachable": ["h:1: no answer"],
            "counters": {"served_Ping": 4},
            "operations": {"put": {"count": 2, "requests_each": 7.5, "round_trips_each": 2.0}},
            "chores": {
                "join": {"runs": 2, "last_run_s_ago": 1.4, "last_run_did": None},
                "probe": {"runs": 1, "last_run_s_ago": 0.0, "last_run_did": 0},
                "renew": {"runs": 0, "last_run_s_ago": None, "last_run_did": None},
            },
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "joined\tno",
        "network_size\t-",
        "peers\t3",
        "unreachable\th:1: no answer",
        "counter served_Ping\t4",
        "operation put\t2, each 7.5 requests and 2.0 round trips",
        "chore join\t2 runs, the last 1 s ago",
        "chore probe\t1 run, the last 0 s ago: did 0",
        "chore renew\t0 runs",
    ]


def test_a_trace_of_nobody_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_trace(trace("no peer"))
    shown = capsys.readouterr()
    said = "abababababababab: no peer; 0 requests, 0 round trips; nearest: nobody\n"
    assert (shown.out, shown.err) == ("", said)


def test_a_slow_answer_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    step = {
        "id": "cd" * 32,
        "address": "127.0.0.1:1",
        "path": 0,
        "hop": 1,
        "asked_ms": 0.0,
        "answered_ms": None,
        "slow": True,
        "outcome": "waiting",
    }
    contact = {"id": "cd" * 32}
    show_trace(trace("s", requests=3, round_trips=1, steps=[step], closest=[contact]))
    shown = capsys.readouterr()
    assert shown.out == f"0.0\t-\t0\t1\t{'cd' * 8}\t127.0.0.1:1\twaiting (slow)\n"
    assert "; 3 requests, 1 round trip; nearest: cdcdcdcd" in shown.err


def test_publications_are_lines_with_times_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    publication = {
        "kind": "entry",
        "key": "entry-abc",
        "author": "x",
        "slot": "a\nb",
        "seq": 7,
        "value_bytes": 4,
        "expires": 86_400,
        "renew_at": 3_600,
    }
    show_publications([publication])
    assert capsys.readouterr().out == (
        "entry\tentry-abc\ta\\nb\t7\t4\t1970-01-02T00:00:00Z\t1970-01-01T01:00:00Z\n"
    )


def test_talk_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    talk("a\nb\r☃")
    assert capsys.readouterr().err == "a\\nb\\r☃\n"


def test_printable_leaves_text_alone() -> None:
    assert printable("naïve ☃ 'x'") == "naïve ☃ 'x'"
