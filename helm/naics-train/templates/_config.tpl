{{/* Settings of naics-job, and what the chart has to know of them. */}}

{{/* The settings that go into the ConfigMap, as JSON: those of values, with folders and port. */}}
{{- define "naics-train.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.s3.bucket -}}
{{- $base := printf "s3://%s" .Values.s3.bucket -}}
{{- with .Values.s3.prefix }}{{ $base = printf "%s/%s" $base . }}{{ end -}}
{{- $dirs := dict "data_dir" (printf "%s/data" $base) "output_dir" (printf "%s/outputs" $base) "checkpoint_dir" (printf "%s/checkpoints" $base) -}}
{{- $config = merge $config (dict "dirs" $dirs) -}}
{{- end -}}
{{- $metrics := dict "enabled" .Values.metrics.enabled "port" (int .Values.metrics.port) -}}
{{- /* A port that is taken would be another one than probes and monitors ask. */ -}}
{{- $own := get $config "metrics" | default dict -}}
{{- $_ := set $config "metrics" (merge $metrics $own (dict "port_taken" "fail")) -}}
{{- toJson $config -}}
{{- end }}

{{/*
The settings as YAML. Not toYaml, which writes 1000000 as 1e+06, and that is no integer to YAML.
*/}}
{{- define "naics-train.configYaml" -}}
{{- include "naics-train.yaml" (include "naics-train.config" . | fromJson) }}
{{ end }}

{{- define "naics-train.yaml" -}}
{{- $lines := list -}}
{{- range $key, $value := . -}}
{{- $name := ternary $key (toJson $key) (regexMatch "^[A-Za-z_][A-Za-z0-9_]*$" $key) -}}
{{- if and (kindIs "map" $value) $value -}}
{{- $lines = append $lines (printf "%s:%s" $name (include "naics-train.yaml" $value | nindent 2)) -}}
{{- else -}}
{{- $lines = append $lines (printf "%s: %s" $name (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end }}

{{/* A setting by its dotted key, overrides first; empty where it is not set. Arguments: root, key. */}}
{{- define "naics-train.setting" -}}
{{- $value := include "naics-train.config" .root | fromJson -}}
{{- range splitList "." .key -}}
{{- $value = ternary (get ($value | default dict) .) "" (kindIs "map" $value) -}}
{{- end -}}
{{- $prefix := printf "%s=" .key -}}
{{- range .root.Values.overrides -}}
{{- if hasPrefix $prefix . }}{{ $value = trimPrefix $prefix . }}{{ end -}}
{{- end -}}
{{- if not (kindIs "invalid" $value) }}{{ $value }}{{ end -}}
{{- end }}

{{/* Processes per pod. */}}
{{- define "naics-train.nproc" -}}
{{- $gpus := int .Values.gpu.count -}}
{{- ternary $gpus (int (default 1 .Values.nprocPerNode)) (gt $gpus 0) -}}
{{- end }}

{{- define "naics-train.gracePeriod" -}}
{{- $grace := include "naics-train.setting" (dict "root" . "key" "launch.grace_s") | default "25" -}}
{{- add (ceil (float64 $grace) | int) 5 -}}
{{- end }}

{{/* Bytes of a quantity such as 16Gi. */}}
{{- define "naics-train.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number $text)) | int64 -}}
{{- end }}
