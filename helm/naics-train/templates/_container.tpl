{{/* The container of a pod of the run. Arguments as in naics-train.podTemplate, and endpoint. */}}

{{- define "naics-train.image" -}}
{{- $image := .Values.image -}}
{{- $tag := default (printf "%s-%s" .Chart.AppVersion $image.flavor) $image.tag -}}
{{- ternary (printf "%s@%s" $image.repository $image.digest) (printf "%s:%s" $image.repository $tag) (ne $image.digest "") -}}
{{- end }}

{{- define "naics-train.container" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
name: {{ .container | default "pytorch" }}
image: {{ include "naics-train.image" $root | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args:
  {{- include "naics-train.args" . | nindent 2 }}
{{ include "naics-train.env" . }}
ports:
  - name: pytorchjob-port
    containerPort: 29400
    protocol: TCP  # part of the key where a server merges ports
  {{- if $values.metrics.enabled }}
  {{- range $rank := until (include "naics-train.nproc" $root | int) }}
  - name: metrics-{{ $rank }}
    containerPort: {{ add $values.metrics.port $rank }}
    protocol: TCP
  {{- end }}
  {{- end }}
{{- include "naics-train.probes" $root }}
resources:
  {{- include "naics-train.resources" $root | trim | nindent 2 }}
securityContext:
  {{- include "naics-train.containerSecurity" $root | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: config
    mountPath: /etc/naics
    readOnly: true
  - name: shm
    mountPath: /dev/shm
  - name: scratch
    mountPath: /scratch
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "naics-train.args" -}}
{{- $values := .root.Values -}}
- launch
- --nnodes
- {{ $values.nodes | quote }}
- --nproc-per-node
- {{ include "naics-train.nproc" .root | quote }}
- --rdzv-endpoint
- {{ include "naics-train.endpoint" . }}
{{- if eq $values.kind "PyTorchJob" }}
- --transient-exit-code
- "203"
{{- end }}
- --
- {{ $values.command }}
- --config
- /etc/naics/config.yaml
- --ckpt-path
- auto
{{- range $values.overrides }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* Environment of what runs with the configuration of the run: its pods and the test. */}}
{{- define "naics-train.env" -}}
env:
  {{- include "naics-train.runEnv" . | nindent 2 }}
  {{- with include "naics-train.s3Env" .root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Environment that tells the run what it is. */}}
{{- define "naics-train.runEnv" -}}
- name: NAICS_JOB_NAME
  value: {{ .run }}
- name: NAICS_JOB_KIND
  value: {{ .root.Values.kind }}
- name: NAICS_JOB_API_VERSION
  value: {{ include "naics-train.apiVersion" .root.Values.kind }}
- name: NAICS_IMAGE
  value: {{ include "naics-train.image" .root | quote }}
- name: NAICS_CPUS  # rounded up, and divided among the processes
  valueFrom:
    resourceFieldRef:
      resource: requests.cpu
      divisor: "1"
- name: NAICS_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: NAICS_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}

{{/* Where S3 is and who asks; none of it where a pod's role and Amazon's endpoint do. */}}
{{- define "naics-train.s3Env" -}}
{{- with .Values.s3.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.s3.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- $secret := .Values.s3.existingSecret }}
{{- range $key := ternary (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" "AWS_SESSION_TOKEN") list (ne $secret "") }}
- name: {{ $key }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
      optional: {{ eq $key "AWS_SESSION_TOKEN" }}
{{- end }}
{{- end }}

{{/* Quantities as text, which a server that merges types asks for. */}}
{{- define "naics-train.resources" -}}
{{- range $part := list "requests" "limits" }}
{{- $quantities := deepCopy (get $.Values.resources $part) -}}
{{- if and (eq $part "limits") (gt (int $.Values.gpu.count) 0) -}}
{{- $_ := set $quantities $.Values.gpu.resource (int $.Values.gpu.count) -}}
{{- end }}
{{ $part }}:
  {{- range $name, $quantity := $quantities }}
  {{ $name }}: {{ toString $quantity | quote }}
  {{- end }}
{{- end }}
{{- end }}
