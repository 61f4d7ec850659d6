{{- define "edge.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "edge.selector" -}}
app.kubernetes.io/name: holdfast-edge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "edge.labels" -}}
{{ include "edge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "edge.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "edge.secret" -}}
{{- .Values.secrets.existingSecret | default (printf "%s-secrets" (include "edge.name" .)) -}}
{{- end -}}

{{/* Seconds that a drain can take: what edge/model/drain.py plans, rounded up. */}}
{{- define "edge.drainSeconds" -}}
{{- $longest := 5.0 -}}
{{- range .Values.routes -}}
{{- $timeouts := .timeouts | default dict -}}
{{- $window := 30.0 -}}
{{- if hasKey $timeouts "retry_window_s" }}{{ $window = float64 $timeouts.retry_window_s }}{{ end -}}
{{- $longest = maxf $window $longest -}}
{{- end -}}
{{- $finish := minf $longest 30.0 -}}
{{- $delay := 3.0 -}}
{{- if hasKey .Values.edge "drain_delay_s" }}{{ $delay = float64 .Values.edge.drain_delay_s }}{{ end -}}
{{- $window := 10.0 -}}
{{- if hasKey .Values.edge "drain_window_s" }}{{ $window = float64 .Values.edge.drain_window_s }}{{ end -}}
{{- ceil (addf $delay $window $finish) -}}
{{- end -}}

