"""The verbs, and the one place where errors become exit codes: 0 done, 1 not found, 2 usage."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from examples.file_index import view
from examples.file_index.fetching import target_of
from examples.file_index.hosting import Host
from examples.file_index.ledger import Ledger, Result, is_shared, locked, open_ledger
from examples.file_index.options import PATH, at_port, by_daemon, folder_option, in_json, joins
from examples.file_index.searching import Filter, Hit, Search, ranked
from examples.file_index.sharing import ENTRY_TTL_S, LEASE_S, Sharer, Sight, look
from examples.file_index.station import Joining, guest, host_of, write_memory
from examples.file_index.titles import KINDS
from examples.file_index.words import words_of
from kademlia_node import Incomplete, KademliaError, Key, Node, NotFound, NotStored, SetupError

POLL_S: Final = 5.0  # between two looks at the folders
EXAMPLES_SHOWN: Final = 3  # of what is skipped for one reason
UNSHARE_WAIT_S: Final = 60
OF_A_PROCESS: Final = {"invite": "", "peers": 0}  # what is true only while it runs
NOT_FOUND: Final = (NotFound, Incomplete, NotStored)


class Commands(click.Group):
    """A group whose commands end well or in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # nobody reads on: click ends without a word
            raise
        except NOT_FOUND as error:
            _end(str(error), code=1)
        except (KademliaError, ValueError, OSError, sqlite3.Error) as error:
            _end(str(error), code=2)
        except click.Abort:
            _end("nothing is shared without a yes", code=2)
        except ExceptionGroup as errors:  # of a task that had failed
            if errors.subgroup(BrokenPipeError):
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
            _end(str(errors.exceptions[0]), code=2)


