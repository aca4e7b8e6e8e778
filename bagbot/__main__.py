"""`python -m bagbot` is the command `bagbot`."""

from bagbot.cli import main

main()
