"""One file a verb: add_parser(subparsers) describes its options, run(args) gives its exit status.

The head of each file imports nothing slow, so that its help answers at once.
"""
