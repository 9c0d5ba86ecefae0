"""The verbs: what each takes from the command line, asks a node, and shows.

Written once for both kinds of node (`access`). Everything else is elsewhere: options in `options`,
output in `view`, errors and exit codes in `failure`.
"""

from __future__ import annotations

import os
import sys
from contextlib import aclosing
from pathlib import Path
from typing import IO

import click

from kademlia_node.cli import view
from kademlia_node.cli.access import Access
from kademlia_node.cli.options import (
    PATH,
    daemon_options,
    in_json,
    reaches_a_node,
    read_by,
    withdrawal_ttl_option,
    writing_options,
)
from kademlia_node.core.invite import key_text, parse_invite
from kademlia_node.core.key import Kind
from kademlia_node.daemon.folder import Folder
from kademlia_node.daemon.node_verbs import is_name, parse_if_key
from kademlia_node.daemon.verbs import Verbs
from kademlia_node.daemon.views import Json, value_of
from kademlia_node.errors import NoDaemon, Refused, SetupError, ValueTooLarge
from kademlia_node.node.arguments import COUNT_MAX, checked_author
from kademlia_node.settings import VALUE_BYTES_MAX

AUTHOR = read_by(lambda text: key_text(checked_author(text)))
PEER = read_by(lambda text: str(parse_invite(text)))
STDIN = "-"


def parse_name(text: str) -> str:
    """A name to write: no key, which `get` would take for what it is. Raises ValueError."""
    key = parse_if_key(text)
    if key is None:
        return text
    if key.kind is Kind.BLOB:
        raise ValueError(
            f"{text} is the key of a blob: a blob cannot be set or withdrawn; it expires when"
            " nobody renews it, which  kademlia-node forget  stops doing"
        )
    raise ValueError(f"{text} is a key: give the name or the topic")


NAME = read_by(parse_name)

own_option = click.option("--own", is_flag=True, help="As this node, also in a private network.")


# --- About the node -------------------------------------------------------------------------------


@click.command()
@reaches_a_node
@in_json
def status(access: Access, *, as_json: bool) -> None:
    """Show what the node is doing."""
    answer = access.ask(lambda verbs: verbs.status())
    view.show_json(answer) if as_json else view.show_status(answer)


@click.command()
@reaches_a_node
@in_json
def peers(access: Access, *, as_json: bool) -> None:
    """List the routing table, nearest first."""
    answer = access.ask(lambda verbs: verbs.peers())
    view.show_json(answer) if as_json else view.show_peers(answer)


@click.command("id")
@daemon_options
@in_json
def identify(folder: Path, control: Path | None, *, as_json: bool) -> None:
    """Print what others need to reach us.

    It is the invite of the daemon. Without one the public key alone is known, from the key file.
    """
    try:
        answer = Access(folder=folder, control=control).ask(lambda verbs: verbs.identity())
    except NoDaemon:
        identity = Folder(folder).read_key()
        if identity is None:
            raise
        public_key = key_text(identity.public_key)
        answer = {"id": identity.id.hex(), "public_key": public_key, "invite": None}
        view.talk("no daemon runs: this is the public key, where it can be reached is not known")
    if as_json:
        view.show_json(answer)
    else:
        click.echo(answer["invite"] or answer["public_key"])


# --- Blobs and names ------------------------------------------------------------------------------


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--text", help="Store this text instead of a file.")
@writing_options
@reaches_a_node
@in_json
def put(
    access: Access, *, file: IO[bytes] | None, text: str | None, as_json: bool, **how: int | None
) -> None:
    """Store FILE under its hash and print its key.

    At most 65,536 bytes. FILE may be - for stdin.
    """
    if text is not None and file is None:
        value = os.fsencode(text)
    elif file is not None and text is None:
        value = _bounded(file)
    else:
        raise click.UsageError("give either FILE or --text")
    _show_write(access.ask(lambda verbs: verbs.put(value, **how)), as_json=as_json)


