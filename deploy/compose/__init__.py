"""The compose runtime: the commands of `make`, by `docker compose`, and the choice of a runtime.

Standard library only: these modules run on a machine that has Docker and Python, and nothing
installed.
"""
