"""The peer itself: short verbs that drive the machines of `core` over the exchange of `net`."""
