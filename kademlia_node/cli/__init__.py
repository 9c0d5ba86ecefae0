"""The command line: verbs that talk to a daemon, or join as a short-lived client."""
