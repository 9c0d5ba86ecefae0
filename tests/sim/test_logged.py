from __future__ import annotations

import asyncio
import logging

import pytest

from kademlia_node.errors import NoAnswer, SetupError
from kademlia_node.sim.logged import no_errors_logged

PACKAGE = logging.getLogger("kademlia_node")
NODE = logging.getLogger("kademlia_node.node")


def log_error(error: BaseException) -> None:
    """As a node does with what a chore of it raised."""
    NODE.error("a chore %s", "failed", exc_info=error)


def test_an_error_that_a_node_logs_is_a_line() -> None:
    with no_errors_logged() as lines:
        log_error(ZeroDivisionError("by zero"))
        NODE.error("no %s", "exception")
        log_error(NoAnswer("silent"))
    assert lines == [
        "a chore failed: ZeroDivisionError('by zero')",
        "no exception: None",
        "a chore failed: NoAnswer('silent')",
    ]


def test_what_is_less_than_an_error_is_none() -> None:
    with no_errors_logged() as lines:
        NODE.warning("a disk is slow")
        NODE.info("hello")
    assert lines == []


@pytest.mark.parametrize(
    ("error", "is_caught"),
    [
        (SetupError("the disk fails"), False),
        (ExceptionGroup("chores", [SetupError("one"), SetupError("two")]), False),
        (ExceptionGroup("a", [ExceptionGroup("b", [SetupError("deep")])]), False),
        (ExceptionGroup("chores", [SetupError("one"), KeyError("two")]), True),
        (ExceptionGroup("a", [SetupError("c"), ExceptionGroup("b", [OSError()])]), True),
    ],
)
def test_a_disk_that_fails_is_expected_and_nothing_beside_it(
    error: Exception, is_caught: bool
) -> None:
    with no_errors_logged() as lines:
        log_error(error)
    assert len(lines) == is_caught


def test_lines_are_there_as_soon_as_they_are_logged() -> None:
    with no_errors_logged() as lines:
        assert not lines
        NODE.error("now")
        assert lines


def test_nobody_else_hears_of_it_until_the_block_ends(caplog: pytest.LogCaptureFixture) -> None:
    with no_errors_logged() as lines:
        NODE.error("inside")
    NODE.error("outside")
    assert [record.getMessage() for record in caplog.records] == ["outside"]
    assert lines == ["inside: None"]


@pytest.mark.parametrize("propagates", [True, False])
def test_logging_is_afterwards_as_it_was_whatever_is_raised(
    monkeypatch: pytest.MonkeyPatch, propagates: bool
) -> None:
    monkeypatch.setattr(PACKAGE, "propagate", propagates)
    before = list(PACKAGE.handlers)
    with pytest.raises(KeyError), no_errors_logged():
        raise KeyError
    assert PACKAGE.propagate is propagates
    assert PACKAGE.handlers == before


async def test_what_a_loop_reports_of_a_callback_is_a_line_too() -> None:
    with no_errors_logged() as lines:
        context = {"message": "a callback has failed", "exception": ZeroDivisionError("by 0")}
        asyncio.get_running_loop().call_exception_handler(context)
    assert len(lines) == 1
    assert "ZeroDivisionError" in lines[0]
