"""What `lldiff bench` measures: engines beside the eager model and the machine's limits."""
