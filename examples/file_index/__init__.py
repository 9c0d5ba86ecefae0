"""A peer-to-peer index of files: peers say what they have, others search by words and fetch.

Built on what `kademlia_node` exports, and for --daemon on `kademlia_node.daemon.client` with the
few names that go with it. Where to look for what:

- words, ignore, titles, entry: pure: words of a text, patterns, titles of files, what is announced
- walk: a folder is looked through, a file is read, and nothing outside is ever touched
- shelf: serves pieces of the files; ledger: what is kept on disk
- sharing, searching, fetching: the three verbs; station: the node that they use; hosting: a daemon
  in its place
- cli, options, view: the command line
"""
