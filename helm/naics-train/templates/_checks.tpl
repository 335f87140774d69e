{{/* Values that contradict each other, or that would fail only once the pods run. */}}

{{- define "naics-train.check" -}}
{{- include "naics-train.checkSize" . -}}
{{- include "naics-train.checkPlaces" . -}}
{{- include "naics-train.checkReserved" . -}}
{{- include "naics-train.checkKind" . -}}
{{- include "naics-train.checkMonitoring" . -}}
{{- include "naics-train.checkCluster" . -}}
{{- end }}

{{/* Processes, memory and batches. */}}
{{- define "naics-train.checkSize" -}}
{{- $gpus := int .Values.gpu.count -}}
{{- $nproc := include "naics-train.nproc" . | int -}}
{{- if and (eq $gpus 0) (eq .Values.image.flavor "cuda") -}}
{{- fail "gpu.count is 0 with image.flavor=cuda: set gpu.count to 1 or more, or image.flavor=cpu" -}}
{{- end -}}
{{- if and (gt $gpus 0) (eq .Values.image.flavor "cpu") -}}
{{- fail (printf "gpu.count is %d with image.flavor=cpu: set gpu.count=0, or image.flavor=cuda" $gpus) -}}
{{- end -}}
{{- if and (gt $gpus 0) .Values.nprocPerNode -}}
{{- fail "nprocPerNode is set with GPUs, which get one process each: leave nprocPerNode empty, or set gpu.count=0 and image.flavor=cpu" -}}
{{- end -}}
{{- $limit := .Values.resources.limits.memory -}}
{{- if ge (include "naics-train.bytes" .Values.shm.size | int64) (include "naics-train.bytes" $limit | int64) -}}
{{- fail (printf "shm.size is %s, but resources.limits.memory is %s and has to hold it: lower shm.size or raise the limit" .Values.shm.size $limit) -}}
{{- end -}}
{{- $request := dig "memory" $limit .Values.resources.requests -}}
{{- if gt (include "naics-train.bytes" $request | int64) (include "naics-train.bytes" $limit | int64) -}}
{{- fail (printf "resources.requests.memory is %s, above resources.limits.memory %s: lower the request or raise the limit" $request $limit) -}}
{{- end -}}
{{- include "naics-train.checkBatch" (dict "root" . "processes" (mul .Values.nodes $nproc | int)) -}}
{{- end }}

{{/* The trainer's own rule; 32 is its batch size where none is set. Arguments: root, processes. */}}
{{- define "naics-train.checkBatch" -}}
{{- $key := "data_loader.global_batch_size" -}}
{{- $global := include "naics-train.setting" (dict "root" .root "key" $key) | int -}}
{{- $each := include "naics-train.setting" (dict "root" .root "key" "data_loader.batch_size") | default "32" | int -}}
{{- if gt $global 0 -}}
{{- if ne (mod $global .processes) 0 -}}
{{- $below := mul (div $global .processes) .processes | default .processes -}}
{{- fail (printf "config.%s is %d, which the %d processes of nodes and gpu.count or nprocPerNode do not divide: set it to %d or %d" $key $global .processes $below (add $below .processes)) -}}
{{- end -}}
{{- $share := div $global .processes | int -}}
{{- if ne (mod $share (min $each $share)) 0 -}}
{{- fail (printf "config.data_loader.batch_size is %d, which does not divide the %d anchors per process of config.%s=%d: set it to a divisor of %d" $each $share $key $global $share) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Where the settings come from and the results go to. */}}
{{- define "naics-train.checkPlaces" -}}
{{- $folder := include "naics-train.setting" (dict "root" . "key" "dirs.checkpoint_dir") -}}
{{- $lost := or (not (or (contains "://" $folder) (hasPrefix "/" $folder))) (regexMatch "^/scratch(/|$)" $folder) -}}
{{- if $lost -}}
{{- fail (printf "config.dirs.checkpoint_dir is %q, which is lost with the pod: set s3.bucket, or config.dirs.checkpoint_dir to a URL or a folder of extraVolumes" $folder) -}}
{{- end -}}
{{- $bytes := include "naics-train.configYaml" . | len -}}
{{- if gt $bytes 1048576 -}}
{{- fail (printf "config has %d bytes, and a ConfigMap holds 1048576: leave out of config what has its default, and put lists into files of s3.bucket" $bytes) -}}
{{- end -}}
{{- range $key := list "enabled" "port" -}}
{{- if hasKey ($.Values.config.metrics | default dict) $key -}}
{{- fail (printf "config.metrics.%s is set by the chart, for ports and probes: set metrics.%s instead" $key $key) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.serviceAccount.annotations (not .Values.serviceAccount.create) -}}
{{- fail "serviceAccount.annotations is set, but serviceAccount.create is false: set create=true, or annotate that account yourself" -}}
{{- end -}}
{{- if and .Values.scratch.storageClassName (eq .Values.scratch.type "emptyDir") -}}
{{- fail "scratch.storageClassName is set, but scratch.type is emptyDir: set scratch.type=ephemeral" -}}
{{- end -}}
{{- end }}

