#!/bin/sh
# curl for the few things asked of it in a test guest, on top of busybox wget (no TLS check, no 404 body).
output=- seconds='' url=''
set -f
headers='' post='' method=''
while [ $# -gt 0 ]; do
    case $1 in
    --silent | --show-error | --fail | --location | --insecure) ;;
    --max-time | --connect-timeout) seconds=$2; shift ;;
    --retry | --retry-delay) shift ;;
    --output) output=$2; shift ;;
    -o) output=$2; shift ;;
    -O | --remote-name) output='' ;;
    -m) seconds=$2; shift ;;
    -H | --header) headers=$2; shift ;;
    -d | --data) post=$2; shift ;;
    -X | --request) method=$2; shift ;;
    -[sSfLk]) ;;
    -[sSfLk]?*)
        flags=${1#-?}
        shift
        set -- "-$flags" "$@"
        continue
        ;;
    -*) echo "curl: option $1 is not known to this guest's curl (a wrapper of busybox wget)" >&2; exit 2 ;;
    *) url=$1 ;;
    esac
    shift
done
case $method/$post in
/* | GET/ | POST/?*) ;;
*) echo "curl: $method with ${post:-no data} is not known to this guest's curl (a wrapper of busybox wget)" >&2; exit 2 ;;
esac
[ -n "$url" ] || { echo "curl: no URL specified" >&2; exit 2; }
case $url in
*://*) ;;
*) url=http://$url ;;
esac
[ -n "$output" ] || output=${url##*/}
exec ${seconds:+timeout "$seconds"} wget -q -O "$output" ${headers:+--header "$headers"} ${post:+--post-data "$post"} "$url"