{{- define "edge.grace" -}}
{{- $needed := add (include "edge.drainSeconds" . | float64 | int) .Values.preStopSeconds 5 -}}
{{- $asked := int .Values.terminationGracePeriodSeconds -}}
{{- if and $asked (lt $asked (int $needed)) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but going down politely can take %d s: preStopSeconds %d, drain_delay_s %v, drain_window_s %v, up to 30 s for answers under way, and 5 s of reserve. Raise it, or set it to 0 to have it computed." $asked (int $needed) (int .Values.preStopSeconds) .Values.edge.drain_delay_s .Values.edge.drain_window_s) -}}
{{- end -}}
{{- $asked | default $needed -}}
{{- end -}}

{{- define "edge.redisUrl" -}}
{{- if .Values.redis.enabled -}}
redis://{{ include "edge.name" . }}-redis:6379/0
{{- else -}}
{{- .Values.redis.url -}}
{{- end -}}
{{- end -}}

{{/* TCP ports that the values name: of routes' backends and releases, Redis, XMPP servers, and the release webhook. */}}
{{- define "edge.ports" -}}
{{- $urls := list (.Values.edge.release_webhook | default "") -}}
{{- range .Values.routes -}}
{{- $urls = concat $urls (list (.backend | default "")) (.release_urls | default list) -}}
{{- range .targets }}{{ $urls = append $urls (.url | default "") }}{{ end -}}
{{- end -}}
{{- range $url := $urls -}}
{{- $scheme := regexFind "^https?" $url -}}
{{- $port := regexFind ":[0-9]+$" (regexReplaceAll "^https?://([^/?#]*).*$" $url "${1}") | trimPrefix ":" -}}
{{- if $scheme }}{{ $port | default (ternary "443" "80" (eq $scheme "https")) }} {{ end -}}
{{- end -}}
{{- if not .Values.redis.enabled -}}
{{- range regexFindAll ":[0-9]+" .Values.redis.url -1 }}{{ trimPrefix ":" . }} {{ end -}}
{{- print "6379 " -}}
{{- if or (not .Values.redis.url) (contains "sentinel" .Values.redis.url) }}{{ print "26379 " }}{{ end -}}
{{- end -}}
{{- range .Values.xmpp -}}
{{- $usual := ternary "5347" "5222 5223" (hasKey . "component_secret") -}}
{{- if .port }}{{ int .port }} {{ else }}{{ $usual }} {{ end -}}
{{- end -}}
{{- end -}}

{{/* Secrets in the ConfigMap could be read by whoever may read ConfigMaps. Takes the key's name and its value. */}}
{{- define "edge.hidden" -}}
{{- $name := index . 0 -}}
{{- range $secret := index . 1 -}}
{{- if and $secret (not (regexMatch "^(env:|file:|-----BEGIN PUBLIC KEY)" $secret)) -}}
{{- fail (printf "%s has a secret in it, which would stand in a ConfigMap: write env:NAME, and give the Secret a key NAME." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What cannot work together is refused before anything is rendered. */}}
{{- define "edge.check" -}}
{{- if and .Values.secrets.existingSecret .Values.secrets.values -}}
{{- fail "secrets.existingSecret and secrets.values exclude each other: the chart makes a Secret only when there is none." -}}
{{- end -}}
{{- if not (or .Values.secrets.existingSecret (hasKey .Values.secrets.values "HOLDFAST_TOKEN")) -}}
{{- fail "the control port needs a token: name a Secret with the key HOLDFAST_TOKEN in secrets.existingSecret, or set secrets.values.HOLDFAST_TOKEN for a trial." -}}
{{- end -}}
{{- if and .Values.redis.enabled .Values.redis.url -}}
{{- fail "redis.enabled and redis.url exclude each other: use the Redis you have, or the small one of this chart." -}}
{{- end -}}
{{- if not (or .Values.redis.enabled .Values.redis.url .Values.secrets.existingSecret (hasKey .Values.secrets.values "HOLDFAST_REDIS")) -}}
{{- fail "no Redis: set redis.url, or redis.enabled=true for a trial, or HOLDFAST_REDIS in the Secret." -}}
{{- end -}}
{{- if regexMatch "^[a-z+]+://[^/]*@" .Values.redis.url -}}
{{- fail "redis.url has a user name or a password in it, which would stand in a ConfigMap: leave it empty and put the whole URL into the Secret as HOLDFAST_REDIS." -}}
{{- end -}}
{{- if not .Values.routes -}}
{{- fail "routes is empty: the edge needs at least one route, with a backend." -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling and keda exclude each other: two of them would fight over the number of replicas." -}}
{{- end -}}
{{- if and .Values.keda.enabled (not .Values.keda.prometheus) -}}
{{- fail "keda.enabled needs keda.prometheus, the URL of a Prometheus that scrapes the edge." -}}
{{- end -}}
{{- range $name := list "autoscaling" "keda" -}}
{{- $scale := index $.Values $name -}}
{{- if and $scale.enabled (gt (int $scale.minReplicas) (int $scale.maxReplicas)) -}}
{{- fail (printf "%s.minReplicas %d is more than %s.maxReplicas %d." $name (int $scale.minReplicas) $name (int $scale.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.hosts." -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.enabled needs gateway.parentRefs: the Gateway that the route belongs to." -}}
{{- end -}}
{{- range .Values.routes }}{{ include "edge.hidden" (list "routes[].secrets" (.secrets | default list)) }}{{ end -}}
{{- range .Values.xmpp }}{{ include "edge.hidden" (list "xmpp[].component_secret" (list .component_secret)) }}{{ end -}}
{{- range .Values.publishers }}{{ include "edge.hidden" (list "publishers[].key" (list .key)) }}{{ end -}}
{{- include "edge.hidden" (list "grip.sig_key" (list .Values.grip.sig_key)) -}}
{{- include "edge.hidden" (list "edge.link_keys" (.Values.edge.link_keys | default list)) -}}
{{- include "edge.hidden" (list "edge.release_webhook_secret" (list .Values.edge.release_webhook_secret)) -}}
{{- if and .Values.xmpp (not .Values.edge.link_keys) -}}
{{- fail "xmpp needs edge.link_keys, such as [\"env:HOLDFAST_LINK_KEY\"], with that key in the Secret: credentials of links are sealed with it." -}}
{{- end -}}
{{- range $key := list "listen" "control" "redis" "data_dir" "control_tokens" -}}
{{- if hasKey $.Values.edge $key -}}
{{- fail (printf "edge.%s is the chart's to set; see service, control, redis and secrets." $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Helm reads every number as a float; whole ones become integers again, in place: TOML tells them apart. */}}
{{- define "edge.whole" -}}
{{- $map := . -}}
{{- range $key, $value := $map -}}
{{- if kindIs "float64" $value -}}
{{- if eq (floor $value) $value }}{{ $_ := set $map $key (int64 $value) }}{{ end -}}
{{- else if kindIs "map" $value -}}
{{- include "edge.whole" $value -}}
{{- else if kindIs "slice" $value -}}
{{- range $value -}}{{- if kindIs "map" . }}{{ include "edge.whole" . }}{{ end -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* holdfast.toml: the values as TOML, with what the chart decides. */}}
{{- define "edge.toml" -}}
{{- $edge := merge (dict "listen" (list "0.0.0.0:7999") "control" "0.0.0.0:5561" "data_dir" "/var/lib/holdfast" "control_tokens" (list "env:HOLDFAST_TOKEN") "log_format" "json") (deepCopy .Values.edge) -}}
{{- with include "edge.redisUrl" . -}}
{{- $_ := set $edge "redis" . -}}
{{- else -}}
{{- $_ := set $edge "redis" "env:HOLDFAST_REDIS" -}}
{{- end -}}
{{- $all := dict "edge" $edge "route" .Values.routes -}}
{{- with .Values.channels }}{{ $_ := set $all "channel" . }}{{ end -}}
{{- with .Values.xmpp }}{{ $_ := set $all "xmpp" . }}{{ end -}}
{{- with .Values.grip }}{{ $_ := set $all "grip" . }}{{ end -}}
{{- with .Values.publishers }}{{ $_ := set $all "publisher" . }}{{ end -}}
{{- $all = deepCopy $all -}}
{{- include "edge.whole" $all -}}
{{ toToml $all }}
{{- end -}}

{{- define "edge.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "edge.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end -}}
