"""Relays TCP from a port of its own to the server's, says the port, and cuts all connections at each SIGUSR1."""

import asyncio
import os
import signal

connections = set()


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def relay(reader, writer):
    there, onward = await asyncio.open_connection("127.0.0.1", int(os.environ["EIDER_PORT"]))
    pair = (writer, onward)
    connections.update(pair)
    await asyncio.gather(copy(reader, onward), copy(there, writer))
    connections.difference_update(pair)


def cut():
    for writer in connections:
        writer.transport.abort()


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, cut)
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
