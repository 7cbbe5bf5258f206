"""`lldiff serve`: an HTTP service around the models, and a page for people.

    options   what the service is told at its start
    run       from options to a process that listens, and drains when it is told to stop
    app       the routes, and what every answer has in common
    refusals  an answer that says no: status, one line, and when to come back
    query     what a request asks for
    body      a request's body, within its limits of size and time
    queue     a bounded number of pictures in work and waiting
    picture   bytes in, bytes out, as `lldiff enhance` makes them
    shelf     the models that are served
    videos    clips as jobs: status, progress, result
    metrics   numbers for Prometheus
    openapi   the description of the routes
    protocol  connections that say nothing are closed
    page      the page at /, one file

No name or path that a request gives touches the disk: pictures and clips lie under names of ours in a temporary folder.
Requests are not put together to batches: on a CPU four pictures of 600x400 take as long in one call as in four.
"""
