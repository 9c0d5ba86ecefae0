"""What only a store on disk promises: it lasts, it shares commits, it bears a full disk.

That it keeps records as any store does is in test_contract, that no crash loses one in test_crash,
and what a damaged file does in test_damage.
"""

from __future__ import annotations

import asyncio
import logging
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kademlia_node.errors import SetupError
from kademlia_node.store.base import Answer, Outcome, Published, Usage, place_of
from kademlia_node.store.disk import DiskStore
from kademlia_node.store.schema import Durability
from tests.store.disks import BLOBS, file_size_limit, fill, log_of, opened
from tests.store.records import (
    OTHER_PREFIX,
    OVERHEAD,
    OWN_ID,
    PREFIX,
    ROOMY,
    WALL,
    blob,
    by_distance,
    entry,
    held,
    put,
    room_for,
    signing_key,
)

pytestmark = pytest.mark.net  # threads, and so the real clock

FAR_ID = b"\xff" * 32  # whose farthest keys are OWN_ID's nearest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


# --- Lasting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", Durability)
async def test_all_is_there_after_reopening(path: Path, durability: Durability) -> None:
    records = sorted([blob(b"v"), entry(b"blue", slot=b"colour"), entry(b"")], key=place_of)
    published = Published(records[0], WALL + 0.25)
    async with opened(path, durability=durability) as store:
        for record in records:
            await put(store, record)
        await store.publications.keep(published)
        usage = await store.usage()
    async with opened(path, durability=durability) as store:
        assert await store.page(limit=9, wall=WALL) == records
        assert await store.publications.page(limit=99) == [published]
        assert await store.usage() == usage
        assert store.set_aside is None


async def test_shares_are_remembered_over_a_restart(path: Path) -> None:
    settings = room_for(4, share_per_author=0.5, share_per_prefix=0.5)
    async with opened(path, settings) as store:
        await put(store, entry(b"v" * 100, slot=b"a"))
        await put(store, entry(b"v" * 100, slot=b"b"))
    async with opened(path, settings) as store:
        assert await put(store, blob(b"v" * 100)) is Outcome.QUOTA
        of_another = entry(b"v" * 100, author=signing_key(3))
        assert await put(store, of_another, charged_to=OTHER_PREFIX) is Outcome.STORED
        assert await put(store, entry(b"v" * 100), charged_to=OTHER_PREFIX) is Outcome.QUOTA


async def test_under_another_node_id_others_are_the_farthest(path: Path) -> None:
    near, middle, far = by_distance(BLOBS[:3])
    await fill(path, [near, far])
    async with opened(path, room_for(2), own_id=FAR_ID) as store:
        assert await put(store, middle) is Outcome.STORED
        assert by_distance(await held(store)) == [middle, far]
    async with opened(path, room_for(2), own_id=OWN_ID) as store:
        assert await put(store, near) is Outcome.STORED
        assert by_distance(await held(store)) == [near, middle]


async def test_nobody_else_can_read_the_files(path: Path) -> None:
    async with opened(path) as store:
        await put(store, blob(b"v"))
        for file in (path, log_of(path)):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


# --- Jobs that come together ----------------------------------------------------------------------


async def test_puts_and_gets_of_one_moment_happen_in_order(path: Path) -> None:
    async with opened(path) as store, asyncio.TaskGroup() as tasks:
        puts, gets = [], []
        for seq in range(1, 600):  # more than share one commit
            record = entry(b"%d" % seq, seq=seq)
            puts.append(tasks.create_task(put(store, record, expect_seq=seq - 1)))
            gets.append(tasks.create_task(store.get(record.key, wall=WALL)))
        assert {await task for task in puts} == {Outcome.STORED}
        assert [record.header.seq for task in gets for record in await task] == [*range(1, 600)]


