{{/* What differs between the kinds: API version, host names, and the object's specification. */}}

{{- define "naics-train.apiVersion" -}}
{{- get (dict "PyTorchJob" "kubeflow.org/v1" "TrainJob" "trainer.kubeflow.org/v1alpha1" "JobSet" "jobset.x-k8s.io/v1alpha2" "Job" "batch/v1") . -}}
{{- end }}

{{/* Host name of a pod of the run as the others see it. Arguments: root, run, node. */}}
{{- define "naics-train.host" -}}
{{- $formats := dict "PyTorchJob" "%[1]s-worker-%[2]d" "TrainJob" "%[1]s-node-0-%[2]d.%[1]s" "JobSet" "%[1]s-worker-0-%[2]d.%[1]s" "Job" "%[1]s-%[2]d.%[1]s" -}}
{{- printf (get $formats .root.Values.kind) .run (int .node) -}}
{{- end }}

{{- define "naics-train.endpoint" -}}
{{- include "naics-train.host" (dict "root" .root "run" .run "node" 0) }}:29400
{{- end }}

{{/* The run's object, of the kind of the values. */}}
{{- define "naics-train.object" }}
{{- $run := include "naics-train.run" . }}
apiVersion: {{ include "naics-train.apiVersion" .Values.kind }}
kind: {{ .Values.kind }}
metadata:
  {{- include "naics-train.metadata" (dict "root" . "name" $run "run" $run "labels" (include "naics-train.kueueLabels" . | fromYaml)) | nindent 2 }}
spec:
  {{- include "naics-train.spec" (dict "root" . "run" $run) | nindent 2 }}
{{- end }}

{{/*
Specification of the run's object. Arguments: root, run, and hashed where it is made for the name of
the run, which leaves out what may be changed in place.
*/}}
{{- define "naics-train.spec" -}}
{{- $suspend := and .root.Values.run.suspend (not .hashed) -}}
{{- $kind := .root.Values.kind -}}
{{- if eq $kind "PyTorchJob" -}}
{{- include "naics-train.pytorchJobSpec" (merge (dict "suspend" $suspend) .) -}}
{{- else if eq $kind "JobSet" -}}
{{- include "naics-train.jobSetSpec" (merge (dict "suspend" $suspend) .) -}}
{{- else if eq $kind "Job" -}}
{{- include "naics-train.jobSpec" (merge (dict "suspend" $suspend) .) -}}
{{- else -}}
{{- include "naics-train.trainJobSpec" (merge (dict "suspend" $suspend) .) -}}
{{- if .hashed }}{{ include "naics-train.runtimeSpec" . }}{{ end -}}
{{- end -}}
{{- end }}

{{/* A Job of one pod per node; on its own, in a JobSet and in a TrainJob's runtime. */}}
{{- define "naics-train.indexedJob" -}}
{{- $run := .root.Values.run -}}
completionMode: Indexed
completions: {{ .root.Values.nodes }}
parallelism: {{ .root.Values.nodes }}
backoffLimit: {{ .backoffLimit }}
{{- with $run.activeDeadlineSeconds }}
{{- if not $.deadlineElsewhere }}
activeDeadlineSeconds: {{ int . }}
{{- end }}
{{- end }}
podFailurePolicy:
  rules:  # the first that fits counts
    - action: FailJob  # exit codes of the contract that no other try changes
      onExitCodes:
        containerName: {{ .container | default "pytorch" }}
        operator: In
        values: [65, 70, 74, 78]
      onPodConditions: []  # Kubernetes up to 1.28 asks for it
    - action: Ignore  # stopped from outside, and saved
      onExitCodes:
        containerName: {{ .container | default "pytorch" }}
        operator: In
        values: [143]
      onPodConditions: []
    - action: Ignore  # drained, preempted, evicted
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
template:
  {{- include "naics-train.podTemplate" (merge (dict "restart" "Never") .) | nindent 2 }}
{{- end }}

{{/* Rules of a JobSet: what the Job gave up for good ends the run, the rest restarts all of it. */}}
{{- define "naics-train.jobSetFailurePolicy" -}}
maxRestarts: {{ .Values.run.maxRestarts }}
rules:
  - name: permanent
    action: FailJobSet
    onJobFailureReasons: [PodFailurePolicy]
{{- end }}

{{/* How kubectl finds the first pod, whose name Jobs end with a random part. */}}
{{- define "naics-train.firstPod" -}}
{{- if eq .root.Values.kind "PyTorchJob" -}}
pod/{{ .run }}-worker-0
{{- else -}}
$(kubectl get pod --namespace {{ .root.Release.Namespace }} --output name --selector naics.dev/run={{ .run }},batch.kubernetes.io/job-completion-index=0)
{{- end -}}
{{- end }}

{{/* Kinds that stay behind helm uninstall. */}}
{{- define "naics-train.keptKinds" -}}
{{- $kinds := list (lower .Values.kind) "configmap" -}}
{{- if eq .Values.kind "TrainJob" }}{{ $kinds = append $kinds "trainingruntime" }}{{ end -}}
{{- if eq .Values.kind "Job" }}{{ $kinds = append $kinds "service" }}{{ end -}}
{{- if .Values.serviceAccount.create }}{{ $kinds = append $kinds "serviceaccount" }}{{ end -}}
{{- if .Values.events.enabled }}{{ $kinds = concat $kinds (list "role" "rolebinding") }}{{ end -}}
{{- if .Values.podMonitor.enabled }}{{ $kinds = append $kinds "podmonitor" }}{{ end -}}
{{- if .Values.networkPolicy.enabled }}{{ $kinds = append $kinds "networkpolicy" }}{{ end -}}
{{- join "," $kinds -}}
{{- end }}
