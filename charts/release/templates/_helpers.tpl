{{- define "release.labels" -}}
{{ include "release.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
holdfast.dev/app: {{ .Values.app | quote }}
{{- if .Values.sha }}
holdfast.dev/release: {{ .Values.sha | quote }}
{{- end }}
{{- end -}}

{{- define "release.selector" -}}
app.kubernetes.io/name: holdfast-release
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "release.url" -}}
http://{{ .Release.Name }}.{{ .Release.Namespace }}:{{ .Values.port }}{{ .Values.path }}
{{- end -}}

{{- define "release.check" -}}
{{- if not .Values.app -}}{{- fail "app is missing: the edge's app that this is for, as its routes name it." -}}{{- end -}}
{{- if not .Values.edge.control -}}{{- fail "edge.control is missing: the URL of the edge's control Service, such as http://edge-control:5561." -}}{{- end -}}
{{- if not .Values.edge.existingSecret -}}{{- fail "edge.existingSecret is missing: a Secret with the edge's token under HOLDFAST_TOKEN." -}}{{- end -}}
{{- if eq .Values.mode "release" -}}
{{- if not .Values.sha -}}{{- fail "sha is missing: the git SHA that this Helm release is of (--set-string sha=…)." -}}{{- end -}}
{{- if not .Values.image.repository -}}{{- fail "image.repository is missing: the backend's image." -}}{{- end -}}
{{- if and .Values.keda.enabled .Values.hpa.enabled -}}{{- fail "keda and hpa exclude each other: two of them would fight over the number of replicas." -}}{{- end -}}
{{- if and .Values.keda.enabled (not .Values.keda.prometheus) -}}{{- fail "keda.enabled needs keda.prometheus, the URL of a Prometheus that scrapes the edge." -}}{{- end -}}
{{- if and (ne .Values.hooks.retire.how "now") (not .Values.hooks.retire.time) -}}{{- fail (printf "hooks.retire.time is missing: how long, for the way %s." .Values.hooks.retire.how) -}}{{- end -}}
{{- if and (eq .Values.hooks.retire.how "now") .Values.hooks.retire.time -}}{{- fail "hooks.retire.time is not for the way now; over, when-idle and at-most have it." -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "release.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.user }}
runAsGroup: {{ .Values.user }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "release.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: ["ALL"]}
{{- end -}}

{{/* The pod of a hook or of the reaper: `args` for the holdfast command. */}}
{{- define "release.commandPod" -}}
metadata:
  labels:
    app.kubernetes.io/name: holdfast-command
    app.kubernetes.io/instance: {{ .root.Release.Name }}
    holdfast.dev/control: {{ .root.Values.edge.release | quote }}
spec:
  restartPolicy: Never
  {{- if .account }}
  serviceAccountName: {{ .account }}
  {{- else }}
  automountServiceAccountToken: false
  {{- end }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: holdfast
      image: {{ .root.Values.edge.image }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{- toJson .args | nindent 8 }}
      env:
        - {name: HOLDFAST_CONTROL, value: {{ .root.Values.edge.control | quote }}}
        - name: HOLDFAST_TOKEN
          valueFrom:
            secretKeyRef: {name: {{ .root.Values.edge.existingSecret }}, key: HOLDFAST_TOKEN}
      resources:
        requests: {cpu: 20m, memory: 48Mi}
        limits: {memory: 128Mi}
      securityContext: {{- include "release.containerSecurity" .root | nindent 8 }}
{{- end -}}
