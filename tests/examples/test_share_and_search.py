"""Sharing and searching with real nodes on virtual time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from examples.file_index.entry import Entry
from examples.file_index.searching import (
    AUTHORS_MAX,
    LOOKS_AT_ONCE,
    Filter,
    Hit,
    Search,
    ranked,
)
from examples.file_index.sharing import BEACON, ENTRY_TTL_S, LEASE_S
from examples.file_index.words import topic_of, words_of
from kademlia_node import Incomplete, Key, Kind, Node, NotFound, TopicEntry, Trace
from kademlia_node.core.message import (
    FindValue,
    Request,
    Response,
    Store,
    Stored,
    StoreStatus,
)
from tests.examples.sharers import Peer, paths, search
from tests.node.network import HOUR, SILENCE, Neighbourhood, collect


class Town:
    """A few nodes that keep records, a searcher, and sharers."""

    def __init__(self, here: Neighbourhood, tmp_path: Path) -> None:
        self.here = here
        self._tmp_path = tmp_path
        self.peers: list[Peer] = []

    async def begin(self) -> None:
        self.keepers = await self.here.grow(5)
        self.searcher = await self.here.start(server=False)

    async def peer(self, *files: str) -> Peer:
        peer = Peer(self.here, self._tmp_path / str(len(self.peers)))
        self.peers.append(peer)
        for path in files:
            peer.write(path, f"content of {path}".encode())
        await peer.start()
        await peer.sharer.refresh()
        assert not peer.sharer.trouble
        return peer


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with Neighbourhood() as here:
        town = Town(here, tmp_path)
        await town.begin()
        yield town
        for peer in town.peers:
            peer.close()


# --- Found ----------------------------------------------------------------------------------------


async def test_a_file_is_found_by_all_words_of_path_title_and_kind(town: Town) -> None:
    peer = await town.peer("papers/Peer to Peer.txt", "papers/other.txt")
    peer.write("a.html", b"<title>Verteilte \xc3\x9cbersicht</title>")
    await peer.sharer.refresh()
    find = town.searcher
    assert await paths(find, "peer") == ["papers/Peer to Peer.txt"]
    assert await paths(find, "PAPERS") == ["papers/Peer to Peer.txt", "papers/other.txt"]
    assert await paths(find, "papers other") == ["papers/other.txt"]
    assert await paths(find, "ubersicht") == ["a.html"]
    assert len(await paths(find, "text")) == 3
    assert await paths(find, "papers ubersicht") == []
    assert await paths(find, "nothing") == []


async def test_a_result_tells_what_it_is(town: Town) -> None:
    peer = await town.peer()
    path = peer.write("a.html", b"<title>Title</title>")
    os.utime(path, (1_000_000, 1_000_000))
    await peer.sharer.refresh()
    (hit,) = await search(town.searcher, "title")
    assert (hit.entry.size, hit.entry.kind, hit.entry.title) == (20, "text", "Title")
    assert hit.entry.changed_at == 1_000_000
    assert hit.providers == {peer.node.public_key}


async def test_the_same_content_of_several_sharers_is_one_result(town: Town) -> None:
    for name in ("one.txt", "two.txt", "three.txt"):
        (await town.peer()).write(f"files/{name}", b"the same")
        await town.peers[-1].sharer.refresh()
    (hit,) = await search(town.searcher, "files")
    assert len(hit.providers) == 3


async def test_filters_and_a_limit(town: Town) -> None:
    peer = await town.peer("x/a.pdf", "x/b.txt")
    peer.write("x/large.txt", bytes(10_000))
    await peer.sharer.refresh()
    find = town.searcher
    assert await paths(find, "x", wanted=Filter(kind="document")) == ["x/a.pdf"]
    assert await paths(find, "x", wanted=Filter(size_min=10_000)) == ["x/large.txt"]
    assert await paths(find, "x", wanted=Filter(size_max=9_999)) == ["x/a.pdf", "x/b.txt"]
    assert len(await paths(find, "x", limit=2)) == 2


async def test_what_cannot_be_read_in_time_is_said(town: Town) -> None:
    await town.peer("a.txt")
    assert not await Search(town.searcher, ["txt"]).run(within_s=0.001)


async def test_odd_names_are_shared_and_shown(town: Town) -> None:
    peer = await town.peer()
    for name in (b"odd new\nline", b"odd caf\xe9", b"odd " + b"x" * 251):
        peer.write(os.fsdecode(name), name)
    await peer.sharer.refresh()
    shown = ["odd caf\\xe9", "odd new\nline", "odd " + "x" * 251]
    assert await paths(town.searcher, "odd") == sorted(shown)


# --- Fetched --------------------------------------------------------------------------------------


async def test_what_is_found_can_be_fetched(town: Town, tmp_path: Path) -> None:
    await town.peer("papers/a.txt")
    (hit,) = await search(town.searcher, "papers")
    await town.searcher.fetch(hit.entry.key, tmp_path / "got", length_max=hit.entry.size)
    assert (tmp_path / "got").read_bytes() == b"content of papers/a.txt"


async def test_a_file_that_changes_is_not_served_and_soon_found_as_it_is(
    town: Town, tmp_path: Path
) -> None:
    peer = await town.peer("a.txt")
    (before,) = await search(town.searcher, "txt")
    peer.write("a.txt", b"another content")
    with pytest.raises(Incomplete):
        await town.searcher.fetch(before.entry.key, tmp_path / "got")
    await peer.sharer.refresh()
    (after,) = await search(town.searcher, "txt")
    assert after.entry.key != before.entry.key
    assert not [
        e async for e in town.searcher.find(topic_of("txt")) if e.value == before.entry.pack()
    ]
    await asyncio.sleep(60)
    with pytest.raises((NotFound, Incomplete)):
        await town.searcher.fetch(before.entry.key, tmp_path / "got")
    await town.searcher.fetch(after.entry.key, tmp_path / "got")


# --- Gone -----------------------------------------------------------------------------------------


async def test_a_file_that_is_removed_is_found_no_longer(town: Town) -> None:
    peer = await town.peer("x/a.txt", "x/b.txt")
    (peer.folder / "x" / "a.txt").unlink()
    await peer.sharer.refresh()
    assert await paths(town.searcher, "x") == ["x/b.txt"]
    assert peer.ledger.count()[0] == 1
    left = [one async for one in peer.node.publications()]
    assert len(left) == 2 + len(words_of("x b txt text")) + 1  # provided, announced, the beacon


async def test_a_copy_that_stays_is_provided_on(town: Town, tmp_path: Path) -> None:
    peer = await town.peer()
    for name in ("a.txt", "b.txt", "c.txt"):
        peer.write(name, b"the same")
    await peer.sharer.refresh()
    for name in ("a.txt", "b.txt"):
        (peer.folder / name).unlink()
    await peer.sharer.refresh()
    (hit,) = await search(town.searcher, "txt")
    await town.searcher.fetch(hit.entry.key, tmp_path / "got")
    (peer.folder / "c.txt").unlink()
    await peer.sharer.refresh()
    assert len([one async for one in peer.node.publications()]) == 1  # the beacon


async def test_a_folder_that_is_unshared_by_another_process_is_withdrawn(town: Town) -> None:
    peer = await town.peer("a.txt")
    (known,) = peer.ledger.files()
    piece = known.manifest.pieces[0]
    assert await peer.shelf.read(piece.hash, 0, piece.length) == b"content of a.txt"
    peer.ledger.remove_folder(str(peer.folder))
    await peer.sharer.refresh()
    assert await peer.shelf.read(piece.hash, 0, piece.length) is None
    assert await paths(town.searcher, "txt") == []
    assert await collect(town.searcher.find(topic_of("txt"))) == []


async def test_what_is_unshared_while_nobody_shares_is_withdrawn_with_the_same_key(
    town: Town,
) -> None:
    peer = await town.peer("a.txt")
    await peer.stop()
    peer.ledger.remove_folder(str(peer.folder))
    await peer.start()
    await peer.sharer.retire_removed()
    assert await collect(town.searcher.find(topic_of("txt"))) == []
    assert peer.ledger.count()[0] == 0


async def test_who_dies_without_a_word_is_found_no_longer_than_the_lease(town: Town) -> None:
    peer, other = await town.peer("x/a.txt"), await town.peer("x/b.txt")
    await asyncio.sleep(3 * HOUR)  # as long as both run they are found
    assert await paths(town.searcher, "x") == ["x/a.txt", "x/b.txt"]
    await peer.stop()
    await asyncio.sleep(LEASE_S + 1)
    assert await paths(town.searcher, "x") == ["x/b.txt"]
    await asyncio.sleep(ENTRY_TTL_S)
    assert len(await collect(town.searcher.find(topic_of("x")))) == 1
    await other.sharer.leave()
    assert await paths(town.searcher, "x") == []


# --- Again ----------------------------------------------------------------------------------------


async def test_a_restart_reads_no_file_again_and_announces_only_what_has_lapsed(
    town: Town,
) -> None:
    peer = await town.peer("x/a.txt", "x/b.txt")
    await peer.sharer.leave()
    await peer.stop()
    await asyncio.sleep(HOUR)
    assert await paths(town.searcher, "x") == []
    await peer.start()
    await peer.sharer.refresh()
    assert "reading" not in {what for what, _, _ in peer.steps}
    assert await paths(town.searcher, "x") == ["x/a.txt", "x/b.txt"]
    written = (await peer.node.status()).operations["write"].count
    assert written == 2 + 1  # provided, and the beacon
    await peer.stop()
    await asyncio.sleep(ENTRY_TTL_S + 60)
    await peer.start()
    await peer.sharer.refresh()
    assert await paths(town.searcher, "x") == ["x/a.txt", "x/b.txt"]


async def test_a_file_that_comes_back_after_it_was_withdrawn_is_found(town: Town) -> None:
    peer = await town.peer("x/a.txt")
    await peer.stop()
    await peer.start()
    await peer.sharer.refresh()
    path, aside = peer.folder / "x" / "a.txt", peer.home / "aside"
    path.rename(aside)
    await peer.sharer.refresh()
    assert await paths(town.searcher, "x") == []
    aside.rename(path)
    await peer.sharer.refresh()
    assert await paths(town.searcher, "x") == ["x/a.txt"]


async def trouble_of(peer: Peer) -> str:
    """What a refresh cannot do."""
    await peer.sharer.refresh()
    return peer.sharer.trouble


async def test_who_reaches_nobody_says_so_and_tries_again(tmp_path: Path) -> None:
    async with Neighbourhood() as here:
        keepers = await here.grow_puppets(4)
        for keeper in keepers:
            keeper.answer = lambda request: (
                Stored(StoreStatus.QUOTA) if isinstance(request, Store) else None
            )
        peer = Peer(here, tmp_path, server=False)
        path = peer.write("x/a.txt")
        await peer.start()
        assert "not stored" in await trouble_of(peer)
        assert "not stored" in peer.ledger.facts()["trouble"]
        for keeper in keepers:
            keeper.answer = lambda _: None
        assert await trouble_of(peer) == ""
        assert await paths(keepers[0], "x") == ["x/a.txt"]
        path.unlink()
        for keeper in keepers:
            keeper.answer = lambda request: SILENCE if isinstance(request, Store) else None
        assert await trouble_of(peer)
        for keeper in keepers:
            keeper.answer = lambda _: None
        assert await trouble_of(peer) == ""
        assert await collect(keepers[0].find(topic_of("x"))) == []
        peer.close()


async def test_what_nobody_takes_is_not_announced_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async with Neighbourhood() as here:
        keepers = await here.grow_puppets(4)
        peer = Peer(here, tmp_path, server=False)
        for name in ("a.txt", "b.txt"):
            peer.write(name, name.encode())
        await peer.start()
        beacon = peer.node.key_of(BEACON, own=True).digest

        def take_no_word(request: Request) -> Response | None:
            """But the beacon, and the manifests."""
            if not isinstance(request, Store) or request.key == beacon:
                return None
            return None if request.header.kind is Kind.BLOB else Stored(StoreStatus.QUOTA)

        for keeper in keepers:
            keeper.answer = take_no_word
        assert "not provided" in await trouble_of(peer)
        assert peer.ledger.count()[::2] == (2, 0)
        (peer.folder / "a.txt").unlink()
        for keeper in keepers:
            keeper.answer = lambda _: None
        assert await trouble_of(peer) == ""
        assert peer.ledger.count()[::2] == (1, 1)
        left = [one async for one in peer.node.publications()]
        assert len(left) == 2 + len(words_of("b txt text")) + 1  # provided, announced, the beacon
        peer.close()


async def test_a_beacon_is_looked_for_again_where_nobody_answered(tmp_path: Path) -> None:
    async with Neighbourhood() as here:
        keepers = await here.grow_puppets(4)
        peer = Peer(here, tmp_path, server=False)
        peer.write("x/a.txt")
        await peer.start()
        await peer.sharer.refresh()
        key = peer.node.key_of(BEACON, own=True).digest
        asked_at: list[float] = []

        def be_busy(request: Request) -> Response | None:
            """For longer than one look."""
            if not isinstance(request, FindValue) or request.key != key:
                return None
            asked_at.append(asyncio.get_running_loop().time())
            return SILENCE if asked_at[-1] < asked_at[0] + 2.8 else None

        for keeper in keepers:
            keeper.answer = be_busy
        reader = await here.start(server=False)
        assert await paths(reader, "x") == ["x/a.txt"]
        assert asked_at[-1] > asked_at[0] + 2.5
        peer.close()


async def test_a_refresh_that_finds_nothing_new_writes_nothing(town: Town) -> None:
    peer = await town.peer("x/a.txt")
    before = (await peer.node.status()).operations["write"].count
    await peer.sharer.refresh()
    assert (await peer.node.status()).operations["write"].count == before


# --- Strangers ------------------------------------------------------------------------------------


ENTRY = Entry(Key(Kind.BLOB, b"k" * 32), "x/spam.txt", 1, "text", "", 0)


async def spam(node: Node, value: bytes, word: str = "x") -> None:
    await node.announce(topic_of(word), value)


async def test_junk_under_a_word_and_entries_that_do_not_have_it_are_passed_over(
    town: Town,
) -> None:
    await town.peer("x/a.txt")
    liar, *others = town.keepers
    await liar.set(BEACON, b"", own=True)
    await spam(liar, ENTRY.pack(), word="a")
    for node, junk in zip(
        others, (b"", b"\xff" * 9, msgpack.packb([1]), b"x" * 60_000), strict=True
    ):
        await spam(node, junk)
    assert await paths(town.searcher, "x") == ["x/a.txt"]
    assert await paths(town.searcher, "a") == ["x/a.txt"]
    await spam(liar, ENTRY.pack())
    assert await paths(town.searcher, "x") == ["x/a.txt", "x/spam.txt"]


async def test_who_tells_a_false_size_spoils_no_result_of_others(
    town: Town, tmp_path: Path
) -> None:
    """A fetch takes no more than the size that its result tells."""
    peer, liar = await town.peer("x/a.txt"), town.keepers[0]
    await liar.set(BEACON, b"", own=True)
    (known,) = peer.ledger.files()
    await spam(liar, replace(ENTRY, key=known.manifest.key).pack())
    hits = {one.entry.path: one for one in await search(town.searcher, "x")}
    assert hits.keys() == {"x/a.txt", "x/spam.txt"}
    true, false = hits["x/a.txt"], hits["x/spam.txt"]
    assert (true.providers, false.providers) == ({peer.node.public_key}, {liar.public_key})
    await town.searcher.fetch(true.entry.key, tmp_path / "got", length_max=true.entry.size)


async def test_words_of_different_files_do_not_meet(town: Town) -> None:
    await town.peer("x/a.txt")
    await town.peer("spam/a.txt")
    assert len(await paths(town.searcher, "a")) == 2
    assert await paths(town.searcher, "x spam") == []


async def test_one_word_that_shows_a_file_is_enough(town: Town) -> None:
    """So the first hit waits for no topic of thousands of entries."""
    sharer = town.keepers[0]
    await sharer.set(BEACON, b"", own=True)
    await spam(sharer, ENTRY.pack())
    assert await paths(town.searcher, "x spam") == ["x/spam.txt"]
    assert await paths(town.searcher, "x other") == []


async def test_a_file_that_all_words_show_is_one_hit(town: Town) -> None:
    await town.peer("x/a.txt")
    (hit,) = await search(town.searcher, "x a txt text")
    assert len(hit.providers) == 1


# --- Too many -------------------------------------------------------------------------------------


class Crowd(Node):
    """A node to which an entry of each of many authors comes; of all but the last no beacon is."""

    authors = 0
    is_silent = False  # whoever is asked for a beacon
    read = 0  # entries
    looks = 0

    async def find(self, topic: str) -> AsyncGenerator[TopicEntry, None]:
        for number in range(1, self.authors + 1):
            self.read, author = number, number.to_bytes(32)
            entry = replace(ENTRY, key=Key(Kind.BLOB, author))
            yield TopicEntry(author, b"", entry.pack(), 1, 0)

    async def get(self, what: str | Key, **options: Any) -> Any:
        self.looks += 1
        if self.is_silent:
            await asyncio.Event().wait()
        if options["author"] != self.authors.to_bytes(32):
            raise NotFound(str(what), Trace(b""))


async def crowd_of(town: Town, authors: int) -> Crowd:
    crowd = await town.here.start_as(Crowd, server=False)
    crowd.authors = authors
    return crowd


async def test_no_number_of_authors_who_are_gone_hides_one_who_is_there(town: Town) -> None:
    crowd = await crowd_of(town, 2 * AUTHORS_MAX)
    (hit,) = await search(crowd, "x")
    assert hit.providers == {crowd.authors.to_bytes(32)}


async def test_reading_waits_while_too_many_authors_are_looked_for(town: Town) -> None:
    crowd = await crowd_of(town, 2 * AUTHORS_MAX)
    crowd.is_silent = True
    assert not await Search(crowd, ["x"]).run(within_s=10)
    assert (crowd.read, crowd.looks) == (AUTHORS_MAX + 1, LOOKS_AT_ONCE)


async def test_that_there_were_too_many_files_is_said(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.file_index.searching.FILES_MAX", 3)
    for authors, is_whole in ((3, True), (4, False)):
        searching = Search(await crowd_of(town, authors), ["x", "spam"])
        assert await searching.run(within_s=10) == is_whole
        assert len(searching.hits) == is_whole  # the last one's


def hit(path: str, *, title: str = "", providers: int = 1) -> Hit:
    key = Key(Kind.BLOB, path.encode().ljust(32))
    entry = Entry(key, path, 1, "text", title, 0)
    return Hit(entry, {bytes([number]) for number in range(providers)})


def test_names_and_titles_come_before_folders_and_then_what_many_have() -> None:
    hits: Iterator[Hit] = iter(
        [
            hit("word/z.txt", providers=9),
            hit("a/word.txt"),
            hit("b/word.txt", providers=2),
            hit("c.txt", title="One Word", providers=3),
        ]
    )
    order = [one.entry.path for one in ranked(hits, ["word"])]
    assert order == ["c.txt", "b/word.txt", "a/word.txt", "word/z.txt"]