{{/* What a kind or its queue cannot do. */}}
{{- define "naics-train.checkKind" -}}
{{- $kind := .Values.kind -}}
{{- if and .Values.gang.scheduler (has $kind (list "Job" "JobSet")) -}}
{{- fail (printf "gang.scheduler is set, but a %s has no pod group: use kueue.queue, or kind PyTorchJob or TrainJob" $kind) -}}
{{- end -}}
{{- if and .Values.gang.queue (not (and (eq $kind "PyTorchJob") (eq .Values.gang.scheduler "volcano"))) -}}
{{- fail "gang.queue needs gang.scheduler=volcano and kind PyTorchJob: set both, or leave gang.queue empty" -}}
{{- end -}}
{{- if and .Values.kueue.priorityClass (not .Values.kueue.queue) -}}
{{- fail "kueue.priorityClass is set without kueue.queue: set kueue.queue, or priorityClassName instead" -}}
{{- end -}}
{{- if and .Values.kueue.queue .Values.run.suspend -}}
{{- fail "run.suspend is set with kueue.queue: leave run.suspend=false, Kueue suspends and resumes the run" -}}
{{- end -}}
{{- if and (eq $kind "TrainJob") .Values.run.ttlSecondsAfterFinished -}}
{{- fail "run.ttlSecondsAfterFinished is set, but a TrainJob has none: leave it empty, or choose another kind" -}}
{{- end -}}
{{- end }}

{{/* Metrics and probes. */}}
{{- define "naics-train.checkMonitoring" -}}
{{- $monitor := .Values.podMonitor -}}
{{- if and $monitor.enabled (not .Values.metrics.enabled) -}}
{{- fail "podMonitor.enabled needs metrics.enabled: set metrics.enabled=true" -}}
{{- end -}}
{{- if gt (include "naics-train.seconds" $monitor.scrapeTimeout | int) (include "naics-train.seconds" $monitor.interval | int) -}}
{{- fail (printf "podMonitor.scrapeTimeout is %s, above podMonitor.interval %s: lower scrapeTimeout" $monitor.scrapeTimeout $monitor.interval) -}}
{{- end -}}
{{- if gt (int .Values.probes.timeoutSeconds) (int .Values.probes.periodSeconds) -}}
{{- fail (printf "probes.timeoutSeconds is %d, above probes.periodSeconds %d: lower timeoutSeconds" (int .Values.probes.timeoutSeconds) (int .Values.probes.periodSeconds)) -}}
{{- end -}}
{{- end }}

{{- define "naics-train.seconds" -}}
{{- mul (regexFind "^[0-9]+" . | int) (ternary 60 1 (hasSuffix "m" .)) -}}
{{- end }}