def _end(line: str, *, code: int) -> NoReturn:
    view.talk(f"file-index: {line}")
    raise click.exceptions.Exit(code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A peer-to-peer index of files: share folders, search by words, fetch from all who have it.

    Exit codes: 0 done, 1 not found, 2 bad usage or set-up.
    """


# --- share ----------------------------------------------------------------------------------------


@main.command()
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@joins
@at_port
@by_daemon
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only show what would be shared.")
@click.option(
    "--lease",
    "lease_s",
    type=click.IntRange(240, 48 * 3600),
    default=LEASE_S,
    show_default=True,
    help="Seconds after which nobody finds us any more if we die.",
)
def share(
    *,
    folders: tuple[Path, ...],
    folder: Path,
    joining: Joining,
    yes: bool,
    dry_run: bool,
    lease_s: int,
    daemon: Path | None,
) -> None:
    """Share FOLDERS, and those of before, as long as this runs; prints our invite.

    With --daemon they are shared on when this ends, until `unshare`.

    Files that come, change or go are noticed within seconds. Hidden files, links and what an
    .indexignore names are not shared.
    """
    resolved = [str(one.resolve()) for one in folders]
    _check_apart(folder.resolve(), resolved)
    with open_ledger(folder) as ledger:
        wanted = sorted({*ledger.folders(), *resolved})
        if not wanted:
            raise click.UsageError("name a folder to share")
        sight = look(wanted)
        _show(sight)
        if dry_run:
            for found in sight.found.values():
                click.echo(view.printable(f"{found.folder}/{found.path}"))
            return
        if not yes:
            click.confirm("Share this?", abort=True, err=True)
        ledger.add_folders(resolved)
        with locked(folder) as is_ours:
            if is_ours:
                asyncio.run(_share(ledger, joining, lease_s=lease_s, daemon=daemon))
            else:
                view.talk("the process that shares already takes them on")


def _check_apart(state: Path, folders: list[str]) -> None:
    """The sharer's own key lies there: it must not be among what is shared."""
    for one in folders:
        if state.is_relative_to(one):
            below = state.relative_to(one).parts
            if not any(part.startswith(".") for part in below):
                raise click.UsageError(f"{state}, our own state, lies in {one}: move it elsewhere")


def _show(sight: Sight) -> None:
    """What is going to be shared, and what is not."""
    size = sum(found.mark[0] for found in sight.found.values())
    view.talk(f"{len(sight.found)} files, {view.size_text(size)}, are to be shared")
    for reason, count in Counter(one.reason for one in sight.skipped).most_common():
        paths = [one.path for one in sight.skipped if one.reason == reason][:EXAMPLES_SHOWN]
        more = ", ..." if count > len(paths) else ""
        view.talk(f"{count} not: {reason} ({', '.join(map(view.printable, paths))}{more})")


async def _share(ledger: Ledger, joining: Joining, *, lease_s: int, daemon: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ledger.say(invite="")  # of one who was killed
    async with host_of(ledger, joining, daemon=daemon) as (node, shelf, salt):
        click.echo(str(node.invite))
        with view.meter() as meter:
            sharer = Sharer(node, ledger, shelf, salt=salt, lease_s=lease_s, on_step=meter.step)
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(_keep_up(sharer, node, ledger.path))
                await stop.wait()
                keeping.cancel()
        await sharer.leave()
    ledger.say(invite="")


async def _keep_up(sharer: Sharer, node: Host, folder: Path) -> None:
    """Refresh until cancelled; say what cannot be done, once."""
    said = ""
    while True:
        await sharer.refresh()
        if sharer.trouble and sharer.trouble != said:
            view.talk(f"file-index: {sharer.trouble}; trying again")
        said = sharer.trouble
        if isinstance(node, Node):
            write_memory(folder, node)
        await asyncio.sleep(POLL_S)


# --- search and get -------------------------------------------------------------------------------


@main.command()
@click.argument("words", nargs=-1, required=True)
@joins
@in_json
@click.option("--ranked", "in_order", is_flag=True, help="Wait for all and sort them.")
@click.option("--min-size", type=click.IntRange(0), default=0, help="Bytes.")
@click.option("--max-size", type=click.IntRange(0), help="Bytes.")
@click.option("--kind", type=click.Choice(KINDS))
@click.option("--limit", type=click.IntRange(1), help="So many results.")
@click.option("--wait", "wait_s", type=click.FloatRange(1), default=30.0, show_default=True)
def search(
    *,
    words: tuple[str, ...],
    folder: Path,
    joining: Joining,
    as_json: bool,
    in_order: bool,
    min_size: int,
    max_size: int | None,
    kind: str | None,
    limit: int | None,
    wait_s: float,
) -> None:
    """Files that have all WORDS in their path or title, whoever shares them.

    Each result is printed as soon as it is found. On a terminal, without --json, all are shown in
    a table when they are there, as with --ranked.
    """
    wanted = words_of(" ".join(words))
    if not wanted:
        raise click.UsageError("these are no words")
    keep = Filter(size_min=min_size, size_max=max_size, kind=kind)
    with open_ledger(folder) as ledger:
        shown = Shown(as_json=as_json)
        is_streaming = not in_order and (as_json or not view.is_watched())
        look_for = partial(_search, ledger, joining, wanted, wait_s, wanted=keep)
        try:
            if is_streaming:
                asyncio.run(look_for(on_hit=shown.add, limit=limit))
            else:
                for hit in ranked(_counted(look_for), wanted)[:limit]:
                    shown.add(hit)
            shown.end()
        finally:  # though who reads them has had enough
            ledger.keep_results(shown.results)
    if not shown.results:
        _end("nothing was found", code=1)


class Shown:
    """The results that were printed, or are to be in a table; numbered from 1."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._rows: list[tuple[object, ...]] = []
        self.results: list[Result] = []

    def add(self, hit: Hit) -> None:
        """One more."""
        entry, number = hit.entry, len(self.results) + 1
        self.results.append(Result(number, str(entry.key), entry.name, entry.size))
        if self._as_json:
            view.show_json({"number": number, **_hit_view(hit)})
            return
        size, peers = view.size_text(entry.size), len(hit.providers)
        self._rows.append((number, entry.path, entry.title, size, peers, entry.key))
        if not view.is_watched():
            self.end()

    def end(self) -> None:
        """Show those in the table, and begin another."""
        if self._rows:
            view.show_table(("", "path", "title", "size", "peers", "key"), self._rows)
        self._rows.clear()


async def _search(
    ledger: Ledger, joining: Joining, words: list[str], wait_s: float, **options: Any
) -> list[Hit]:
    async with guest(ledger, joining) as node:
        searching = Search(node, words, **options)
        if not await searching.run(within_s=wait_s):
            view.talk(f"not all was read: it is too much, or {wait_s:.0f} s were too few")
        return list(searching.hits.values())


def _counted(look_for: Callable[..., Coroutine[Any, Any, list[Hit]]]) -> list[Hit]:
    """All that is found; how many there are is shown meanwhile."""
    numbers = itertools.count(1)
    with view.meter() as meter:
        return asyncio.run(look_for(on_hit=lambda _: meter.step("found", next(numbers), None)))


def _hit_view(hit: Hit) -> dict[str, Any]:
    entry = hit.entry
    return {
        "key": str(entry.key),
        "path": entry.path,
        "title": entry.title,
        "kind": entry.kind,
        "size": entry.size,
        "changed_at": entry.changed_at,
        "providers": len(hit.providers),
    }


@main.command()
@click.argument("result")
@joins
@click.option("-o", "output", type=PATH, help="File, or folder to put it in.")
@click.option("--max-size", type=click.IntRange(0), help="Bytes; by default what the result says.")
def get(
    *, result: str, folder: Path, joining: Joining, output: Path | None, max_size: int | None
) -> None:
    """Fetch RESULT, a key or a number of the last search, from all who have it; prints the path.

    What was begun is gone on with when it is asked for again.
    """
    with open_ledger(folder) as ledger:
        if result.isdecimal():
            row = ledger.result(int(result))
            if row is None:
                raise ValueError(f"the last search has no result {result}")
            key, name, length_max = Key.parse(row.key), row.name, row.size
        else:
            key, name, length_max = Key.parse(result), result, None
        target, is_named = target_of(name, output)
        size = length_max if max_size is None else max_size
        try:
            asyncio.run(_get(ledger, joining, key, target, length_max=size, overwrite=is_named))
        except FileExistsError:
            raise SetupError(f"{target} is there already: say by -o where it is to go") from None
    click.echo(str(target))


async def _get(ledger: Ledger, joining: Joining, key: Key, target: Path, **options: Any) -> None:
    async with guest(ledger, joining) as node:
        with view.meter(of_bytes=True) as meter:
            await node.fetch(key, target, on_progress=meter.fetched, **options)


# --- status and unshare ---------------------------------------------------------------------------


@main.command()
@folder_option
@in_json
def status(*, folder: Path, as_json: bool) -> None:
    """What is shared, and by whom."""
    with open_ledger(folder) as ledger:
        is_running, facts = is_shared(folder), ledger.facts()
        if not is_running:  # who was killed could not take them back
            facts |= {name: blank for name, blank in OF_A_PROCESS.items() if name in facts}
        files, size, announced = ledger.count()
        fields: dict[str, Any] = {
            "running": is_running,
            "folders": [view.printable(one) for one in ledger.folders()],
            "files": files,
            "size": size,
            "announced": announced,
        } | {name: said for name, said in facts.items() if name != "salt"}
    if as_json:
        view.show_json(fields)
    else:
        view.show_fields(fields)


@main.command()
@click.argument("folders", nargs=-1, type=PATH)
@joins
@by_daemon
@click.option("--all", "everything", is_flag=True, help="All folders.")
def unshare(
    *,
    folders: tuple[Path, ...],
    folder: Path,
    joining: Joining,
    daemon: Path | None,
    everything: bool,
) -> None:
    """Share FOLDERS no longer: what was announced of them is withdrawn at once."""
    if everything == bool(folders):
        raise click.UsageError("name folders, or --all")
    with open_ledger(folder) as ledger:
        wanted = ledger.folders() if everything else [str(one.resolve()) for one in folders]
        unknown = [one for one in wanted if not ledger.remove_folder(one)]
        if unknown:
            _end(f"not shared: {', '.join(unknown)}", code=1)
        asyncio.run(_see_withdrawn(ledger, joining, wanted, daemon=daemon))


async def _see_withdrawn(
    ledger: Ledger, joining: Joining, folders: list[str], *, daemon: Path | None
) -> None:
    """Wait until the process that shares has withdrawn all, or do it in its place."""
    for _ in range(UNSHARE_WAIT_S):
        if not any(map(ledger.count_in, folders)):
            return
        with locked(ledger.path) as is_ours:
            if is_ours:
                await _withdraw(ledger, joining, daemon=daemon)
                return
        await asyncio.sleep(1)
    raise SetupError("not all is withdrawn yet; the process that shares goes on trying")


async def _withdraw(ledger: Ledger, joining: Joining, *, daemon: Path | None) -> None:
    """Withdraw what is not to be shared any more, with the key that it was announced with."""
    async with host_of(ledger, joining, daemon=daemon) as (node, shelf, salt):
        if not (await node.status()).joined:
            hours = ENTRY_TTL_S // 3600
            raise SetupError(f"nobody was reached; what is announced expires within {hours} hours")
        sharer = Sharer(node, ledger, shelf, salt=salt)
        await sharer.retire_removed()
        if sharer.trouble:
            raise SetupError(sharer.trouble)
