{{/* Everything of one gateway. */}}
{{- define "gateway.manifests" -}}
{{- range list "access" "service" "workload" "scaling" }}
{{ include (printf "gateway.%s" .) $ }}
{{- end }}
{{- end -}}
