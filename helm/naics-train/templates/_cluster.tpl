{{/* What only the cluster knows: asked on install and upgrade, and nothing is known offline. */}}

{{- define "naics-train.checkCluster" -}}
{{- if lookup "v1" "ServiceAccount" .Release.Namespace "default" -}}
{{- include "naics-train.checkKnown" . -}}
{{- $secret := .Values.s3.existingSecret -}}
{{- if and $secret (not (lookup "v1" "Secret" .Release.Namespace $secret)) -}}
{{- fail (printf "s3.existingSecret: there is no Secret %s in namespace %s: create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" $secret .Release.Namespace) -}}
{{- end -}}
{{- /* Of this kind only: whoever may not list the others could install nothing. */ -}}
{{- $found := lookup (include "naics-train.apiVersion" .Values.kind) .Values.kind .Release.Namespace "" -}}
{{- include "naics-train.checkLive" (dict "root" . "objects" (dig "items" list $found)) -}}
{{- end -}}
{{- end }}

{{/* Refuse what the cluster has no definition of. */}}
{{- define "naics-train.checkKnown" -}}
{{- $version := include "naics-train.apiVersion" .Values.kind -}}
{{- if not (.Capabilities.APIVersions.Has (printf "%s/%s" $version .Values.kind)) -}}
{{- fail (printf "kind is %s, but this cluster does not know %s of %s: install its operator, or set kind=Job" .Values.kind .Values.kind $version) -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor")) -}}
{{- fail "podMonitor.enabled is true, but this cluster does not know PodMonitor: install the Prometheus operator, or set podMonitor.enabled=false" -}}
{{- end -}}
{{- if and .Values.alerts.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PrometheusRule")) -}}
{{- fail "alerts.enabled is true, but this cluster does not know PrometheusRule: install the Prometheus operator, or set alerts.enabled=false" -}}
{{- end -}}
{{- end }}

{{/* Refuse to start a second run beside one that is not finished. Arguments: root, objects. */}}
{{- define "naics-train.checkLive" -}}
{{- $root := .root -}}
{{- $run := include "naics-train.run" $root -}}
{{- range .objects -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $ours := and (eq (get $labels "app.kubernetes.io/instance") $root.Release.Name) (eq (get $labels "naics.dev/run") .metadata.name) -}}
{{- $other := and $ours (ne .metadata.name $run) (not $root.Values.run.replace) -}}
{{- if and $other (ne (include "naics-train.finished" .) "true") -}}
{{- fail (printf "%s %s of this release is not finished, and these values make another run, %s: wait for its end, or set run.replace=true to stop it with a checkpoint first" .kind .metadata.name $run) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether a run has ended, or was stopped by `job cancel` and is kept suspended. */}}
{{- define "naics-train.finished" -}}
{{- $suspended := or (dig "spec" "suspend" false .) (dig "spec" "runPolicy" "suspend" false .) -}}
{{- $cancelled := hasKey (dig "metadata" "annotations" dict .) "naics.dev/cancelled" -}}
{{- $finished := and $suspended $cancelled -}}
{{- range dig "status" "conditions" list . -}}
{{- if and (has .type (list "Succeeded" "Complete" "Completed" "Failed")) (eq (toString .status) "True") -}}
{{- $finished = true -}}
{{- end -}}
{{- end -}}
{{- $finished -}}
{{- end }}
