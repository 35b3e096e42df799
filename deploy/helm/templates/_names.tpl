{{- define "retention.name" -}}
{{- /* 63 characters are allowed, 52 for a CronJob; the longest ending is "-reconcile". */ -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 42 | trimSuffix "-" -}}
{{- end -}}

{{- define "retention.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "retention.name" .) -}}
{{- else -}}
{{- required "serviceAccount.name is empty: name the ServiceAccount that exists, or set serviceAccount.create" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Labels of every object. Takes the context, and the part's name. */ -}}
{{- define "retention.labels" -}}
{{- $part := index . 1 -}}
{{- with index . 0 -}}
app.kubernetes.io/name: {{ include "retention.name" . }}{{ with $part }}-{{ . }}{{ end }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: retention-reactor
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}
{{- end -}}

{{- /* Labels of pods: those that do not change with the version. */ -}}
{{- define "retention.podLabels" -}}
{{- $part := index . 1 -}}
{{- with index . 0 -}}
app.kubernetes.io/name: {{ include "retention.name" . }}-{{ $part }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: retention-reactor
{{- with .Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "retention.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* A setting as text. Helm reads every number as a float, which a large one would show. */ -}}
{{- define "retention.text" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}
