{{/* Everything that this chart installs. */}}
{{- define "control.manifests" -}}
{{- if eq .Values.revision "default" }}
{{- fail "revision: `default` is the name of the control plane without a revision; leave the value empty" }}
{{- end }}
{{- range list "serviceaccount" "rbac" "configmap" "injection" "service" "deployment" "scaling" "mutating" "validating" }}
{{ include (printf "control.%s" .) $ }}
{{- end }}
{{- end -}}
