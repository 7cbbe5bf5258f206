"""Beyond one call on one machine: an HTTP service, shards, paths anywhere, a cluster.

shard     part I of N of the work
service   `lldiff serve`: pictures and clips over HTTP, and a page for people
"""
