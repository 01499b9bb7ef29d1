{{- define "control.serviceaccount" -}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "control.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
  {{- with .Values.pilot.serviceAccountAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