async def test_one_that_fails_takes_no_other_down(path: Path) -> None:
    wrong = replace(BLOBS[2], value=b"shorter than its header says")
    async with opened(path) as store:
        answers = await asyncio.gather(
            *(put(store, record) for record in (BLOBS[0], wrong, BLOBS[1])), return_exceptions=True
        )
        assert isinstance(answers[1], AssertionError)
        assert (answers[0], answers[2]) == (Outcome.STORED, Outcome.STORED)
        assert await store.usage() == Usage(2, 2 * (100 + OVERHEAD))


async def test_a_caller_that_gave_up_disturbs_nobody(path: Path) -> None:
    async with opened(path) as store:
        given_up = asyncio.create_task(put(store, BLOBS[0]))
        failing = asyncio.create_task(put(store, replace(BLOBS[1], value=b"")))
        await asyncio.sleep(0)  # both have asked, neither is answered
        given_up.cancel()
        failing.cancel()
        assert await put(store, BLOBS[2]) is Outcome.STORED
        assert given_up.cancelled()
        assert failing.cancelled()


async def test_an_opening_that_is_cancelled_lets_go_of_the_file(path: Path) -> None:
    for steps in range(1, 20):
        opening = asyncio.create_task(DiskStore.open(path, own_id=OWN_ID, settings=ROOMY))
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await (await opening).close()
        async with opened(path):
            pass


async def test_closing_waits_for_what_was_asked_before(path: Path) -> None:
    async with opened(path) as store, asyncio.TaskGroup() as tasks:
        puts = [tasks.create_task(put(store, record)) for record in BLOBS]
        await asyncio.sleep(0)
        await store.close()
        assert {task.result() for task in puts} == {Outcome.STORED}
    async with opened(path) as store:
        assert (await store.usage()).records == len(BLOBS)


async def test_a_sweep_takes_as_many_steps_as_it_needs(path: Path) -> None:
    async with opened(path, replace(ROOMY, store_sweep_max=2)) as store:
        for number in range(5):
            await put(store, blob(bytes([number]), ttl=10))
        await put(store, blob(b"v", ttl=20))
        assert await store.sweep(wall=WALL + 10) == 5
        assert await store.usage() == Usage(1, 1 + OVERHEAD)


async def test_an_expired_predecessor_that_was_not_swept_yet_is_none(path: Path) -> None:
    async with opened(path, replace(ROOMY, store_sweep_max=1)) as store:
        for slot, ttl in ((b"a", 5), (b"b", 6), (b"c", 7)):
            await put(store, entry(slot=slot, seq=9, ttl=ttl))
        late = entry(slot=b"c", seq=1)
        answer = await store.put(late, charged_to=PREFIX, wall=WALL + 10, expect_seq=0)
        assert answer == Answer(Outcome.STORED, None)
        assert await store.sweep(wall=WALL + 10) == 1
        assert await store.usage() == Usage(1, 4 + OVERHEAD)


# --- A disk that takes no more --------------------------------------------------------------------


