"""The compose runtime: the verbs of `make` over `docker compose`, and the choice between it and the
local runtime.

Standard library only: these modules run on a machine that has Docker and Python, and nothing
installed.
"""
