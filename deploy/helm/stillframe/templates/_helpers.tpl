{{- /* Labels by which a component's pods are selected; they never change. Takes (list $ "component"). */ -}}
{{- define "stillframe.selector" -}}
app.kubernetes.io/name: stillframe
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- /* Labels of an object. Takes (list $ "component"). */ -}}
{{- define "stillframe.labels" -}}
{{ include "stillframe.selector" . }}
{{- with index . 0 }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- end }}

{{- /* One of our images. Takes (list $ "name"). */ -}}
{{- define "stillframe.image" -}}
{{- with index . 0 -}}
{{ .Values.image.registry }}/{{ index $ 1 }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* What every container of ours drops; it satisfies Pod Security "restricted" but for the agent's uid and two capabilities. */ -}}
{{- define "stillframe.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Settings as environment variables. Takes (list $settings "PREFIX_"); int64 keeps 2147483648 from becoming 2.147483648e+09. */ -}}
{{- define "stillframe.env" -}}
{{- $prefix := index . 1 -}}
{{- range $name, $value := index . 0 }}
- name: {{ $prefix }}{{ $name }}
  value: {{ if kindIs "float64" $value }}{{ $value | int64 | quote }}{{ else }}{{ $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{- /* Liveness and readiness on the container's port "health". */ -}}
{{- define "stillframe.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end }}
