"""The file index at work on real processes.

- trees: which real files are shared by whom, a folder that means harm, a plain index of it all
- sharers: processes that share
- story: what is done to them
- figures: what comes out of it
"""
