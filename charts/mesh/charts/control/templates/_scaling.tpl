{{- define "control.scaling" -}}
{{- $pilot := .Values.pilot -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- if .Values.global.defaultPodDisruptionBudget.enabled }}
---
apiVersion: {{ semverCompare ">=1.21-0" $version | ternary "policy/v1" "policy/v1beta1" }}
kind: PodDisruptionBudget
metadata:
  name: {{ include "control.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
    istio: pilot
spec:
  # One at a time. With a single replica `minAvailable: 1` would keep its node from ever being drained.
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "control.selector" . | nindent 6 }}
{{- end }}
{{- if $pilot.autoscaleEnabled }}
---
apiVersion: {{ semverCompare ">=1.23-0" $version | ternary "autoscaling/v2" "autoscaling/v2beta2" }}
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "control.name" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
spec:
  minReplicas: {{ $pilot.autoscaleMin }}
  maxReplicas: {{ $pilot.autoscaleMax }}
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "control.name" . }}
  metrics:
    {{- range $resource := list "cpu" "memory" }}
    {{- with (index $pilot $resource).targetAverageUtilization }}
    - type: Resource
      resource:
        name: {{ $resource }}
        target:
          type: Utilization
          averageUtilization: {{ . }}
    {{- end }}
    {{- end }}
  {{- with $pilot.autoscaleBehavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
