{{/* Names that are the chart's own. */}}

{{- define "naics-train.checkReserved" -}}
{{- $labels := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "app.kubernetes.io/component" "helm.sh/chart" "naics.dev/run" "sidecar.istio.io/inject" -}}
{{- range $where := list "commonLabels" "podLabels" "podMonitor.labels" "dashboards.labels" "alerts.labels" -}}
{{- $part := trimSuffix ".labels" $where -}}
{{- range $key, $_ := ternary (get $.Values $where) (get (get $.Values $part) "labels") (eq $part $where) -}}
{{- if has $key $labels -}}
{{- fail (printf "%s: %s is set by the chart: choose another label" $where $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if regexMatch "^(PET_|NAICS_JOB_)" .name -}}
{{- fail (printf "extraEnv: %s is set by the chart or the operator: leave it out; nodes, gpu.count and nprocPerNode size the run" .name) -}}
{{- end -}}
{{- end -}}
{{- $volumes := list "scratch" -}}
{{- range .Values.extraVolumes -}}
{{- $volumes = append $volumes .name -}}
{{- if has .name (list "config" "shm" "scratch") -}}
{{- fail (printf "extraVolumes: the name %s is taken by the chart: choose another" .name) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraVolumeMounts -}}
{{- if has (trimSuffix "/" .mountPath) (list "/etc/naics" "/dev/shm" "/scratch") -}}
{{- fail (printf "extraVolumeMounts: %s is mounted by the chart: choose another mountPath" .mountPath) -}}
{{- end -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "extraVolumeMounts: there is no volume %s: add it to extraVolumes" .name) -}}
{{- end -}}
{{- end -}}
{{- range $where := list "requests" "limits" -}}
{{- if hasKey (get $.Values.resources $where) $.Values.gpu.resource -}}
{{- fail (printf "resources.%s: %s is asked for by gpu.count: set that instead" $where $.Values.gpu.resource) -}}
{{- end -}}
{{- end -}}
{{- end }}
