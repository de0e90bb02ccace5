"""Count the connections that each address opens, and report the counts over TCP, on asyncio.

One task counts the events of new connections. For each line with an IP address, the server replies
with the number of connections that this address has opened since the server started, and with the
number of entries in the kernel's table.
"""

import argparse
import asyncio
from collections import Counter

import conntrack_aio
from conntrack_aio import Connection, EventsLost, EventStream, EventType, FlowEvent


async def count_new(stream: EventStream[FlowEvent], opened: Counter[str]) -> None:
    """Count new connections by source address, until cancelled.

    If the kernel drops events, their connections are not counted, and counting goes on.
    """
    while True:
        try:
            async for event in stream:
                opened[str(event.flow.orig.src)] += 1
        except EventsLost as loss:
            print(loss)


class Handler:
    """Handles the connections of clients."""

    def __init__(self, conn: Connection, opened: Counter[str]) -> None:
        self._conn = conn
        self._opened = opened

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reply to each line of a client until it disconnects."""
        while line := await reader.readline():
            address = line.decode().strip()
            entries = await self._conn.count()
            reply = f"opened by {address}: {self._opened[address]}; in the table: {entries}\n"
            writer.write(reply.encode())
            await writer.drain()
        writer.close()


async def main(port: int) -> None:
    opened: Counter[str] = Counter()
    async with (
        conntrack_aio.connect() as conn,
        conn.events(EventType.NEW) as stream,
        await asyncio.start_server(Handler(conn, opened).serve, "127.0.0.1", port) as server,
    ):
        print("listening on", server.sockets[0].getsockname()[1], flush=True)
        counting = asyncio.create_task(count_new(stream, opened))
        try:
            await server.serve_forever()
        finally:
            counting.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="TCP port on the loopback; 0: any")
    try:
        asyncio.run(main(parser.parse_args().port))
    except KeyboardInterrupt:
        pass
