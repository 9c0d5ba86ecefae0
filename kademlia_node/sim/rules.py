"""The rules that simulated runs are held to, and what is raised when one is broken."""

from __future__ import annotations

import asyncio
from enum import Enum


class Rule(Enum):
    """What is never to be (1 to 8, 11), and what must come about in the end (9, 10)."""

    LOST_WRITE = 1, "lost acknowledged write", "a receipt names only nodes that hold the record"
    INVENTED_VALUE = 2, "invented value", "a read gives only what somebody wrote there"
    FALSE_RECORD = 3, "false record", "a disk holds nothing of an item that nobody wrote there"
    PROLONGED_LIFE = 4, "prolonged life", "no replica expires later than its author ever asked for"
    INEXACT_CLOSEST = 5, "inexact closest", "Node.closest gives the nearest of Node.contacts"
    OWN_CONTACT = 6, "own contact", "nobody is in their own routing table"
    UNBOUNDED = 7, "unbounded", "sessions stay within their limits"
    UNEXPECTED_ERROR = 8, "unexpected error", "verbs raise KademliaErrors, and chores nothing"
    NOT_HEALED = (
        9,
        "not healed",
        "lookups are exact, promises kept, writes reach enough, watchers know all",
    )
    LEAKED_TASK = 10, "leaked task", "when all nodes have stopped no task is left"
    TOLD_BACKWARDS = 11, "told backwards", "a watcher is told of no version after a later one"

    def __init__(self, number: int, title: str, sentence: str) -> None:
        self.number = number
        self.title = title
        self.sentence = sentence


class Violation(AssertionError):  # noqa: N818 - named for what happened
    """A rule was broken, at `at_s` seconds of the running loop."""

    def __init__(self, rule: Rule, text: str) -> None:
        super().__init__(f"{rule.number}. {rule.title}: {text}")
        self.rule = rule
        self.at_s = asyncio.get_running_loop().time()
