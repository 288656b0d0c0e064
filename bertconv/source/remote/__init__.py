"""Checkpoints that lie elsewhere: on object stores, web servers and the Hub, read through fsspec without a local copy.

- `urls`: what an address is, and how it is shown: without the secrets in it
- `patience`: calls that failed for a while, made again; every failure as an error with one sentence
- `store`: what is asked of a store: facts about a file, a range of it, the names of a folder
- `http`: the same of a web server, whose answers are looked at one by one
- `blocks`: ranges fetched once, in the order of the file, some of them ahead
- `file`: a SourceFile of it
- `folder`: a CheckpointFolder of it
"""
