{{- /* What every pod has. Takes the context, and the service account's name. */ -}}
{{- define "retention.pod" -}}
{{- $account := index . 1 -}}
{{- with index . 0 -}}
{{- if $account -}}
serviceAccountName: {{ $account }}
{{ end -}}
automountServiceAccountToken: false
# Kubernetes would write variables for every Service of the namespace into the pod.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraVolumes }}
volumes:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  seccompProfile:
    type: RuntimeDefault
{{- end -}}
{{- end -}}

{{- /* What every container has beside its variables. Takes the context, and the part's resources. */ -}}
{{- define "retention.container" -}}
{{- $resources := index . 1 -}}
{{- with index . 0 -}}
image: {{ include "retention.image" . | quote }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}
{{- end -}}

{{- /* Where variables come from. Takes the context, and the Secret of the role that works. */ -}}
{{- define "retention.envFrom" -}}
{{- $secret := index . 1 -}}
{{- with index . 0 -}}
- configMapRef:
    name: {{ include "retention.name" . }}-config
- secretRef:
    name: {{ $secret }}
{{- with .Values.secrets.aws }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{- /* A listener gives back what it holds before it is killed. */ -}}
{{- define "retention.grace" -}}
{{- $seconds := .Values.config.RETENTION_SHUTDOWN_GRACE_SECONDS -}}
{{- if kindIs "invalid" $seconds }}{{ $seconds = 25 }}{{ end -}}
{{- add 15 (int $seconds) -}}
{{- end -}}
