"""Beyond one call on one machine: an HTTP service, shards, paths anywhere, a cluster.

shard     part I of N of the work
places    paths and addresses (s3://, memory://, ...)
staging   pictures at addresses as files of this machine, and back
receipts  what was made of what: finished work is not done again
ray_pictures   pictures on a Ray cluster
triton_repository, triton_backend   the same model for NVIDIA's Triton
service   `lldiff serve`: pictures and clips over HTTP, and a page for people
"""
