"""Operations on frames, and on the stores where they lie too."""

from __future__ import annotations

from collections.abc import Sequence

from dask_async_run.job import Message
from dask_async_run.registry.calls import Calls
from dask_async_run.snapshots import Snapshot


class FrameCalls(Calls):
    """Operations on frames; see `Calls`."""

    async def missing_frames(self, digests: Sequence[str], coming: bool = False) -> list[str]:
        """Which frames the store does not have; the others are marked as used now.

        Parameters
        ----------
        coming : bool
            Whether one is not missing either that a worker is bringing there.
        """
        more = (
            {"coming": True} if coming else {}
        )  # which a server of an older version does not know
        answer: list[str] = await self._ask("missing_frames", digests=list(digests), **more)
        return answer

    async def frame_places(self, size: int) -> list[str]:
        """Addresses of workers that a frame of `size` bytes may be brought to, the best first."""
        answer: list[str] = await self._ask("frame_places", size=size)
        return answer

    async def holders(self, digests: Sequence[str]) -> dict[str, list[str]]:
        """By digest, the addresses of the workers that have copies of frames."""
        answer: dict[str, list[str]] = await self._ask("holders", digests=list(digests))
        return answer

    async def held(
        self,
        worker: str,
        digests: Sequence[str],
        passing: bool = False,
        gone: Sequence[str] = (),
    ) -> None:
        """Tell which frames a worker has copies of.

        Parameters
        ----------
        worker : str
            Its address.
        digests : sequence of str
            That it has from now on.
        passing : bool
            Whether it brings those of them to the store that this does not have.
        gone : sequence of str
            That it has no more.
        """
        told = {"digests": list(digests), "passing": passing, "gone": list(gone)}
        await self._ask_again("held", worker=worker, **told)

    async def bring(self, snapshot: Snapshot) -> bool:
        """Have frames copied to the store from a snapshot, which is ended then.

        On return they count as coming: a job that needs them can be made.

        Returns
        -------
        bool
            Whether the registry can read the snapshot and has the room. If not, it is as it was.
        """
        return bool(await self._ask("bring", snapshot=snapshot.to_message()))

    async def write_frame(self, transfer: str, offset: int, piece: bytes) -> None:
        """Send a piece of a frame; see `dask_async_run.incoming`."""
        await self._ask_again("write_frame", transfer=transfer, offset=offset, piece=piece)

    async def complete_frame(self, transfer: str, digest: str) -> None:
        """Have what was sent become a frame.

        Raises
        ------
        FrameError
            It is not what its name says.
        """
        await self._ask_again("complete_frame", transfer=transfer, digest=digest)

    async def read_frame(self, digest: str, offset: int) -> bytes:
        """Fetch the piece of a frame that begins at `offset`."""
        answer: bytes = await self._ask_again("read_frame", digest=digest, offset=offset)
        return answer

    async def check_store(self, url: str) -> Message:
        """Try a store at a URL.

        Returns
        -------
        dict
            ``place``: where jobs will lie; ``unknown``: how many jobs lie there that the
            registry does not know.

        Raises
        ------
        StoreError
            It cannot be used.
        """
        answer: Message = await self._ask("check_store", url=url)
        return answer

    async def recall(self, digests: Sequence[str]) -> None:
        """Make frames be in the store, and whole, that are in a store at a URL.

        Raises
        ------
        StoreError, FrameError
            Such a store cannot be reached, or has not got it either.
        """
        await self._ask_again("recall", digests=list(digests))

    async def restore(self, url: str) -> Message:
        """Take in jobs that lie in a store at a URL.

        Returns
        -------
        dict
            ``jobs``: how many; ``problems``: what is wrong with others.
        """
        answer: Message = await self._ask("restore", url=url)
        return answer
