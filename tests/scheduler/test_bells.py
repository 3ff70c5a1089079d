"""Long polls: who waits is woken by what it waits for, and leaves nothing behind."""

from __future__ import annotations

import asyncio

from dask_async_run.scheduler.bells import Bell


def test_a_ring_wakes_those_who_wait_for_that_key() -> None:
    """All of them, and nobody else."""

    async def main() -> None:
        bell = Bell()
        one = asyncio.create_task(bell.wait(["a"], 20))
        both = asyncio.create_task(bell.wait(["a", "b"], 20))
        other = asyncio.create_task(bell.wait(["c"], 20))
        await asyncio.sleep(0)
        bell.ring("a")
        assert await one
        assert await both
        assert not other.done()
        bell.ring("c")
        assert await other
        assert len(bell) == 0

    asyncio.run(main())


def test_nobody_hears_a_ring_before_or_after() -> None:
    """A bell has no memory: who waits looks first; when time is over the answer is no."""

    async def main() -> None:
        bell = Bell()
        bell.ring("a")
        assert not await bell.wait(["a"], 0.01)
        bell.ring("a")
        assert len(bell) == 0

    asyncio.run(main())


def test_who_gives_up_waiting_is_forgotten() -> None:
    """A cancelled wait leaves no trace, and the others wait on."""

    async def main() -> None:
        bell = Bell()
        quitter, stayer = (asyncio.create_task(bell.wait(["a", "b"], 20)) for _ in range(2))
        await asyncio.sleep(0)
        quitter.cancel()
        await asyncio.wait([quitter])
        bell.ring("b")
        assert await stayer
        assert len(bell) == 0

    asyncio.run(main())


def test_closing_wakes_everybody_and_later_waits_end_at_once() -> None:
    """The answer is no."""

    async def main() -> None:
        bell = Bell()
        waiting = [asyncio.create_task(bell.wait([str(n)], None)) for n in range(3)]
        await asyncio.sleep(0)
        bell.close()
        assert await asyncio.gather(*waiting, bell.wait(["x"], None)) == [False] * 4
        assert len(bell) == 0

    asyncio.run(main())
