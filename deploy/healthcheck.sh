#!/bin/sh
# healthcheck.sh [PORT]: exit code 0 when the service answers.
exec python3 -c "import sys, urllib.request as r; r.urlopen('http://127.0.0.1:%s/readyz' % sys.argv[1], timeout=3)" "${1:-8000}"
