"""One file an engine; all of them answer to `base.Engine`."""
