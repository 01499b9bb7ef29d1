{{/*
Every manifest of this chart is a named template, since the umbrella chart `mesh` renders them with its own values: there
the names are Istio's (`pilot`, `meshConfig`, …) at the top, where Helm would hide them from a sub-chart.
*/}}

{{/* Suffix of names: "-REVISION", or nothing. */}}
{{- define "control.suffix" -}}
{{- with .Values.revision }}-{{ . }}{{ end -}}
{{- end -}}

{{/* Name of the Deployment, its Service and its ServiceAccount. */}}
{{- define "control.name" -}}
istiod{{ include "control.suffix" . }}
{{- end -}}

{{/* Name of cluster-wide roles, apart for each revision and namespace. */}}
{{- define "control.clusterRole" -}}
istiod-clusterrole{{ include "control.suffix" . }}-{{ .Release.Namespace }}
{{- end -}}

{{/* Label istio.io/rev. */}}
{{- define "control.rev" -}}
{{ .Values.revision | default "default" }}
{{- end -}}

{{/* Name of the webhook configuration for injection. */}}
{{- define "control.injector" -}}
istio-sidecar-injector{{ include "control.suffix" . }}{{ if ne .Release.Namespace "istio-system" }}-{{ .Release.Namespace }}{{ end }}
{{- end -}}

{{/* Name of the webhook configuration for validation. */}}
{{- define "control.validator" -}}
istio-validator{{ include "control.suffix" . }}-{{ .Release.Namespace }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "control.labels" -}}
app: istiod
istio.io/rev: {{ include "control.rev" . | quote }}
release: {{ .Release.Name }}
operator.istio.io/component: Pilot
app.kubernetes.io/name: istiod
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: istio
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What the Deployment and the Service select: by revision, so that a canary's pods are nobody else's. */}}
{{- define "control.selector" -}}
app: istiod
{{ if .Values.revision -}}
istio.io/rev: {{ .Values.revision | quote }}
{{- else -}}
istio: pilot
{{- end }}
{{- end -}}

{{/* The image: pilot.image alone where it has a slash, else hub/image:tag. */}}
{{- define "control.image" -}}
{{- $pilot := .Values.pilot -}}
{{- if contains "/" $pilot.image -}}
{{ $pilot.image }}
{{- else -}}
{{ $pilot.hub | default .Values.global.hub }}/{{ $pilot.image }}:{{ $pilot.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Istio's log levels (scope:level,…) as the filter of mesh-control; `default` is everything without a scope of its own. */}}
{{- define "control.log" -}}
{{- $words := dict "warning" "warn" "fatal" "error" "critical" "error" "none" "off" -}}
{{- $out := list -}}
{{- range splitList "," .Values.global.logging.level -}}
  {{- $pair := splitList ":" (trim .) -}}
  {{- $level := last $pair -}}
  {{- $level = get $words $level | default $level -}}
  {{- $scope := join ":" (initial $pair) -}}
  {{- if or (eq $scope "") (eq $scope "default") (eq $scope "all") -}}
    {{- $out = append $out $level -}}
  {{- else -}}
    {{- $out = append $out (printf "%s=%s" $scope $level) -}}
  {{- end -}}
{{- end -}}
{{ join "," (compact $out) | default "info" }}
{{- end -}}

{{/* Pods are captured by the node agent, not by an init container. */}}
{{- define "control.cni" -}}
{{- if or .Values.istio_cni.enabled .Values.pilot.cni.enabled }}true{{ end -}}
{{- end -}}
