{{/* The values that injection reads, with what is left empty filled in: the same answer for everyone who reads them. */}}
{{- define "control.injectorValues" -}}
{{- $global := deepCopy .Values.global -}}
{{- $_ := set $global "tag" (.Values.global.tag | default .Chart.AppVersion) -}}
{{- $_ := set $global "istioNamespace" (.Values.global.istioNamespace | default .Release.Namespace) -}}
{{- $cni := dict "enabled" (eq (include "control.cni" .) "true") "chained" .Values.istio_cni.chained "provider" .Values.istio_cni.provider -}}
{{- $values := dict "global" $global "revision" .Values.revision "istio_cni" $cni "pilot" (dict "cni" $cni) -}}
{{- $_ := set $values "sidecarInjectorWebhook" (omit .Values.sidecarInjectorWebhook "templates") -}}
{{- toPrettyJson $values -}}
{{- end -}}

{{/* What is injected, and into what. The templates `sidecar` and `gateway` are in mesh-control; here are the user's own. */}}
{{- define "control.injectorConfig" -}}
{{- $webhook := .Values.sidecarInjectorWebhook -}}
policy: {{ .Values.global.proxy.autoInject }}
defaultTemplates: {{ $webhook.defaultTemplates | default (list "sidecar") | toJson }}
alwaysInjectSelector: {{ $webhook.alwaysInjectSelector | toJson }}
neverInjectSelector: {{ $webhook.neverInjectSelector | toJson }}
injectedAnnotations: {{ $webhook.injectedAnnotations | toJson }}
{{- with $webhook.templates }}
templates:
  {{- toYaml . | nindent 2 }}
{{- else }}
templates: {}
{{- end }}
{{- end -}}

{{- define "control.injection" -}}
{{- if not .Values.global.omitSidecarInjectorConfigMap }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: istio-sidecar-injector{{ include "control.suffix" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "control.labels" . | nindent 4 }}
data:
  config: |-
    {{- include "control.injectorConfig" . | nindent 4 }}
  values: |-
    {{- include "control.injectorValues" . | nindent 4 }}
{{- end }}
{{- end -}}
