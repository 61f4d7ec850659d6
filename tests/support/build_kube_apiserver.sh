#!/usr/bin/env bash
# Build kube-apiserver, for tests of the charts against a real Kubernetes API: build_kube_apiserver.sh GO VERSION TARGET
# Kubernetes' own go.mod replaces its staging modules by folders that the published module does not have; here they are
# replaced by what was published of them. Takes ten minutes and 2 GB, once.
set -euo pipefail
go=$1 version=$2 target=$(realpath -m "$3")
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
cat >tools.go <<'GO'
//go:build tools

package build

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
GO
"$go" mod tidy
mkdir -p "$(dirname "$target")"
v=k8s.io/component-base/version
IFS=. read -r major minor _ <<<"$version"
"$go" build -ldflags "-s -w -X $v.gitVersion=v$version -X $v.gitMajor=$major -X $v.gitMinor=$minor" -o "$target" k8s.io/kubernetes/cmd/kube-apiserver