async def test_a_full_disk_refuses_the_new_and_keeps_the_old(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, published = entry(b"blue", ttl=10), Published(BLOBS[0], WALL)
    async with opened(path) as store:
        await put(store, old)
        await store.publications.keep(published)
        with file_size_limit(log_of(path).stat().st_size):
            for record in BLOBS:
                answer = await store.put(record, charged_to=PREFIX, wall=WALL)
                assert answer == Answer(Outcome.FULL, None)
            assert await put(store, old) is Outcome.HAVE
            assert await held(store) == [old]
            assert await store.sweep(wall=WALL + 10) == 0
            with pytest.raises(SetupError, match="free some space"):
                await store.publications.keep(Published(BLOBS[1], WALL))
            with pytest.raises(SetupError, match="free some space"):
                await store.publications.drop(published.place)
            assert await store.usage() == Usage(1, 4 + OVERHEAD)
        assert await store.publications.page(limit=99) == [published]
    assert len(caplog.records) == 1  # and not one for each refusal


async def test_a_full_disk_refuses_offers_that_need_writing(path: Path) -> None:
    old, renewed, other = blob(b"v" * 1000), blob(b"v" * 1000, ttl=7200), BLOBS[0]
    async with opened(path) as store:
        await put(store, old)
        with file_size_limit(log_of(path).stat().st_size):
            for record, outcome in ((renewed, Outcome.FULL), (other, Outcome.WANTED)):
                answer = await store.offer(record.key, record.header, charged_to=PREFIX, wall=WALL)
                assert answer == Answer(outcome, None)
            assert await held(store) == [old]
        answer = await store.offer(renewed.key, renewed.header, charged_to=PREFIX, wall=WALL)
        assert answer == Answer(Outcome.HAVE, old.header)
    async with opened(path) as store:
        assert await held(store) == [renewed]


async def test_a_disk_with_room_again_is_written_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with opened(path) as store:
        for first, second in ((BLOBS[0], BLOBS[1]), (BLOBS[2], BLOBS[3])):
            with file_size_limit(1000):
                assert await put(store, first) is Outcome.FULL
            assert await put(store, first) is Outcome.STORED
            assert await put(store, second) is Outcome.STORED
        usage = await store.usage()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
    async with opened(path) as store:
        assert await store.usage() == usage == Usage(4, 4 * (100 + OVERHEAD))


async def test_a_large_one_that_finds_no_room_leaves_it_to_the_small(path: Path) -> None:
    large = blob(b"v" * 60_000)
    async with opened(path) as store:
        await put(store, BLOBS[0])
        with file_size_limit(log_of(path).stat().st_size + 50_000):
            outcomes = await asyncio.gather(
                *(put(store, record) for record in (BLOBS[1], large, BLOBS[2]))
            )
        assert outcomes == [Outcome.STORED, Outcome.FULL, Outcome.STORED]
        assert await store.usage() == Usage(3, 3 * (100 + OVERHEAD))


async def test_a_store_opens_on_a_full_disk(path: Path) -> None:
    await fill(path, BLOBS)
    with file_size_limit(1000):
        async with opened(path) as store:
            assert await put(store, entry()) is Outcome.FULL
            assert len(await held(store)) == len(BLOBS)
            assert await store.usage() == Usage(len(BLOBS), len(BLOBS) * (100 + OVERHEAD))


# --- Backup ---------------------------------------------------------------------------------------


async def test_a_backup_is_a_store(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    published = Published(BLOBS[3], WALL)
    async with opened(path) as store:
        await put(store, BLOBS[0])
        await store.publications.keep(published)
        await store.backup_to(copy)
        await put(store, BLOBS[1])
    async with opened(copy) as store:
        assert await held(store) == [BLOBS[0]]
        assert await store.publications.page(limit=99) == [published]
        assert store.set_aside is None
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


async def test_a_backup_among_puts_has_those_before_it(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with opened(path) as store, asyncio.TaskGroup() as tasks:
        puts = [tasks.create_task(put(store, record)) for record in BLOBS[:10]]
        tasks.create_task(store.backup_to(copy))
        puts += [tasks.create_task(put(store, record)) for record in BLOBS[10:]]
        assert {await task for task in puts} == {Outcome.STORED}
    async with opened(copy) as store:
        assert sorted(await held(store), key=place_of) == sorted(BLOBS[:10], key=place_of)


async def test_a_backup_replaces_nothing_and_leaves_no_half(path: Path, tmp_path: Path) -> None:
    taken, full = tmp_path / "taken", tmp_path / "full"
    taken.write_bytes(b"precious")
    await fill(path, BLOBS)
    async with opened(path) as store:
        with pytest.raises(SetupError, match="exists already"):
            await store.backup_to(taken)
        with pytest.raises(SetupError, match="cannot write the backup"):
            await store.backup_to(tmp_path / "nowhere" / "copy.db")
        with file_size_limit(10_000), pytest.raises(SetupError, match="cannot write the backup"):
            await store.backup_to(full)
        assert await put(store, entry()) is Outcome.STORED
    assert taken.read_bytes() == b"precious"
    assert names_in(tmp_path) == {"taken", "store.db"}


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}
