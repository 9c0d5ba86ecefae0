"""A peer-to-peer index of files: peers say what they have, others search by words and fetch.

Built on what `kademlia_node` exports alone. Where to look for what:

- words, ignore, titles, entry: pure: words of a text, patterns, titles of files, what is announced
- walk: a folder is looked through, a file is read, and nothing outside is ever touched
- shelf: serves pieces of the files; ledger: what is kept on disk
- sharing, searching, fetching: the three verbs; station: the node that they use
- cli, view: the command line
"""
