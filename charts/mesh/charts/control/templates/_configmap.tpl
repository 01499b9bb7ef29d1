{{/* Settings of the mesh: what follows from the installation, and over it the user's meshConfig. */}}
{{- define "control.mesh" -}}
{{- $proxy := dict "discoveryAddress" (printf "%s.%s.svc:15012" (include "control.name" .) .Release.Namespace) -}}
{{- with .Values.global.meshID }}{{ $_ := set $proxy "meshId" . }}{{ end -}}
{{- $mesh := dict "rootNamespace" .Release.Namespace "trustDomain" "cluster.local" "enablePrometheusMerge" true "defaultConfig" $proxy -}}
{{- toYaml (mergeOverwrite $mesh (deepCopy .Values.meshConfig)) -}}
{{- end -}}

{{- define "control.configmap" -}}
{{- if .Values.pilot.configMap }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: istio{{ include "control.suffix" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
data:
  mesh: |-
    {{- include "control.mesh" . | nindent 4 }}
  meshNetworks: |-
    {{- dict "networks" .Values.global.meshNetworks | toYaml | nindent 4 }}
{{- end }}
{{- end -}}
