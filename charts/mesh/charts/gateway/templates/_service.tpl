{{- define "gateway.service" -}}
{{- $service := .Values.service -}}
{{- if ne $service.type "None" }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "gateway.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "gateway.labels" . | nindent 4 }}
  {{- with merge (deepCopy ($service.annotations | default dict)) (.Values.annotations | default dict) }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type }}
  {{- range $field := list "clusterIP" "loadBalancerIP" "loadBalancerClass" "externalTrafficPolicy" "internalTrafficPolicy" "ipFamilyPolicy" }}
  {{- with index $service $field }}
  {{ $field }}: {{ . }}
  {{- end }}
  {{- end }}
  {{- range $field := list "loadBalancerSourceRanges" "externalIPs" "ipFamilies" }}
  {{- with index $service $field }}
  {{ $field }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  ports:
    {{- toYaml $service.ports | nindent 4 }}
  selector:
    {{- include "gateway.selector" . | nindent 4 }}
{{- end }}
{{- end -}}
