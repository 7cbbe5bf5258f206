"""Beyond one call on one machine: an HTTP service, shards, paths anywhere, a cluster.

shard     part I of N of the work
places    paths and addresses (s3://, memory://, ...)
staging   pictures at addresses as files of this machine, and back
service   `lldiff serve`: pictures and clips over HTTP, and a page for people
"""