@click.command("set")
@click.argument("name", type=NAME)
@click.argument("value")
@own_option
@click.option(
    "--expect-seq",
    type=click.IntRange(0, 2**64 - 1),
    help="Only if the current version has this number; 0: if there is none.",
)
@writing_options
@reaches_a_node
@in_json
def set_name(
    access: Access,
    *,
    name: str,
    value: str,
    own: bool,
    expect_seq: int | None,
    as_json: bool,
    **how: int | None,
) -> None:
    """Set NAME to VALUE.

    VALUE may be - for stdin.
    """
    content = _value(value)
    receipt = access.ask(
        lambda verbs: verbs.set(name, content, own=own, expect_seq=expect_seq, **how),
        as_self=own or access.names_are_ours,
    )
    _show_write(receipt, as_json=as_json)


@click.command()
@click.argument("what", metavar="KEY_OR_NAME")
@click.option(
    "--author",
    type=AUTHOR,
    metavar="INVITE_OR_KEY",
    help="Whose name it is: what `id` prints there.",
)
@own_option
@click.option(
    "--reads",
    type=click.IntRange(1, COUNT_MAX),
    metavar="N",
    help="How many holders must agree on a name.  [default: 3]",
)
@click.option("-o", "--output", type=PATH, help="Write the value to this file.")
@reaches_a_node
@in_json
def get(
    access: Access,
    *,
    what: str,
    author: str | None,
    own: bool,
    reads: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Print the value of a key or a name.

    Byte for byte, with no line end added.
    """
    is_key = parse_if_key(what) is not None
    if is_key and (own or author or reads):
        raise click.UsageError("--own, --author and --reads go with a name, not with a key")
    if own and author:
        raise click.UsageError("give either --own or --author")

    async def read(verbs: Verbs) -> Json:
        if is_key:
            return await verbs.get_blob(what)
        return await verbs.get_name(what, author=author, own=own, reads=reads)

    ours = not is_key and author is None and access.names_are_ours
    record = access.ask(read, as_self=own or ours)
    if output is not None:
        try:
            output.write_bytes(value_of(record))
        except OSError as error:
            raise SetupError(f"cannot write {output}: {error.strerror}") from error
    if as_json:
        view.show_json(record)
    elif output is None:
        click.echo(value_of(record), nl=False)


# --- Topics ---------------------------------------------------------------------------------------


@click.command()
@click.argument("topic")
@click.argument("value")
@click.option("--slot", default="", help="Tells several entries of one author apart.")
@writing_options
@reaches_a_node
@in_json
def announce(
    access: Access, *, topic: str, value: str, slot: str, as_json: bool, **how: int | None
) -> None:
    """Add VALUE to TOPIC as our entry.

    It stands beside those of others. VALUE may be - for stdin.
    """
    content = _value(value)
    receipt = access.ask(
        lambda verbs: verbs.announce(topic, content, slot=slot, **how), as_self=True
    )
    _show_write(receipt, as_json=as_json)


@click.command()
@click.argument("topic")
@reaches_a_node
@in_json
def find(access: Access, *, topic: str, as_json: bool) -> None:
    """Print the values under TOPIC.

    As they come, one a line; with --json, one object a line.
    """

    async def show_all(verbs: Verbs) -> int:
        count = 0
        async for entry in verbs.find(topic):
            view.show_line(entry) if as_json else view.show_entry(entry)
            count += 1
        return count

    if not access.ask(show_all):
        raise Refused({"error": "NotFound", "detail": f"nothing is announced under {topic!r}"})


@click.command()
@click.argument("name", type=NAME, required=False)
@click.option("--topic", help="Watch all entries of this topic instead of a name.")
@click.option("--author", help="Whose NAME it is: a public key, or an invite with one.")
@click.option("--count", type=click.IntRange(1), help="End after so many changes.")
@own_option
@reaches_a_node
@in_json
def watch(
    access: Access, *, name: str | None, topic: str | None, author: str | None, count: int | None,
    own: bool, as_json: bool,
) -> None:  # fmt: skip
    """Print NAME, or the entries of a topic, and every change of them.

    One a line, as they happen: the value, or on stderr that it is gone. With --json, one object a
    line. Ends when the daemon does, with exit code 3.
    """
    if (name is None) == (topic is None):
        raise click.UsageError("give either NAME or --topic")
    if topic is not None and (own or author is not None):
        raise click.UsageError("--own and --author go with NAME")

    async def show_changes(verbs: Verbs) -> int:
        shown = 0
        if topic is not None:
            changes = verbs.watch_topic(topic)
        else:
            assert name is not None
            changes = verbs.watch_name(name, author=author, own=own)
        async with aclosing(changes):
            async for change in changes:
                view.show_line(change) if as_json else view.show_change(change)
                shown += 1
                if shown == count:
                    break
        return shown

    as_self = own or (name is not None and author is None and access.names_are_ours)
    shown = access.ask(show_changes, as_self=as_self)
    if shown != count:
        raise NoDaemon("the daemon has ended, and with it what it told")


@click.command()
@click.argument("name", type=NAME, required=False)
@click.option("--topic", help="Withdraw our entry of this topic instead of a name.")
@click.option("--slot", default="", help="Which of our entries of the topic.")
@own_option
@withdrawal_ttl_option
@reaches_a_node
@in_json
def withdraw(
    access: Access, *, name: str | None, topic: str | None, slot: str, own: bool,
    ttl_s: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Delete NAME, or our entry of a topic.

    A signed tombstone takes its place, wherever it is stored.
    """

    async def delete(verbs: Verbs) -> Json:
        if topic is not None:
            return await verbs.withdraw_entry(topic, slot=slot, ttl_s=ttl_s)
        assert name is not None
        return await verbs.withdraw_name(name, own=own, ttl_s=ttl_s)

    if (name is None) == (topic is None):
        raise click.UsageError("give either NAME or --topic")
    if slot and topic is None:
        raise click.UsageError("--slot goes with --topic")
    if own and topic is not None:
        raise click.UsageError("--own goes with NAME: an entry of a topic is always our own")
    as_self = topic is not None or own or access.names_are_ours
    _show_write(access.ask(delete, as_self=as_self), as_json=as_json)


# --- Peers ----------------------------------------------------------------------------------------


@click.command()
@click.argument("peer", type=PEER, metavar="PEER")
@reaches_a_node
@in_json
def ping(access: Access, *, peer: str, as_json: bool) -> None:
    """Measure the round trip to PEER.

    PEER is HOST:PORT or kad://KEY@HOST:PORT.
    """
    answer = access.ask(lambda verbs: verbs.ping(peer))
    if as_json:
        view.show_json(answer)
    else:
        click.echo(f"{answer['rtt_ms']:.1f} ms")


@click.command()
@click.argument("target")
@own_option
@reaches_a_node
@in_json
def trace(access: Access, *, target: str, own: bool, as_json: bool) -> None:
    """Show whom a lookup of TARGET asks.

    TARGET is a key, a name, a node ID or an invite. Each line is a node, and what it said.
    """
    ours = is_name(target) and access.names_are_ours
    answer = access.ask(lambda verbs: verbs.trace(target, own=own), as_self=own or ours)
    view.show_json(answer) if as_json else view.show_trace(answer)


VERBS = [status, peers, put, get, set_name, announce, find, watch, withdraw, ping, trace, identify]


def _value(text: str) -> bytes:
    """What VALUE stands for: its own bytes, or all of stdin."""
    return _bounded(sys.stdin.buffer) if text == STDIN else os.fsencode(text)


def _bounded(file: IO[bytes]) -> bytes:
    """All of a file, unless it is too long for any record: then nobody reads it to its end."""
    try:
        content = file.read(VALUE_BYTES_MAX + 1)
    except OSError as error:
        raise SetupError(f"cannot read {file.name}: {error.strerror}") from error
    if len(content) > VALUE_BYTES_MAX:
        raise ValueTooLarge(f"the value is too long: at most {VALUE_BYTES_MAX} bytes are stored")
    return content


def _show_write(receipt: Json, *, as_json: bool) -> None:
    view.show_json(receipt) if as_json else view.show_receipt(receipt)
