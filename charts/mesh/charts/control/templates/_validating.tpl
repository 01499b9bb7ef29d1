{{/*
What happens to objects while nobody answers: they are taken. Where somebody has set `Fail` since, an upgrade leaves it (Helm
4 would else fight over the field with whoever set it).
*/}}
{{- define "control.failurePolicy" -}}
{{- $found := lookup "admissionregistration.k8s.io/v1" "ValidatingWebhookConfiguration" "" .name -}}
{{- $policy := "Ignore" -}}
{{- with $found }}{{ range .webhooks }}{{ $policy = .failurePolicy | default $policy }}{{ end }}{{ end -}}
{{ $policy }}
{{- end -}}

{{/* Arguments: root, name, prefix, and the match of the label istio.io/rev. */}}
{{- define "control.validation" -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {{ .name }}
  labels:
    {{- include "control.labels" .root | nindent 4 }}
    istio: istiod
webhooks:
  - name: {{ .webhook }}
    clientConfig:
      service:
        name: {{ include "control.name" .root }}
        namespace: {{ .root.Release.Namespace }}
        path: /validate
        port: 443
    rules:
      - operations: [CREATE, UPDATE]
        apiGroups: [security.istio.io, networking.istio.io, telemetry.istio.io, extensions.istio.io]
        apiVersions: ["*"]
        resources: ["*"]
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: {{ include "control.failurePolicy" . }}
    objectSelector:
      matchExpressions:
        - {{ .match }}
{{- end -}}

{{- define "control.validating" -}}
{{- if .Values.global.configValidation }}
{{- $match := printf "{key: istio.io/rev, operator: In, values: [%q]}" (include "control.rev" .) }}
{{ include "control.validation" (dict "root" . "name" (include "control.validator" .) "webhook" "rev.validation.istio.io" "match" $match) }}
{{- /* Objects without the label are checked by one control plane only: that without a revision, or with the tag `default`. */}}
{{- if or (not .Values.revision) (has "default" .Values.revisionTags) }}
{{ include "control.validation" (dict "root" . "name" "istiod-default-validator" "webhook" "validation.istio.io" "match" "{key: istio.io/rev, operator: DoesNotExist}") }}
{{- end }}
{{- end }}
{{- end -}}
