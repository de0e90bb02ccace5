"""An asyncio server that answers questions about connections.

It follows the events in a task of its own and answers, one line each, how many connections each
address has opened since it started, and how many there are now.
"""

import argparse
import asyncio
from collections import Counter

import conntrack_aio
from conntrack_aio import Connection, EventsLost, EventStream, EventType, FlowEvent


async def follow(stream: EventStream[FlowEvent], opened: Counter[str]) -> None:
    """Count who opens connections, for ever. A loss is a gap in the count, not its end."""
    while True:
        try:
            async for event in stream:
                opened[str(event.flow.orig.src)] += 1
        except EventsLost as loss:
            print(loss)


class Answers:
    """What a client's line is answered with."""

    def __init__(self, conn: Connection, opened: Counter[str]) -> None:
        self._conn = conn
        self._opened = opened

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client's lines until it leaves."""
        while line := await reader.readline():
            address = line.decode().strip()
            now = await self._conn.count()
            writer.write(f"{address} opened {self._opened[address]}; {now} are open\n".encode())
            await writer.drain()
        writer.close()


async def main(port: int) -> None:
    opened: Counter[str] = Counter()
    async with (
        conntrack_aio.connect() as conn,
        conn.events(EventType.NEW) as stream,
        await asyncio.start_server(Answers(conn, opened).serve, "127.0.0.1", port) as server,
    ):
        print("listening on", server.sockets[0].getsockname()[1], flush=True)
        follower = asyncio.create_task(follow(stream, opened))
        try:
            await server.serve_forever()
        finally:
            follower.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    try:
        asyncio.run(main(parser.parse_args().port))
    except KeyboardInterrupt:
        pass
