{{/* Everything that this chart installs. */}}
{{- define "control.manifests" -}}
{{- range list "serviceaccount" "rbac" "configmap" "injection" "service" "deployment" "scaling" "mutating" "validating" }}
{{ include (printf "control.%s" .) $ }}
{{- end }}
{{- end -}}
