{{- /* A CronJob. Takes the context, its name, its values, the role's Secret, and the command's words. */ -}}
{{- define "retention.nightly" -}}
{{- $name := index . 1 -}}
{{- $values := index . 2 -}}
{{- $secret := index . 3 -}}
{{- $words := index . 4 -}}
{{- with index . 0 -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{ include "retention.name" . }}-{{ $name }}
  labels:
    {{- include "retention.labels" (list . $name) | nindent 4 }}
spec:
  schedule: {{ $values.schedule | quote }}
  timeZone: {{ $values.timeZone }}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 7
  jobTemplate:
    spec:
      backoffLimit: 0
      activeDeadlineSeconds: {{ int64 $values.activeDeadlineSeconds }}
      template:
        metadata:
          {{- with .Values.podAnnotations }}
          annotations:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          labels:
            {{- include "retention.podLabels" (list . $name) | nindent 12 }}
        spec:
          restartPolicy: Never
          {{- include "retention.pod" (list . (include "retention.serviceAccount" .)) | nindent 10 }}
          terminationGracePeriodSeconds: {{ include "retention.grace" . }}
          containers:
            - name: {{ $name }}
              args: {{ toJson $words }}
              envFrom:
                {{- include "retention.envFrom" (list . $secret) | nindent 16 }}
              {{- with .Values.extraEnv }}
              env:
                {{- toYaml . | nindent 16 }}
              {{- end }}
              {{- include "retention.container" (list . $values.resources) | nindent 14 }}
{{- end -}}
{{- end -}}
