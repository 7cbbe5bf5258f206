"""Shows what a benchmark measured: on the terminal, as CSV, Markdown, plots, and one self-contained HTML page."""
