"""Where records are kept: one protocol, and who implements it."""
