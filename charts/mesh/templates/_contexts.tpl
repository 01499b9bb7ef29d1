{{/*
Values for the charts `control` and `gateway`: their own, and over them the values of this chart, which have Istio's names.
Helm hands a sub-chart only what stands under its name, so their manifests are rendered from here.
*/}}

{{/* Puts the context of the control plane into `out.control`. Arguments: root, out. */}}
{{- define "mesh.control" -}}
{{- $chart := .root.Subcharts.control -}}
{{- $own := pick .root.Values "revision" "revisionTags" "meshConfig" "pilot" "sidecarInjectorWebhook" "istio_cni" -}}
{{- $values := mergeOverwrite (deepCopy $chart.Values) (deepCopy $own) -}}
{{- if .root.Values.cni.enabled }}{{ $_ := set $values.istio_cni "enabled" true }}{{ end -}}
{{- $_ := set .out "control" (dict "Values" $values "Chart" $chart.Chart "Files" $chart.Files "Release" .root.Release "Capabilities" .root.Capabilities "Template" .root.Template) -}}
{{- end -}}

{{/*
Puts a context for each gateway that is on into the list `out.gateways`. Their values have the names of chart `gateway`; those of
Istio's older charts (type, ports, autoscaleEnabled …) are put in their places. Arguments: root, out.
*/}}
{{- define "mesh.gateways" -}}
{{- $root := .root -}}
{{- $chart := $root.Subcharts.gateway -}}
{{- $contexts := list -}}
{{- range $name, $given := $root.Values.gateways -}}
{{- if and $given $given.enabled -}}
  {{- $older := dict
    "type" (list "service" "type")
    "ports" (list "service" "ports")
    "serviceAnnotations" (list "service" "annotations")
    "loadBalancerIP" (list "service" "loadBalancerIP")
    "loadBalancerSourceRanges" (list "service" "loadBalancerSourceRanges")
    "externalTrafficPolicy" (list "service" "externalTrafficPolicy")
    "autoscaleEnabled" (list "autoscaling" "enabled")
    "autoscaleMin" (list "autoscaling" "minReplicas")
    "autoscaleMax" (list "autoscaling" "maxReplicas")
  -}}
  {{- $values := mergeOverwrite (deepCopy $chart.Values) (dict "name" $name "revision" $root.Values.revision) -}}
  {{- $values = mergeOverwrite $values (deepCopy (omit $given "enabled")) -}}
  {{- range $from, $to := $older -}}
    {{- if hasKey $given $from -}}
      {{- $_ := set (index $values (first $to)) (last $to) (index $given $from) -}}
      {{- $_ := unset $values $from -}}
    {{- end -}}
  {{- end -}}
  {{- $contexts = append $contexts (dict "Values" $values "Chart" $chart.Chart "Files" $chart.Files "Release" $root.Release "Capabilities" $root.Capabilities "Template" $root.Template) -}}
{{- end -}}
{{- end -}}
{{- $_ := set .out "gateways" $contexts -}}
{{- end -}}
