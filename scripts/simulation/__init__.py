"""Simulate a network of real nodes and print what its operations cost and how good they are."""
