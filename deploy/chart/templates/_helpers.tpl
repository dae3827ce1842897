{{/* Labels of every object; takes a list of the root and the component. */}}
{{- define "weft.labels" -}}
{{ include "weft.selector" . }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels and annotations of a component's pods; takes a list of the root, the component and its values. Ours count. */}}
{{- define "weft.podMetadata" -}}
labels:
  {{- $own := include "weft.selector" . | fromYaml }}
  {{- merge $own (default dict (index . 2).podLabels) (default dict (index . 0).Values.commonLabels) | toYaml | nindent 2 }}
{{- with (index . 2).podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Labels that select a component's pods. Never to be changed: a selector cannot be. */}}
{{- define "weft.selector" -}}
app.kubernetes.io/name: weft
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* A digest names what it is, whatever the tag says. */}}
{{- define "weft.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{/* Labels of the nodes that agents run on. */}}
{{- define "weft.agentNodeSelector" -}}
{{- merge (dict "kubernetes.io/os" "linux") (default dict .Values.agent.nodeSelector) | toYaml -}}
{{- end }}

{{/* Security of a container that needs no power at all. */}}
{{- define "weft.powerless" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The address to probe where a server listens on this ADDRESS:PORT of the node. */}}
{{- define "weft.probe" -}}
{{- $host := regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
host: {{ ternary "127.0.0.1" $host (has $host (list "0.0.0.0" "::")) | quote }}
port: {{ regexFind "[0-9]+$" . }}
{{- end }}

{{/* True where any part of the cluster speaks IPv6, so that nodes certainly have it. */}}
{{- define "weft.hasIpv6" -}}
{{- $found := eq .Values.outerFamily "ipv6" -}}
{{- range .Values.pools }}{{ if contains ":" .cidr }}{{ $found = true }}{{ end }}{{ end -}}
{{- if $found }}true{{ end -}}
{{- end }}

{{/* Seconds of a time such as 4m. */}}
{{- define "weft.seconds" -}}
{{- $unit := dict "s" 1 "m" 60 "h" 3600 -}}
{{- mul (regexFind "^[0-9]+" .) (get $unit (regexFind "[smh]$" .)) -}}
{{- end }}

{{/* How many controllers. Rendered without a cluster, nothing is known of its nodes. */}}
{{- define "weft.replicas" -}}
{{- $nodes := dig "items" list (lookup "v1" "Node" "" "") -}}
{{- if ne (toString .Values.controller.replicas) "auto" }}{{ .Values.controller.replicas }}
{{- else if eq (len $nodes) 1 }}1
{{- else }}2
{{- end -}}
{{- end }}
