"""The pure half: nouns that are told and asked, and never act.

Nothing here knows a socket, a clock, an event loop or a source of chance: time enters as `now`
(seconds, monotonic) or `wall` (seconds since 1970), chance as `rng`. `tests/test_floors.py` holds
it.
"""
