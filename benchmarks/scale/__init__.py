"""What more workers bring: the service and the Ray pool measured on this machine, and many more of them simulated.

    python -m benchmarks.scale [--model tiny] [-o benchmarks/results]

photo      the picture that is sent and enhanced, and a clip
service    `lldiff serve`: cold start, what it adds to a bare call, latency under load, workers
cluster    `lldiff enhance --ray`: actors beside as many bare processes, what handing out a picture costs
video      seconds of a frame: enhanced, and only looked at
simulate   10, 100 and 1,000 workers with stragglers, failures and a store far away (SimPy)
page       the tables

Every worker has one thread ($OMP_NUM_THREADS is 1).  What is compared is measured in turns.  Times are of the clock
unless they are called processor time, so that a busy machine shows in them: the result file says its load.
"""
