"""The local runtime: .venv, trainer, serving and gateway as processes kept up by supervisor.

Standard library only: these modules run before anything is installed.
"""
