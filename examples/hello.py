"""Two nodes in one process: one sets a value, the other finds it. Run: python examples/hello.py."""

import asyncio

from kademlia_node import Network, Node


async def main() -> None:
    """Start, set, get, stop."""
    network = Network.private(b"thirty-two bytes that we share!!")
    async with (
        Node(network=network, host="127.0.0.1") as first,
        Node(network=network, host="127.0.0.1", bootstrap=[str(first.invite)]) as second,
    ):
        receipt = await second.set("greeting", b"hello, world")
        print(f"{receipt.key}: {receipt.summary()}")
        print((await first.get("greeting")).decode())


asyncio.run(main())
