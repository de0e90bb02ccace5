"""Print the events of all connections. Run it as root."""

import anyio

import conntrack_aio


async def main() -> None:
    async with conntrack_aio.connect() as conn, conn.events() as stream:
        async for event in stream:
            print(event, flush=True)


anyio.run(main)
