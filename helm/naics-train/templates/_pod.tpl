{{/* The run's pod, the same for every kind. Arguments: root, run, container, restart. */}}

{{- define "naics-train.podTemplate" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
metadata:
  labels:
    {{- include "naics-train.podLabels" . | nindent 4 }}
  {{- $annotations := merge (dict) $values.podAnnotations $values.commonAnnotations }}
  annotations:
    {{- toYaml (set $annotations "sidecar.istio.io/inject" (toString $values.istioInject)) | nindent 4 }}
spec:
  {{- with .subdomain }}
  subdomain: {{ . }}
  {{- end }}
  {{- with .restart }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- include "naics-train.podBase" $root | nindent 2 }}
  automountServiceAccountToken: {{ $values.events.enabled }}
  terminationGracePeriodSeconds: {{ include "naics-train.gracePeriod" $root }}
  dnsPolicy: {{ $values.dnsPolicy }}
  {{- with include "naics-train.scheduling" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - {{ include "naics-train.container" . | nindent 6 | trim }}
  volumes:
    - name: config
      configMap:
        name: {{ .run }}
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: {{ $values.shm.size }}
    - name: scratch
      {{- include "naics-train.scratch" $root | nindent 6 }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* What every pod has, that of the test and of hooks too: user, profile, pull secrets. */}}
{{- define "naics-train.podBase" -}}
serviceAccountName: {{ .account | default (include "naics-train.serviceAccountName" .) }}
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
  {{- if hasKey $.Values.podSecurity $key }}  {{- /* helm drops a key that is null */}}
  {{ $key }}: {{ int (get $.Values.podSecurity $key) }}
  {{- end }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "naics-train.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "naics-train.scheduling" -}}
{{- $values := .root.Values -}}
{{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" }}
{{- with get $values $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml . | nindent 4 | trim }}
    {{- if not (hasKey . "labelSelector") }}
    labelSelector:
      matchLabels:
        naics.dev/run: {{ $.run }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "naics-train.scratch" -}}
{{- if eq .Values.scratch.type "emptyDir" -}}
emptyDir:
  sizeLimit: {{ .Values.scratch.size }}
{{- else -}}
ephemeral:
  volumeClaimTemplate:
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .Values.scratch.storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .Values.scratch.size }}
{{- end }}
{{- end }}
