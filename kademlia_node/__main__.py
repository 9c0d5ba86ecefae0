"""`python -m kademlia_node`: the same as the command `kademlia-node`."""

from kademlia_node.cli.main import main

if __name__ == "__main__":
    main(prog_name="kademlia-node")
