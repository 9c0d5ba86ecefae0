"""The peer: short verbs that drive the machines of `core` over `net`.

Where to look for what:

- the node: node (the public object), announcing, sharing, life, assembly, state, background;
  arguments, receipt and status are what goes in and comes out
- finding nodes: walk, inquiry, reach
- coming and going: join, rejoin, leave
- keeping copies: repair, copying, holdings; or republish
- writing: write, draft, handout (to whom), deposit (what they said), offer, renew, many
- reading: read, tally (what was shown), hunt (long blobs), mend, topic
- watching: watching (the verb), watch (who is told), notify (who tells)
- on one link without a bootstrap: nearby
- contents by their hash: pulling (one, from one holder), fetching (many), contents and snapshots
  (what we give), files, download
- answering: listener, serve, intake
- again and again: upkeep (when), chores (what)
"""
