#!/usr/bin/env bash
# Build a Kubernetes of one node, for tests of the charts: build_kubernetes.sh GO VERSION COREDNS ROUTER FOLDER
# COREDNS, ROUTER: versions of CoreDNS and of kube-router, which enforces NetworkPolicies.
# Kubernetes' own go.mod replaces its staging modules by folders that the published module does not have; here they are
# replaced by what was published of them. Takes ten minutes and 3 GB, once.
set -euo pipefail
go=$1 version=$2 coredns=$3 router=$4 target=$(realpath -m "$5")
programs=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$go" mod download "k8s.io/kubernetes@v$version"
theirs=$("$go" env GOMODCACHE)/cache/download/k8s.io/kubernetes/@v/v$version.mod
{
    echo "module build"
    grep '^go ' "$theirs"
    echo "require k8s.io/kubernetes v$version"
    awk -v staging="v0.${version#1.}" '$1 ~ /^k8s.io\// && $2 == "v0.0.0" { print "replace " $1 " => " $1 " " staging }' "$theirs"
} >go.mod
{
    printf '//go:build tools\n\npackage build\n\n'
    printf 'import _ "k8s.io/kubernetes/cmd/%s"\n' "${programs[@]}"
} >tools.go
"$go" mod tidy
v=k8s.io/component-base/version
IFS=. read -r major minor _ <<<"$version"
mkdir "$folder/built"
for program in "${programs[@]}"; do
    "$go" build -ldflags "-s -w -X $v.gitVersion=v$version -X $v.gitMajor=$major -X $v.gitMinor=$minor" \
        -o "$folder/built/$program" "k8s.io/kubernetes/cmd/$program"
done
for program in "github.com/coredns/coredns@v$coredns" "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v$router"; do
    GOBIN=$folder/built GOFLAGS=-mod=mod "$go" install -ldflags "-s -w" "$program"
done
mkdir -p "$target"
mv "$folder"/built/* "$target"
