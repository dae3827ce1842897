{{/* What the schema cannot say: values that do not go together. All problems are told at once. */}}
{{- define "weft.check" -}}
{{- $problems := list -}}
{{- range $at, $pool := .Values.pools -}}
{{- $network := regexFind "[0-9]+$" $pool.cidr | int -}}
{{- $most := ternary 128 32 (contains ":" $pool.cidr) -}}
{{- $prefix := int $pool.nodePrefix -}}
{{- if lt $prefix $network -}}
{{- $problems = append $problems (printf "pools[%d].nodePrefix: a node's share of prefix length %d does not fit into %s; give %d to %d" $at $prefix $pool.cidr $network (sub $most 2)) -}}
{{- else if gt $prefix (int (sub $most 2)) -}}
{{- $problems = append $problems (printf "pools[%d].nodePrefix: a node's share of %s with prefix length %d has no room for pods; give %d to %d" $at $pool.cidr $prefix $network (sub $most 2)) -}}
{{- end -}}
{{- if gt $network $most -}}
{{- $problems = append $problems (printf "pools[%d].cidr: %s has a prefix length beyond %d" $at $pool.cidr $most) -}}
{{- end -}}
{{- end -}}
{{- if eq (regexFind "[0-9]+$" .Values.controller.httpListen) (toString .Values.controller.listenPort) -}}
{{- $problems = append $problems (printf "controller.httpListen: its port is controller.listenPort (%v); give them different ones" .Values.controller.listenPort) -}}
{{- end -}}
{{- if eq .Values.cni.binDir .Values.cni.confDir -}}
{{- $problems = append $problems (printf "cni.confDir: is cni.binDir (%s); plugins and configurations have directories of their own" .Values.cni.binDir) -}}
{{- end -}}
{{- with $problems -}}
{{- fail (printf "values that do not go together:\n  - %s" (join "\n  - " .)) -}}
{{- end -}}
{{- end }}
