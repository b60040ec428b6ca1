#!/bin/sh
# Puts files on the claim `data` of the current namespace:
#
#     python manifests/samples/data/flights.py flights.parquet
#     manifests/samples/data/load.sh flights.parquet
#
# Needs kubectl and nothing in the image but sh: the bytes go through `kubectl exec`, not `kubectl cp`, which needs tar.
set -eu
[ $# -gt 0 ] || { echo "usage: load.sh FILE..." >&2; exit 2; }
for file; do
    [ -f "$file" ] || { echo "load.sh: $file: no such file" >&2; exit 2; }
done

here=$(dirname "$0")
trap 'kubectl delete --ignore-not-found --now pod/data-loader >/dev/null' EXIT
kubectl apply -f "$here/loader.yaml"
kubectl wait --for=condition=Ready --timeout=180s pod/data-loader

for file; do
    name=$(basename "$file")
    # Under another name first: a job never sees half a file.
    kubectl exec -i data-loader -- sh -c 'cat > "/data/.$1.part" && mv "/data/.$1.part" "/data/$1" && wc -c "/data/$1"' sh "$name" <"$file"
done
