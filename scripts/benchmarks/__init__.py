"""What a node, and its parts, take on this machine: `scripts/bench --help`."""
