"""What is done to those who share, and measured of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from examples.file_index.ledger import Ledger, open_ledger
from examples.file_index.searching import Search
from examples.file_index.sharing import ENTRY_TTL_S
from examples.file_index.station import Joining, guest
from kademlia_node import Node, Progress
from scripts._demo import Network, each
from scripts.index_demo.figures import FIRST_HIT_MAX_MS, Judged, Result, Size, hash_of, spread
from scripts.index_demo.sharers import LOOK_S, NETWORK_NAME, Sharer, network_of
from scripts.index_demo.trees import (
    FILM,
    HOSTILE_NAMES,
    Pair,
    Plain,
    parts_of,
    plant,
    plant_hostile,
    real_files,
)

ANNOUNCED_WITHIN_S: Final = 3600.0
SEARCH_MAX_S: Final = 120.0
QUERIES_AGAIN: Final = 20
LOOKS_WITHOUT: Final = 5  # in a row, and it is gone
COMMANDS: Final = 5
ONE_BY_ONE: Final = 8  # renewals of one round; fewer, and nothing more is due


class Story:
    """The network, those who share, and one who searches."""

    def __init__(
        self, network: Network, size: Size, result: Result, *, rng: random.Random, say: Console
    ) -> None:
        self._network = network
        self._size = size
        self._result = result
        self._rng = rng
        self._say = say
        self._secret = network.folder / "secret"
        self._plain = Plain()
        self.sharers: list[Sharer] = []

    async def tell(self, sharers: int) -> None:
        """From the first daemon to the last renewal."""
        self._say.print("starting daemons, copying files")
        await self._network.grow(1, bootstrap=None, tick=lambda: None)
        invite = self._network.daemons[0].invite
        daemons = self._size.nodes - sharers
        await self._network.grow(daemons - 1, bootstrap=invite, tick=lambda: None)
        await self._prepare(sharers, invite)
        self._say.print(f"sharing {self._result.shared_in_all} files")
        await self._share()
        joining = Joining(network_of(self._secret), (invite,), "127.0.0.1")
        with open_ledger(self._network.folder / "guest") as ledger:
            await self._visit(ledger, joining, invite)
        if not self._size.is_brief:
            self._say.print("letting the largest sharer come back with everything due")
            await self._renew()

    async def _visit(self, ledger: Ledger, joining: Joining, invite: str) -> None:
        async with guest(ledger, joining) as node:
            self._say.print("searching")
            await self._search(node)
            await self._search_by_command(invite)
            self._say.print("fetching the film, and what is in the hostile folder")
            await self._fetch_hostile(node)
            await self._fetch_film(node)
            await self._fall_silent_and_remove(node)
            await self._search_again(node)

    # --- Sharing ----------------------------------------------------------------------------------

    async def _prepare(self, sharers: int, invite: str) -> None:
        """The trees, and the plain index of them."""
        files = real_files(self._size.files, rng=self._rng)
        folder, result = self._network.folder, self._result
        film = folder / "film"
        film.write_bytes(self._rng.randbytes(self._size.film_bytes))
        for number, part in enumerate(parts_of(files, sharers, rng=self._rng)):
            tree = folder / f"shared-{number}"
            await asyncio.to_thread(plant, tree, part)
            for one in part:
                await self._plain.add(number, one.source, one.path)
            if 1 <= number <= 3:
                (tree / FILM).parent.mkdir()
                (tree / FILM).write_bytes(film.read_bytes())
                await self._plain.add(number, film, FILM)
            home = folder / f"sharer-{number}"
            sharer = Sharer(number, home, [tree], self._secret, invite, self._size.lease_s)
            self.sharers.append(sharer)
        last, hostile = self.sharers[-1], folder / "hostile"
        plant_hostile(hostile)
        last.folders.append(hostile)
        for name in HOSTILE_NAMES:
            path = os.fsdecode(name)
            await self._plain.add(last.number, hostile / path, path)
        for number, _ in self._plain.files:
            self.sharers[number].files += 1
        result.files, result.files_of_the_largest = len(files), self.sharers[0].files
        result.shared_in_all = len(self._plain.files)

    async def _share(self) -> None:
        started = time.perf_counter()
        for sharer in self.sharers:
            await sharer.start()

        async def wait(sharer: Sharer) -> None:
            entries = await sharer.announced(within_s=ANNOUNCED_WITHIN_S)
            self._result.entries += entries
            took_s = time.perf_counter() - started
            self._say.print(
                f"  {sharer.number}: {sharer.files} files, {entries} entries, {took_s:.0f} s"
            )

        await each(self.sharers, wait, at_once=len(self.sharers))
        self._result.announced_s = round(time.perf_counter() - started, 1)
        wanted = sum(len(entry.words) for entry in self._plain.files.values())
        if wanted != self._result.entries:
            raise click.ClickException(f"{self._result.entries} entries, and not {wanted}")

    # --- Searching --------------------------------------------------------------------------------

    async def _search(self, node: Node) -> None:
        queries = self._plain.queries(self._size.queries, rng=self._rng)
        queries.append(["hostile"])
        first_ms, whole_ms = list[float](), list[float]()
        judged = Judged()
        for words in queries:
            found, first, whole = await self._ask(node, words)
            judged.add(found, self._plain.search(words), words)
            whole_ms.append(whole)
            if first is not None:
                first_ms.append(first)
                if first > FIRST_HIT_MAX_MS:
                    self._say.print(f"  {words}: {first:.0f} ms to the first of {len(found)}")
        result = self._result
        result.queries, result.queries_with_hits = len(queries), len(first_ms)
        result.first_hit_ms, result.whole_search_ms = spread(first_ms), spread(whole_ms)
        result.precision, result.recall = judged.precision, judged.recall
        for line in judged.wrong:
            self._say.print(line, markup=False)
        self._say.print(f"  first hit {result.first_hit_ms}, whole {result.whole_search_ms} ms")

    async def _search_again(self, node: Node) -> None:
        """Without those who are gone."""
        judged = Judged()
        for words in self._plain.queries(QUERIES_AGAIN, rng=self._rng):
            found, *_ = await self._ask(node, words)
            judged.add(found, self._plain.search(words), words)
        self._result.precision_after, self._result.recall_after = judged.precision, judged.recall
        for line in judged.wrong:
            self._say.print(line, markup=False)

    async def _ask(self, node: Node, words: Sequence[str]) -> tuple[set[Pair], float | None, float]:
        """What is found, and after how many milliseconds the first and all of it."""
        started = time.perf_counter()
        first_ms: list[float] = []

        def on_hit(_: object) -> None:
            first_ms.append((time.perf_counter() - started) * 1000)

        search = Search(node, words, on_hit=on_hit)
        if not await search.run(within_s=SEARCH_MAX_S):
            raise click.ClickException(f"the search for {words} took {SEARCH_MAX_S} s")
        number_of = {sharer.author: sharer.number for sharer in self.sharers}
        found = {
            (hit.entry.key, number_of[author])
            for hit in search.hits.values()
            for author in hit.providers
        }
        whole_ms = (time.perf_counter() - started) * 1000
        return found, first_ms[0] if first_ms else None, whole_ms

    async def _search_by_command(self, invite: str) -> None:
        """The same as it is typed: a process that starts, joins and searches for a file's name."""
        times_ms = []
        for path in self._rng.sample(self._plain.only_of(0), COMMANDS):
            name = path.rpartition("/")[2]
            command = [sys.executable, "-m", "examples.file_index", "search", name, "--json"]
            command += ["--limit", "1", "--network", NETWORK_NAME, "--host", "127.0.0.1"]
            command += ["--secret-file", str(self._secret), "--bootstrap", invite]
            command += ["--folder", str(self._network.folder / "command"), "--wait", "120"]
            started = time.perf_counter()
            told = await asyncio.to_thread(
                subprocess.run, command, check=False, capture_output=True, text=True
            )
            times_ms.append((time.perf_counter() - started) * 1000)
            if told.returncode:
                raise click.ClickException(f"{name}: {told.stderr}")
        self._result.command_ms = spread(times_ms)

    # --- Fetching ---------------------------------------------------------------------------------

    async def _fetch_hostile(self, node: Node) -> None:
        """What has odd names; that nothing else of that folder is found, `_search` has seen."""
        last, target = self.sharers[-1], self._network.folder / "fetched"
        for number, name in enumerate(HOSTILE_NAMES):
            entry = self._plain.files[last.number, os.fsdecode(name)]
            await node.fetch(entry.key, target)
            assert target.read_bytes() == b"hostile %d" % number
            self._result.hostile_files_shared += 1
        assert last.process is not None
        assert last.process.poll() is None

    async def _fetch_film(self, node: Node) -> None:
        """From three, of whom half-way one is killed and one lies from then on."""
        killed, liar, _ = self.sharers[1:4]
        film, target = self._network.folder / "film", self._network.folder / "film-fetched"
        before = (await node.status()).counters

        def at_half(progress: Progress) -> None:
            if killed.process is not None and progress.done_bytes * 2 >= progress.total_bytes:
                killed.end(signal.SIGKILL)
                killed.silent_since = time.perf_counter()
                with liar.paused():
                    falsify(liar.folders[0] / FILM)

        started = time.perf_counter()
        key = self._plain.files[killed.number, FILM].key
        await node.fetch(key, target, on_progress=at_half)
        result, after = self._result, (await node.status()).counters
        result.film_s = round(time.perf_counter() - started, 1)
        result.film_mib = round(self._size.film_bytes / 2**20, 1)
        result.film_hash_equal = hash_of(target) == hash_of(film)
        for name in ("false", "stalled"):
            count = after.get(f"pieces_{name}", 0) - before.get(f"pieces_{name}", 0)
            setattr(result, f"film_pieces_{name}", count)

    # --- Going ------------------------------------------------------------------------------------

    async def _fall_silent_and_remove(self, node: Node) -> None:
        """A second one is killed; then a third one's file is removed, and all three are watched."""
        killed, second, living = self.sharers[1], self.sharers[4], self.sharers[0]
        second.end(signal.SIGKILL)
        second.silent_since = time.perf_counter()
        path = self._rng.choice(self._plain.only_of(living.number))
        entry = self._plain.files[living.number, path]
        (living.folders[0] / path).unlink()
        living.files -= 1
        started = time.perf_counter()
        words = entry.words[:3]
        gone_at = await self._until_gone(
            node, words, lambda found: (entry.key, living.number) in found
        )
        self._result.removed_file_vanished_s = round(gone_at - started, 1)
        self._plain.remove(living.number, path)
        if not self._size.is_brief:
            self._say.print("waiting until two who were killed are not found any more")
            self._result.lease_s = self._size.lease_s
            await each([killed, second], lambda one: self._until_silent(node, one), at_once=2)
        for one in (killed, second):
            if self._size.is_brief:
                self._say.print(f"  {one.number} may be found until its lease is over")
            else:
                self._plain.forget(one.number)

    async def _until_silent(self, node: Node, sharer: Sharer) -> None:
        place = self._rng.choice(
            sorted(one for one in self._plain.files if one[0] == sharer.number)
        )
        words = self._plain.files[place].words[:3]
        gone_at = await self._until_gone(
            node, words, lambda found: any(number == sharer.number for _, number in found)
        )
        took_s = round(gone_at - sharer.silent_since, 1)
        self._say.print(f"  {sharer.number} is found no longer after {took_s} s")
        self._result.silent_vanished_s = [*(self._result.silent_vanished_s or ()), took_s]

    async def _until_gone(
        self, node: Node, words: Sequence[str], is_there: Callable[[set[Pair]], bool]
    ) -> float:
        """Look until it is not there; several times, for one search may have missed it.

        Returns when it was gone, as `perf_counter` tells.
        """
        looks_without, gone_at = 0, 0.0
        async with asyncio.timeout(2 * self._size.lease_s):
            while looks_without < LOOKS_WITHOUT:
                found, *_ = await self._ask(node, words)
                if is_there(found):
                    looks_without = 0
                elif not looks_without:
                    gone_at = time.perf_counter()
                looks_without += not is_there(found)
                await asyncio.sleep(LOOK_S)
        return gone_at

    # --- Renewal ----------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """The largest sharer is stopped, and comes back when all it publishes is due."""
        largest, result = self.sharers[0], self._result
        largest.end(signal.SIGTERM)
        result.publications_due = largest.let_time_pass()
        result.renewals_needed_per_s = round(result.publications_due / (ENTRY_TTL_S / 2), 1)
        await largest.start()
        await largest.announced(within_s=ANNOUNCED_WITHIN_S)
        first = await self._renewals(largest, lambda facts: facts["renewed"])
        started = time.perf_counter()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._size.renewals_s):
                await self._renewals(largest, lambda facts: facts["renewed_last"] < ONE_BY_ONE)
        last, took_s = largest.facts(), time.perf_counter() - started
        done = {
            name: last[name] - first[name] for name in ("renewed", "renewal_requests", "datagrams")
        }
        result.renewed, result.renewed_within_s = last["renewed"], round(took_s, 1)
        result.renewed_per_s = round(done["renewed"] / took_s, 1)
        result.requests_per_renewal = round(done["renewal_requests"] / done["renewed"], 2)
        result.datagrams_per_renewal = round(done["datagrams"] / done["renewed"], 2)

    async def _renewals(
        self, sharer: Sharer, are_so: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """What it says of itself, once it says so."""
        while not are_so(facts := sharer.facts()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(LOOK_S)
        return facts


def falsify(path: Path) -> None:
    """Other bytes, as many as before, in a file that looks as it did: who serves it lies."""
    status = path.stat()
    with path.open("r+b") as file:
        for _ in range(0, status.st_size, 2**20):
            file.write(bytes(min(2**20, status.st_size - file.tell())))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
