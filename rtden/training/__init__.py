"""Training and export of networks: the only part of rtden that imports tensorflow (extra ``train``).

Run ``python -m rtden.training --help``.
"""
