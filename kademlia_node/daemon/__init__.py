"""The peer as a long-running service with a folder, a lock and a control socket."""
