"""Services that find each other: instances register under a name, clients find them and balance.

Built on what `kademlia_node` exports alone. Where to look for what:

- instance: pure: what is announced of an instance
- registering: announced as long as it is healthy, withdrawn when it is not
- directory: pure: which instances live, and which one to ask next; resolving: kept up by a watch
- web: a small HTTP service, and the requests of its clients and of the health check
- demonstration: instances are killed while clients go on asking
- station, cli: the node behind the commands, and the commands
"""
