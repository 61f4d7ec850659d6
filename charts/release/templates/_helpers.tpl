{{/* The SHA as text: a SHA of digits only reaches us as a number. */}}
{{- define "release.sha" -}}
{{- $sha := .Values.sha -}}
{{- if kindIs "float64" $sha -}}
{{- if or (gt $sha 1e15) (ne (floor $sha) $sha) -}}
{{- fail "sha: it was read as a number and its digits are lost; use --set-string sha=… or quote it" -}}
{{- end -}}
{{- printf "%.0f" $sha -}}
{{- else -}}
{{- toString $sha -}}
{{- end -}}
{{- end -}}

{{- define "release.labelText" -}}^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$ {{- end -}}

{{/* All that cannot go well, said before anything is made. */}}
{{- define "release.check" -}}
{{- $pattern := include "release.labelText" . | trim -}}
{{- if not .Values.app -}}
{{- fail "app is required: the name of the app at the edge, such as --set app=chat" -}}
{{- end -}}
{{- if not (regexMatch $pattern .Values.app) -}}
{{- fail (printf "app: %q cannot be a label: at most 63 letters, digits, '.', '_' or '-'" .Values.app) -}}
{{- end -}}
{{- if not .Values.edge.control -}}
{{- fail "edge.control is required: the URL of the edge's control API, such as --set edge.control=http://holdfast-control:5561" -}}
{{- end -}}
{{- if not (regexMatch "^https?://[^/?#@ ]+(/[^?# ]*)?$" .Values.edge.control) -}}
{{- fail (printf "edge.control: http://HOST:PORT is needed, not %q (a token belongs into edge.existingSecret)" .Values.edge.control) -}}
{{- end -}}
{{- if eq .Values.mode "release" -}}
{{- $sha := include "release.sha" . -}}
{{- if not $sha -}}
{{- fail "sha is required: the git SHA that is deployed, such as --set sha=$(git rev-parse --short HEAD)" -}}
{{- end -}}
{{- if not (regexMatch $pattern $sha) -}}
{{- fail (printf "sha: %q is no git SHA and no tag: 7 to 40 hex digits, or at most 63 letters, digits, '.', '_' or '-', a letter or digit first and last" $sha) -}}
{{- end -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is required: the backend's image, such as --set image.repository=registry.example/chat" -}}
{{- end -}}
{{- if and .Values.keda.enabled .Values.hpa.enabled -}}
{{- fail "keda.enabled and hpa.enabled: one of them only, they would undo each other's work" -}}
{{- end -}}
{{- if and .Values.keda.enabled (eq .Values.keda.trigger "prometheus") (not .Values.keda.prometheus.serverAddress) -}}
{{- fail "keda.prometheus.serverAddress is required for keda.trigger prometheus, such as http://prometheus:9090" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.from) -}}
{{- fail "networkPolicy.from is required when networkPolicy.enabled: without the edge's pods nobody reaches the backend" -}}
{{- end -}}
{{- if and (ne .Values.retire.how "now") (not .Values.retire.for) -}}
{{- fail (printf "retire.for is required for retire.how %s, such as 60s" .Values.retire.how) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "release.fullname" -}}
{{- if gt (len .Release.Name) 52 -}}
{{- fail (printf "the Helm release's name %q has more than 52 characters, and the hooks' names are made of it" .Release.Name) -}}
{{- end -}}
{{- /* A Service's name is a DNS label: no dots, and a letter first. */ -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the Helm release's name %q must begin with a letter and have no dots: it is the Service's name too" .Release.Name) -}}
{{- end -}}
{{- .Release.Name -}}
{{- end -}}

{{- define "release.selector" -}}
app.kubernetes.io/name: {{ .Values.app | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: {{ .Values.mode }}
{{- end -}}

{{- define "release.labels" -}}
{{ include "release.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
holdfast.dev/app: {{ .Values.app | quote }}
{{- if eq .Values.mode "release" }}
holdfast.dev/release: {{ include "release.sha" . | quote }}
{{- end }}
{{- end -}}

{{- define "release.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (include "release.sha" .) }}
{{- end -}}
{{- end -}}

{{- define "release.edgeImage" -}}
{{ .Values.edge.image.repository }}:{{ .Values.edge.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "release.url" -}}
http://{{ include "release.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.port }}{{ ternary "" .Values.path (eq .Values.path "/") }}
{{- end -}}

{{/* What is asked whether the backend is well: below the path that events go to, for the edge and for the probes. */}}
{{- define "release.healthPath" -}}
{{ trimSuffix "/" .Values.path }}{{ .Values.health.path }}
{{- end -}}

{{- define "release.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.runAsUser }}
runAsGroup: {{ .Values.runAsUser }}
fsGroup: {{ .Values.runAsUser }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "release.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.readOnlyRootFilesystem }}
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "release.edgeEnv" -}}
- name: HOLDFAST_CONTROL
  value: {{ .Values.edge.control | quote }}
# A NetworkPolicy lets a new pod through only when the network has heard of it.
- name: HOLDFAST_PATIENCE
  value: 30s
{{- if .Values.edge.existingSecret }}
- name: HOLDFAST_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.edge.existingSecret | quote }}
      key: {{ .Values.edge.secretKey | quote }}
{{- end }}
{{- end -}}

{{/* A hook's Job: (dict "root" . "name" … "on" … "seconds" … "retries" … "args" (list …)) */}}
{{- define "release.hook" -}}
{{- $root := .root -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "release.fullname" $root }}-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "release.labels" $root | replace "component: release" "component: hook" | nindent 4 }}
  annotations:
    helm.sh/hook: {{ .on }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: {{ .retries }}
  # One that failed stays for its log, but not for ever.
  ttlSecondsAfterFinished: 86400
  # Its own patience ends first; this is for a hook that hangs.
  activeDeadlineSeconds: {{ add .seconds 60 }}
  template:
    metadata:
      labels:
        {{- include "release.labels" $root | replace "component: release" "component: hook" | nindent 8 }}
        # The edge's NetworkPolicy lets these pods ask its control API.
        holdfast.dev/control: {{ $root.Values.edge.release | quote }}
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      # A Service called holdfast would bring variables such as HOLDFAST_PORT, which look like settings.
      enableServiceLinks: false
      securityContext:
        {{- include "release.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: holdfast
          image: {{ include "release.edgeImage" $root | quote }}
          imagePullPolicy: {{ $root.Values.edge.image.pullPolicy }}
          command: [python3, -c]
          args:
            {{- toYaml .args | nindent 12 }}
          env:
            {{- include "release.edgeEnv" $root | nindent 12 }}
          securityContext:
            {{- include "release.security" $root | nindent 12 }}
          resources:
            {{- toYaml $root.Values.hookResources | nindent 12 }}
{{- end -}}
