"""The wire: a socket, and the exchange of requests and answers over it."""
