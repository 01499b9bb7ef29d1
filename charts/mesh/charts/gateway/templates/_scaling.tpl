{{- define "gateway.scaling" -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- $deployment := eq .Values.kind "Deployment" -}}
{{- if and $deployment .Values.podDisruptionBudget }}
---
apiVersion: {{ semverCompare ">=1.21-0" $version | ternary "policy/v1" "policy/v1beta1" }}
kind: PodDisruptionBudget
metadata:
  name: {{ include "gateway.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "gateway.labels" . | nindent 4 }}
spec:
  {{- toYaml .Values.podDisruptionBudget | nindent 2 }}
  selector:
    matchLabels:
      {{- include "gateway.selector" . | nindent 6 }}
{{- end }}
{{- if and $deployment .Values.autoscaling.enabled }}
---
apiVersion: {{ semverCompare ">=1.23-0" $version | ternary "autoscaling/v2" "autoscaling/v2beta2" }}
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "gateway.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "gateway.labels" . | nindent 4 }}
spec:
  minReplicas: {{ .Values.autoscaling.minReplicas }}
  maxReplicas: {{ .Values.autoscaling.maxReplicas }}
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "gateway.name" . }}
  metrics:
    {{- range $resource, $share := dict "cpu" .Values.autoscaling.targetCPUUtilizationPercentage "memory" .Values.autoscaling.targetMemoryUtilizationPercentage }}
    {{- if $share }}
    - type: Resource
      resource:
        name: {{ $resource }}
        target:
          type: Utilization
          averageUtilization: {{ $share }}
    {{- end }}
    {{- end }}
  {{- with .Values.autoscaling.autoscaleBehavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
